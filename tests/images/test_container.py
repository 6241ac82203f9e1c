from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from images.container import IMAGE, ensure, label_of, pack, sha256_of, sources
from images.container_needs import needed, useful
from images.errors import BuilderError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "opt").mkdir(parents=True)
    (root / "opt/run").write_text("#!/bin/sh\n")
    (root / "opt/run").chmod(0o750)
    (root / "tmp").mkdir()
    return root


def blobs(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar.getmembers()}  # type: ignore[union-attr]


def test_reproducible(tree: Path, tmp_path: Path) -> None:
    """The same files make the same archive, whenever and by whomever they were written."""
    pack(tree, tmp_path / "one.tar")
    os.utime(tree / "opt/run", (1, 1))
    pack(tree, tmp_path / "two.tar")
    assert sha256_of(tmp_path / "one.tar") == sha256_of(tmp_path / "two.tar")
    (tree / "opt/run").write_text("#!/bin/sh\ntrue\n")
    pack(tree, tmp_path / "three.tar")
    assert sha256_of(tmp_path / "one.tar") != sha256_of(tmp_path / "three.tar")


def test_both_formats(tree: Path, tmp_path: Path) -> None:
    """`docker load` of any age finds the image: by the old manifest.json, or by the OCI index."""
    pack(tree, tmp_path / "c.tar")
    parts = blobs(tmp_path / "c.tar")
    (saved,) = json.loads(parts["manifest.json"])
    assert saved["RepoTags"] == [IMAGE]
    (listed,) = json.loads(parts["index.json"])["manifests"]
    manifest = json.loads(parts[f"blobs/sha256/{listed['digest'].removeprefix('sha256:')}"])
    assert saved["Config"].endswith(manifest["config"]["digest"].removeprefix("sha256:"))
    assert saved["Layers"][0].endswith(manifest["layers"][0]["digest"].removeprefix("sha256:"))
    for name, content in parts.items():
        if name.startswith("blobs/"):
            assert hashlib.sha256(content).hexdigest() == name.rpartition("/")[2]


def test_layer(tree: Path, tmp_path: Path) -> None:
    """Files belong to root, and anybody may read them: the server runs as nobody."""
    pack(tree, tmp_path / "c.tar")
    parts = blobs(tmp_path / "c.tar")
    layer = parts[json.loads(parts["manifest.json"])[0]["Layers"][0]]
    config = json.loads(parts[json.loads(parts["manifest.json"])[0]["Config"]])
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        members = {member.name: member for member in tar.getmembers()}
    assert (members["opt/run"].uid, members["opt/run"].mode & 0o777) == (0, 0o754)
    assert members["tmp"].mode & 0o7777 == 0o1777
    plain = hashlib.sha256(gzip.decompress(layer)).hexdigest()
    assert config["rootfs"]["diff_ids"] == [f"sha256:{plain}"]


def test_label(tree: Path, tmp_path: Path) -> None:
    """An archive tells what it was made of; one that does not, or is none, is taken for stale."""
    pack(tree, tmp_path / "c.tar", "made-of-this")
    assert label_of(tmp_path / "c.tar") == "made-of-this"
    (tmp_path / "broken.tar").write_bytes((tmp_path / "c.tar").read_bytes()[:700])
    assert label_of(tmp_path / "broken.tar") is None
    assert label_of(tmp_path / "none.tar") is None


def test_current_archive_is_kept(tree: Path, tmp_path: Path) -> None:
    """What was made of these very sources is not made again."""
    pack(tree, tmp_path / "c.tar", sources())
    before = (tmp_path / "c.tar").stat()
    assert not ensure(tmp_path / "c.tar")
    assert (tmp_path / "c.tar").stat().st_mtime_ns == before.st_mtime_ns


def test_sources_are_those_of_the_server(tmp_path: Path) -> None:
    """Another line in the server makes archives stale; a file that is not put into them does not."""
    (tmp_path / "server/engine").mkdir(parents=True)
    (tmp_path / "server/app.py").write_text("a = 1\n")
    first = sources(tmp_path)
    (tmp_path / "server/engine/corpus.md").write_text("not in the container")
    assert sources(tmp_path) == first
    (tmp_path / "server/app.py").write_text("a = 2\n")
    assert sources(tmp_path) != first


def test_needs() -> None:
    """The container has what the server imports, and nothing of the fleet, of images or of tests."""
    names = {found.metadata["Name"].lower() for found in needed("goldenfleet[server]")}
    assert {"uvloop", "httptools", "numpy", "boto3", "botocore", "starlette", "click"} <= names
    assert not {"pulumi", "fabric", "pytest", "moto", "goldenfleet", "paramiko"} & names


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("numpy/__init__.py", True),
        ("numpy/tests/test_a.py", False),
        ("numpy/__pycache__/a.pyc", False),
        ("uvloop/loop.pyx", False),
        ("uvloop/loop.cpython-311-x86_64-linux-gnu.so", True),
        ("botocore/data/ssm/2014-11-06/service-2.json.gz", True),
        ("botocore/data/braket/2019-09-01/service-2.json.gz", False),
        ("botocore/data/endpoints.json", True),
        ("../../../bin/uvicorn", False),
    ],
)
def test_useful(path: str, wanted: bool) -> None:
    """Only what runs goes into the container."""
    assert useful(path) == wanted


def test_missing_archive(tmp_path: Path) -> None:
    """An archive that was not made yet is an error that says how to make it."""
    with pytest.raises(BuilderError) as caught:
        sha256_of(tmp_path / "none.tar")
    assert "make-container" in caught.value.hint
