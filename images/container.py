"""Our server's container, made on this machine without root or Docker: `scripts/make-container`.

Debian's Python and the libraries it needs, the installed distributions of goldenfleet[server] and our own
`server`: no shell, no package manager. Others' Python is there compiled only: half as many files, and loading
a container costs by the file. The archive is the same byte for byte as long as its parts are, and it can be
read both as `docker save` writes it and as an OCI layout.

Its label says what it was made of; a bake makes the archive anew when that is no longer what is here.
"""

from __future__ import annotations

import compileall
import fcntl
import gzip
import hashlib
import io
import json
import os
import py_compile
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import click

from images.container_needs import needed, useful
from images.errors import BuilderError, ImagesError
from images.machines.tools import scratch

IMAGE = "goldenfleet-server:local"
SOURCES_LABEL = "goldenfleet.sources"
_DISTRIBUTION = "goldenfleet[server]"
_CHECKOUT = Path(__file__).parent.parent
_HOME = "opt/goldenfleet"
_PYTHON = (3, 11)
_DEBS = (
    "ca-certificates",
    "libbz2-1.0",
    "libc6",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libssl3",
    "libstdc++6",
    "libuuid1",
    "python3.11-minimal",
    "zlib1g",
)
_LEFT_OUT = (
    *("usr/share/doc", "usr/share/man", "usr/share/lintian", "usr/share/locale", "usr/share/i18n"),
    *("usr/share/ca-certificates", "usr/lib/x86_64-linux-gnu/gconv", "usr/lib/python3.11/test"),
)
_ENV = (
    "PATH=/usr/local/bin:/usr/bin",
    f"PYTHONPATH=/{_HOME}:/{_HOME}/site",
    "PYTHONDONTWRITEBYTECODE=1",
    "PYTHONUNBUFFERED=1",
    "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
)
_BOOT = "#!/usr/bin/python3.11\nfrom server.boot import main\n\nmain()\n"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--out", type=click.Path(path_type=Path), default=_CHECKOUT / "build/goldenfleet-server.tar")
@click.option("--anew", is_flag=True, help="Also if the archive is of what is here.")
def main(out: Path, anew: bool) -> None:
    """Make the container archive that the recipes name, unless it is there, and print its sha256."""
    try:
        if anew:
            build(out)
        elif not ensure(out):
            click.echo(f"{out} is of these sources already", err=True)
        click.echo(sha256_of(out))
    except ImagesError as exc:
        click.echo(str(exc), err=True)
        raise SystemExit(1) from exc


def ensure(out: Path) -> bool:
    """Make the archive unless it is of what is here; whether it was made. Raises BuilderError."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.with_name(out.name + ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if label_of(out) == sources():
            return False
        build(out)
        return True


def sources(checkout: Path = _CHECKOUT) -> str:
    """sha256 of what an archive made here would hold, save the versions of Debian's packages."""
    found = hashlib.sha256(Path(__file__).read_bytes())
    for path in _own(checkout):
        found.update(f"{path.relative_to(checkout)} {sha256_of(path)}\n".encode())
    for here in needed(_DISTRIBUTION):
        found.update(f"{here.metadata['Name']} {here.version}\n".encode())
    return found.hexdigest()


def label_of(archive: Path) -> str | None:
    """The `sources` that an archive was made of; None if it does not say, or is no archive of ours."""
    try:
        with tarfile.open(archive) as tar:
            (saved,) = json.loads(_content(tar, "manifest.json"))
            labels = json.loads(_content(tar, saved["Config"]))["config"]["Labels"]
            return str(labels[SOURCES_LABEL])
    except (OSError, tarfile.TarError, ValueError, KeyError, TypeError):
        return None


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    if file is None:
        raise KeyError(name)
    return file.read()


def build(out: Path) -> str:
    """Write the archive, and give its sha256. Raises BuilderError."""
    if sys.version_info[:2] != _PYTHON:
        raise BuilderError("the container is made by Python 3.11, Debian 12's", "make .venv with Python 3.11")
    made_of = sources()
    with scratch("container") as folder:
        tree = folder / "root"
        _base(tree, folder / "debs")
        _code(tree)
        _compile(tree)
        pack(tree, out, made_of)
    return sha256_of(out)


def sha256_of(path: Path) -> str:
    """Raises BuilderError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise BuilderError(
            f"cannot read the container archive {path}: {exc.strerror}", "run scripts/make-container"
        ) from exc


def _base(tree: Path, debs: Path) -> None:
    """Debian packages, unpacked and not installed: nothing of theirs runs here."""
    debs.mkdir()
    tree.mkdir()
    _run(["apt-get", "--quiet", "--quiet", "download", *_DEBS], debs)
    for deb in sorted(debs.glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(deb), str(tree)], debs)
    certificates = sorted((tree / "usr/share/ca-certificates").rglob("*.crt"))
    _write(tree / "etc/ssl/certs/ca-certificates.crt", b"".join(path.read_bytes() for path in certificates))
    _write(tree / "etc/passwd", b"root:x:0:0:root:/:/\nnobody:x:65534:65534:nobody:/:/\n")
    _write(tree / "etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n")
    (tree / "tmp").mkdir()
    for unused in _LEFT_OUT:
        shutil.rmtree(tree / unused, ignore_errors=True)


def _code(tree: Path) -> None:
    home = tree / _HOME
    for source, relative in _installed():
        _write(home / "site" / relative, source.read_bytes())
    for source in _own(_CHECKOUT):
        _write(home / source.relative_to(_CHECKOUT), source.read_bytes())
    # Weights come with the image, not with the container: they are mounted here.
    _write(home / "server/engine/weights.npz", b"")
    _write(tree / "usr/local/bin/goldenfleet-boot", _BOOT.encode(), 0o755)


def _own(checkout: Path) -> list[Path]:
    found = (checkout / "server").rglob("*")
    return sorted(path for path in found if path.suffix in (".py", ".json") and path.is_file())


def _installed() -> Iterator[tuple[Path, str]]:
    """Files of every distribution that the server needs, with their paths in site-packages."""
    for found in needed(_DISTRIBUTION):
        for file in found.files or ():
            relative = file.as_posix()
            source = Path(str(found.locate_file(file)))
            if useful(relative) and source.is_file():
                yield source, relative


def _compile(tree: Path) -> None:
    """The container is read-only: what is not compiled here is compiled anew at every start."""
    _compile_folder(tree, f"{_HOME}/server", legacy=False)
    for folder in ("usr/lib/python3.11", f"{_HOME}/site"):
        _compile_folder(tree, folder, legacy=True)
        for source in (tree / folder).rglob("*.py"):
            # Templates that are no Python do not compile, and stay.
            if source.with_suffix(".pyc").is_file():
                source.unlink()


def _compile_folder(tree: Path, folder: str, *, legacy: bool) -> None:
    """`legacy` puts the compiled file where Python finds it without its source."""
    compileall.compile_dir(
        tree / folder,
        quiet=2,
        legacy=legacy,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        stripdir=str(tree),
        prependdir="/",
        workers=1,
    )


def pack(tree: Path, out: Path, made_of: str = "") -> None:
    """The archive of a container whose only layer is `tree`: the same for the same files."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    with scratch("layer") as folder:
        layer = folder / "layer.tar"
        with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as tar:
            for path in sorted(tree.rglob("*")):
                tar.add(path, str(path.relative_to(tree)), recursive=False, filter=_anonymous)
        _archive(layer, part, made_of)
    part.replace(out)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Nothing of this machine or of this hour."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    member.mode = 0o1777 if member.name == "tmp" else member.mode | 0o444
    return member


def _archive(layer: Path, out: Path, made_of: str) -> None:
    plain = sha256_of(layer)
    packed = layer.with_suffix(".tar.gz")
    _squeeze(layer, packed)
    blob = packed.read_bytes()
    config = _json(_config(plain, made_of))
    layer_entry = _entry("layer.v1.tar+gzip", blob)
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _entry("config.v1+json", config),
            "layers": [layer_entry],
        }
    )
    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as tar:
        for content in (config, manifest, blob):
            _add(tar, _blob(content), content)
        _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(tar, "index.json", _json(_index(manifest)))
        saved = {"Config": _blob(config), "RepoTags": [IMAGE], "Layers": [_blob(blob)]}
        _add(tar, "manifest.json", _json([saved]))


def _squeeze(source: Path, target: Path) -> None:
    with (
        source.open("rb") as plain,
        target.open("wb") as file,
        gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0) as squeezed,
    ):
        shutil.copyfileobj(plain, squeezed, 1024 * 1024)


def _config(diff_id: str, made_of: str) -> dict[str, object]:
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    return {
        "architecture": architecture,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Env": list(_ENV),
            "WorkingDir": f"/{_HOME}",
            "Cmd": ["goldenfleet-boot", "--help"],
            "Labels": {SOURCES_LABEL: made_of},
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "goldenfleet scripts/make-container"}],
    }


def _index(manifest: bytes) -> dict[str, object]:
    names = {
        "io.containerd.image.name": f"docker.io/library/{IMAGE}",
        "org.opencontainers.image.ref.name": "local",
    }
    return {"schemaVersion": 2, "manifests": [{**_entry("manifest.v1+json", manifest), "annotations": names}]}


def _entry(kind: str, content: bytes) -> dict[str, object]:
    digest = hashlib.sha256(content).hexdigest()
    return {
        "mediaType": f"application/vnd.oci.image.{kind}",
        "digest": f"sha256:{digest}",
        "size": len(content),
    }


def _blob(content: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = 0o644
    tar.addfile(member, io.BytesIO(content))


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _write(path: Path, content: bytes, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuilderError(
            f"{command[0]} failed: {(done.stderr or done.stdout).strip().splitlines()[-1:]}",
            "the container is made on Debian 12, with package lists: run apt-get update",
        )


if __name__ == "__main__":
    main()
