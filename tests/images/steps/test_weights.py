from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from images.errors import PlanRefused
from images.recipe import Recipe
from images.steps.command import Action, Command, Materials, Upload
from images.steps.shell import WEIGHTS
from images.steps.weights import weights

CONTENT = bytes(range(256)) * 400
SHA = hashlib.sha256(CONTENT).hexdigest()
TOKEN = b"hf_canary"
Lines = Callable[[Any], list[str]]


def file(**changes: Any) -> dict[str, Any]:
    return {"name": "w.bin", "url": "https://example.org/w", "sha256": SHA, "bytes": len(CONTENT), **changes}


def made(recipe: Recipe, materials: Materials) -> list[Action]:
    return list(weights(recipe, materials))


def test_local_file(make_recipe: Callable[..., Recipe], materials: Materials, lines: Lines) -> None:
    """A file of this machine is uploaded under another name until its checksum is right."""
    recipe = make_recipe("rehearsal")
    assert recipe.weights is not None
    digest = recipe.weights.files[0].sha256
    target = f"{WEIGHTS}/weights.npz"
    wrong = f"weights weights.npz: the sha256 is not {digest}; the recipe or the source is wrong"
    assert lines(made(recipe, materials)) == [
        f"install -d -m 0755 {WEIGHTS}",
        "install -D -m 0644 /dev/stdin /usr/share/goldenfleet/weights.json",
        f"upload {target}.part",
        (
            f"test -f {target} || {{ echo '{digest}  {target}.part' | sha256sum --check --status"
            f" && chmod 0644 {target}.part && mv {target}.part {target}; }}"
            f" || {{ rm -f {target}.part; echo '{wrong}' >&2; exit 1; }}"
        ),
    ]
    upload = made(recipe, materials)[2]
    assert isinstance(upload, Upload)
    assert upload.source.name == "weights.npz"
    assert upload.source.is_file()


@pytest.mark.parametrize(
    ("given", "materials_", "config"),
    [
        ({"files": [file()]}, {}, b'url = "https://example.org/w"\n'),
        (
            {"files": [file(url="s3://bucket/w")]},
            {"weight_urls": {"w.bin": b'https://b.s3/w?sig="x\\y'}},
            b'url = "https://b.s3/w?sig=\\"x\\\\y"\n',
        ),
        (
            {"hub": "a/b", "revision": "c" * 40, "files": [file(url=None)]},
            {"hub_token": TOKEN},
            b'url = "https://huggingface.co/a/b/resolve/' + b"c" * 40 + b'/w.bin"\n'
            b'header = "Authorization: Bearer hf_canary"\n',
        ),
        (
            {"hub": "a/b", "revision": "c" * 40, "files": [file(url=None)]},
            {},
            b'url = "https://huggingface.co/a/b/resolve/' + b"c" * 40 + b'/w.bin"\n',
        ),
    ],
)
def test_sources(
    make_recipe: Callable[..., Recipe],
    materials: Materials,
    given: dict[str, Any],
    materials_: dict[str, Any],
    config: bytes,
) -> None:
    """Signed URLs and tokens go to curl on stdin, never on its command line or into the record."""
    given = {**given, "files": [{key: v for key, v in one.items() if v} for one in given["files"]]}
    recipe = make_recipe("rehearsal", weights=given)
    full = dataclasses.replace(materials, **materials_)
    actions = [action for action in made(recipe, full) if isinstance(action, Command)]
    fetch = next(action for action in actions if "curl" in action.line)
    assert (fetch.stdin, fetch.secret) == (config, True)
    record = next(action.stdin or b"" for action in actions if "weights.json" in action.line)
    for secret in (TOKEN, b"sig="):
        assert secret not in record
        assert not any(secret.decode() in action.line for action in actions)
    assert json.loads(record)["files"][0]["sha256"] == SHA


@pytest.mark.parametrize(
    ("given", "materials_", "said"),
    [
        ({"files": [file(url="s3://b/w")]}, {}, "has not been signed"),
        ({"hub": "a/b", "revision": "c" * 40, "files": [{"name": "w", "bytes": 1}]}, {}, "has no sha256"),
        ({"files": [file()], "strategy": "auto"}, {"strategy": None}, "no plan has picked one"),
        ({"files": [file()]}, {"strategy": "baked-volume"}, "attached no second volume"),
    ],
)
def test_refusals(
    make_recipe: Callable[..., Recipe],
    materials: Materials,
    given: dict[str, Any],
    materials_: dict[str, Any],
    said: str,
) -> None:
    """Nothing unchecked, unsigned or undecided is fetched."""
    with pytest.raises(PlanRefused, match=said):
        made(make_recipe("rehearsal", weights=given), dataclasses.replace(materials, **materials_))


def test_unbaked(make_recipe: Callable[..., Recipe], materials: Materials, lines: Lines) -> None:
    """Weights that nodes fetch from S3 leave only their record on the image."""
    recipe = make_recipe("rehearsal", weights={"files": [file(url="s3://b/w")]})
    found = lines(made(recipe, dataclasses.replace(materials, strategy="s3-nvme")))
    assert [line.rpartition(" ")[2] for line in found] == [WEIGHTS, "/usr/share/goldenfleet/weights.json"]


def volume_lines(make_recipe: Callable[..., Recipe], materials: Materials, lines: Lines) -> list[str]:
    given = dataclasses.replace(materials, strategy="baked-volume", weights_device="/dev/disk/by-id/nvme-x")
    return lines(made(make_recipe("rehearsal"), given))


def test_volume(make_recipe: Callable[..., Recipe], materials: Materials, lines: Lines) -> None:
    """A second volume is waited for, made, mounted, entered by its label, and read-only in the end."""
    found = volume_lines(make_recipe, materials, lines)
    waited, *_ = (number for number, line in enumerate(found) if "test -b /dev/disk/by-id/nvme-x" in line)
    assert found[waited + 1 : waited + 4] == [
        (
            'test "$(blkid --match-tag LABEL --output value /dev/disk/by-id/nvme-x)" = gf-weights'
            " || mkfs.ext4 -q -F -m 0 -L gf-weights /dev/disk/by-id/nvme-x"
        ),
        (
            f"if mountpoint --quiet {WEIGHTS}; then mount -o remount,rw {WEIGHTS};"
            f" else mount /dev/disk/by-id/nvme-x {WEIGHTS}; fi"
        ),
        (
            "grep --quiet gf-weights /etc/fstab || echo 'LABEL=gf-weights /var/lib/goldenfleet/weights ext4"
            " ro,noatime,nofail,x-systemd.device-timeout=60 0 0' >> /etc/fstab"
        ),
    ]
    assert found.index(f"upload {WEIGHTS}/weights.npz.part") > waited + 3
    assert found[-1] == f"sync && mount -o remount,ro {WEIGHTS}"


def test_a_made_volume_is_kept(
    make_recipe: Callable[..., Recipe], materials: Materials, lines: Lines, tmp_path: Path
) -> None:
    """A run that goes on does not make the file system again: what was fetched is still there."""
    disk = tmp_path / "disk"
    with disk.open("wb") as sparse:
        sparse.truncate(64 * 1024 * 1024)
    line = next(each for each in volume_lines(make_recipe, materials, lines) if "mkfs" in each)
    here = line.replace("/dev/disk/by-id/nvme-x", str(disk))
    seen = []
    for _ in range(2):
        subprocess.run(["sh", "-c", here], check=True, env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"})
        told = subprocess.run(
            ["/sbin/blkid", "--probe", "--match-tag", "UUID", str(disk)], check=True, capture_output=True
        )
        seen.append(told.stdout)
    assert seen[0] == seen[1] != b""


def test_a_device_that_never_comes_is_told(
    make_recipe: Callable[..., Recipe], materials: Materials, lines: Lines, tmp_path: Path
) -> None:
    """A volume that does not come up ends the bake with its name."""
    (tmp_path / "sleep").write_text("#!/bin/sh\n")
    (tmp_path / "sleep").chmod(0o755)
    line = next(each for each in volume_lines(make_recipe, materials, lines) if "test -b" in each)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    failed = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False, env=env)
    assert failed.returncode == 1
    assert "no device /dev/disk/by-id/nvme-x" in failed.stderr


class _Source(BaseHTTPRequestHandler):
    cut_after: list[int] = []  # noqa: RUF012  one server, one test
    ranges: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        asked = self.headers.get("range", "bytes=0-")
        type(self).ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        rest = CONTENT[start:]
        self.send_response(206 if "range" in self.headers else 200)
        if "range" in self.headers:
            self.send_header("content-range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("content-length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: type(self).cut_after.pop(0)] if type(self).cut_after else rest)
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def source() -> Iterator[str]:
    _Source.cut_after, _Source.ranges = [], []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Source)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/w"
    server.shutdown()
    thread.join()
    server.server_close()


def commands(
    make_recipe: Callable[..., Recipe], materials: Materials, url: str, folder: Path, **changes: Any
) -> tuple[Command, Command]:
    """Fetch and check, for this machine."""
    recipe = make_recipe("rehearsal", weights={"files": [file(**changes)]})
    given = dataclasses.replace(materials, weight_urls={"w.bin": url.encode()})
    fetch, check = (action for action in made(recipe, given)[2:] if isinstance(action, Command))
    moved = [dataclasses.replace(one, line=one.line.replace(WEIGHTS, str(folder))) for one in (fetch, check)]
    return moved[0], moved[1]


def run(command: Command) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["sh", "-c", command.line], input=command.stdin or b"", capture_output=True, check=False
    )


def test_resumed(
    make_recipe: Callable[..., Recipe], materials: Materials, source: str, tmp_path: Path
) -> None:
    """A fetch that was cut goes on where it was cut, and once done is not repeated."""
    fetch, check = commands(make_recipe, materials, source, tmp_path)
    _Source.cut_after = [30_000]
    assert run(fetch).returncode != 0
    assert run(fetch).returncode == 0
    assert _Source.ranges == ["bytes=0-", "bytes=30000-"]
    assert run(check).returncode == 0
    assert (tmp_path / "w.bin").read_bytes() == CONTENT
    assert not (tmp_path / "w.bin.part").exists()
    assert run(fetch).returncode == run(check).returncode == 0
    assert len(_Source.ranges) == 2


def test_wrong_checksum(
    make_recipe: Callable[..., Recipe], materials: Materials, source: str, tmp_path: Path
) -> None:
    """Weights with another checksum fail with the reason, and leave nothing behind to be resumed."""
    fetch, check = commands(make_recipe, materials, source, tmp_path, sha256="0" * 64)
    assert run(fetch).returncode == 0
    failed = run(check)
    assert failed.returncode == 1
    assert b"weights w.bin: the sha256 is not 000" in failed.stderr
    assert list(tmp_path.iterdir()) == []
