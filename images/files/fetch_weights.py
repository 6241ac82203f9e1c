"""Fetch weights from S3 in parallel ranges, and check them. Runs on a node, in the server's container."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

# One S3 connection carries up to 5 Gbit/s, in practice nearer 0.7: 32 of them fill a 25 Gbit/s card.
CONNECTIONS = 32
RANGE_BYTES = 16 * 1024 * 1024
_CHUNK = 1024 * 1024


def main(record: str, folder: str) -> int:
    files = json.loads(Path(record).read_text(encoding="utf-8"))["files"]
    client = boto3.client(
        "s3", config=Config(max_pool_connections=CONNECTIONS, retries={"mode": "standard", "max_attempts": 8})
    )
    for file in files:
        problem = fetch(client, file, Path(folder))
        if problem:
            sys.stderr.write(f"goldenfleet-weights: {problem}\n")
            return 1
    return 0


def fetch(client: Any, file: dict[str, Any], folder: Path) -> str | None:
    """Why the file is not there in the end; None when it is. What is there already is kept."""
    target = folder / file["name"]
    if target.is_file() and target.stat().st_size == file["bytes"]:
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    _download(client, file, part)
    actual = _sha256(part)
    if actual != file["sha256"]:
        part.unlink()
        return f"{file['url']} has sha256 {actual}, not {file['sha256']}: publish the weights again"
    part.rename(target)
    return None


def ranges(size: int) -> Iterator[tuple[int, int]]:
    """First and last byte of each range."""
    for start in range(0, size, RANGE_BYTES):
        yield start, min(start + RANGE_BYTES, size) - 1


def _download(client: Any, file: dict[str, Any], part: Path) -> None:
    url = urlsplit(file["url"])
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.truncate(descriptor, file["bytes"])

        def fetch_range(bounds: tuple[int, int]) -> None:
            first, last = bounds
            answer = client.get_object(
                Bucket=url.netloc, Key=url.path.lstrip("/"), Range=f"bytes={first}-{last}"
            )
            _write(descriptor, answer["Body"], first)

        with concurrent.futures.ThreadPoolExecutor(CONNECTIONS) as pool:
            for done in [pool.submit(fetch_range, bounds) for bounds in ranges(file["bytes"])]:
                done.result()
    finally:
        os.close(descriptor)


def _write(descriptor: int, body: Any, at: int) -> None:
    for chunk in body.iter_chunks(_CHUNK):
        while chunk:
            written = os.pwrite(descriptor, chunk, at)
            at += written
            chunk = chunk[written:]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], sys.argv[2]))
