"""Programs that go into the image, run here as they would be there."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from images.steps.shell import shipped

FILES = Path(__file__).parent.parent.parent / "images" / "files"
CONTENT = os.urandom(40 * 1024 * 1024 + 3)
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def boot(tmp_path: Path) -> Path:
    """goldenfleet-boot of a model image, with a systemctl that notes what it is told."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "etc").mkdir()
    control = tmp_path / "bin/systemctl"
    control.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/told\n')
    control.chmod(0o755)
    program = tmp_path / "bin/goldenfleet-boot"
    text = shipped("goldenfleet-boot", ROLE="model").replace("/etc/goldenfleet", str(tmp_path / "etc"))
    program.write_text(text.replace("/sys/devices/virtual/dmi/id", str(tmp_path / "dmi")))
    program.chmod(0o755)
    return program


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = f"{program.parent}:{os.environ['PATH']}"
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False, env={"PATH": path}
    )


@pytest.mark.parametrize(
    ("arguments", "tier", "program"),
    [
        (("--role", "model", "--stack", "prod"), "model", "goldenfleet-boot"),
        (("--role", "model", "--tier", "llama-70b", "--stack", "prod"), "llama-70b", "goldenfleet-boot"),
        (("--stack", "prod", "--role", "model", "--standalone"), "model", "python3.11 -m server"),
    ],
)
def test_boot(boot: Path, arguments: tuple[str, ...], tier: str, program: str) -> None:
    """Role, tier and stack are kept for every later boot, and the server is started."""
    assert run(boot, *arguments).returncode == 0
    kept = (boot.parent.parent / "etc/node.env").read_text()
    assert kept == f"ROLE=model\nTIER={tier}\nSTACK=prod\nPROGRAM={program}\n"
    told = (boot.parent.parent / "told").read_text()
    assert told == "start --no-block goldenfleet-logs.service goldenfleet-server.service\n"


@pytest.mark.parametrize(
    ("asset_tag", "more", "kept"),
    [
        (None, (), None),
        ("", (), None),
        ("Default string", (), None),
        ("i-0af01c0123456789a", ("--standalone",), None),
        ("i-0af01c0123456789a", (), "GROUP=/goldenfleet/prod/llama\nSTREAM=i-0af01c0123456789a\n"),
    ],
)
def test_boot_says_where_logs_go(
    boot: Path, asset_tag: str | None, more: tuple[str, ...], kept: str | None
) -> None:
    """On EC2 to the tier's log group, a stream a node; elsewhere nowhere, whatever an earlier boot said."""
    if asset_tag is not None:
        (boot.parent.parent / "dmi").mkdir()
        (boot.parent.parent / "dmi" / "board_asset_tag").write_text(f"{asset_tag}\n")
    where = boot.parent.parent / "etc" / "logs.env"
    where.write_text("GROUP=/goldenfleet/stage/llama\n")
    assert run(boot, "--role", "model", "--tier", "llama", "--stack", "prod", *more).returncode == 0
    assert (where.read_text() if where.exists() else None) == kept


def test_logs_are_shipped_line_by_line(tmp_path: Path) -> None:
    """The journal goes through the container as it comes, to the group and stream that boot wrote."""
    for name, script in {
        "journalctl": 'echo "$@" >journal; printf "one\\ntwo\\n"',
        # Runs what the container would run.
        "docker": 'printf "%s\\n" "$@" >docker; while [ "$1" != python3.11 ]; do shift; done; exec "$@"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\ncd {tmp_path}\n{script}\n".replace(">", ">told-"))
        (tmp_path / name).chmod(0o755)
    (tmp_path / "python3.11").symlink_to(sys.executable)
    program = tmp_path / "goldenfleet-logs"
    program.write_text(shipped("goldenfleet-logs", IMAGE="server:local"))
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "GROUP": "/goldenfleet/prod/model", "STREAM": "i-1"}
    done = subprocess.run(["sh", program], check=True, capture_output=True, text=True, env=env)
    assert done.stdout == "one\ntwo\n"
    asked = (tmp_path / "told-docker").read_text().splitlines()
    assert [word for word in asked if word.startswith("awslogs")] == [
        "awslogs",
        "awslogs-group=/goldenfleet/prod/model",
        "awslogs-stream=i-1",
    ]
    assert "server:local" in asked
    assert "--unit=goldenfleet-server.service" in (tmp_path / "told-journal").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "usage"),
        (("--role", "model"), "usage"),
        (("--role",), ""),
        (("--role", "model", "--stack", "a; reboot"), "usage"),
        (("--role", "model", "--stack", "prod", "--tier", "a; reboot"), "usage"),
        (("--role", "model", "--stack", "prod", "--colour"), "usage"),
        (("--role", "gateway", "--stack", "prod"), "this image is of role model, not gateway"),
    ],
)
def test_boot_refuses(boot: Path, arguments: tuple[str, ...], said: str) -> None:
    """User data that cannot be meant for this image starts nothing."""
    failed = run(boot, *arguments)
    assert failed.returncode == 2
    assert said in failed.stderr
    assert not (boot.parent.parent / "told").exists()


def test_standalone_gateway(boot: Path) -> None:
    """A gateway that is tried out gets a node list, without which it would not start; a given one is kept."""
    text = boot.read_text().replace("model", "gateway")
    boot.write_text(text)
    settings = boot.parent.parent / "etc/instance.env"
    assert run(boot, "--role", "gateway", "--stack", "x", "--standalone").returncode == 0
    assert settings.read_text() == "GOLDENFLEET_NODES=static:127.0.0.1:8081\nGOLDENFLEET_AUTH=off\n"
    settings.write_text("GOLDENFLEET_NODES=static:127.0.0.9:1\n")
    assert run(boot, "--role", "gateway", "--stack", "x", "--standalone").returncode == 0
    assert settings.read_text() == "GOLDENFLEET_NODES=static:127.0.0.9:1\n"


def test_readahead_reads_every_byte_once(tmp_path: Path) -> None:
    """Every file is read whole, in ranges of 64 MiB that do not overlap."""
    weights, noted = tmp_path / "weights", tmp_path / "noted"
    (weights / "deep").mkdir(parents=True)
    noted.mkdir()
    big = weights / "deep" / "a b.safetensors"
    with big.open("wb") as file:
        file.truncate(150 * 1024 * 1024)
    (weights / "small").write_bytes(b"x")
    (weights / "empty").touch()
    wrapper = tmp_path / "dd"
    wrapper.write_text(f'#!/bin/sh\necho "$@" > {noted}/$$\nexec /usr/bin/dd "$@"\n')
    wrapper.chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    subprocess.run(["sh", FILES / "goldenfleet-readahead", weights], check=True, env=env)
    asked = sorted(path.read_text().strip() for path in noted.iterdir())
    end = "count=64 status=none"
    assert asked == sorted(
        [
            f"if={weights}/small of=/dev/null bs=1M skip=0 {end}",
            *(f"if={big} of=/dev/null bs=1M skip={skip} {end}" for skip in (0, 64, 128)),
        ]
    )


@pytest.fixture(scope="module")
def fetcher() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fetch_weights", FILES / "fetch_weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
    client = boto3.client("s3")
    client.create_bucket(Bucket="models")
    client.put_object(Bucket="models", Key="q/w.bin", Body=CONTENT)
    return client


def record(folder: Path, **changes: Any) -> Path:
    file = {"name": "deep/w.bin", "url": "s3://models/q/w.bin", "sha256": SHA, "bytes": len(CONTENT)}
    path = folder / "weights.json"
    path.write_text(json.dumps({"files": [{**file, **changes}]}))
    return path


def test_fetch(fetcher: ModuleType, bucket: Any, tmp_path: Path) -> None:
    """Weights come whole in parallel ranges, and what is there already is not fetched again."""
    assert fetcher.main(str(record(tmp_path)), str(tmp_path / "w")) == 0
    got = tmp_path / "w/deep/w.bin"
    assert got.read_bytes() == CONTENT
    bucket.delete_object(Bucket="models", Key="q/w.bin")
    assert fetcher.main(str(record(tmp_path)), str(tmp_path / "w")) == 0


def test_fetch_of_other_weights(
    fetcher: ModuleType, bucket: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights with another checksum never get their name, and the reason is said."""
    assert fetcher.main(str(record(tmp_path, sha256="0" * 64)), str(tmp_path / "w")) == 1
    assert f"s3://models/q/w.bin has sha256 {SHA}, not 000" in capsys.readouterr().err
    assert list((tmp_path / "w/deep").iterdir()) == []


def test_ranges(fetcher: ModuleType) -> None:
    """Ranges cover a file without gap or overlap."""
    size = fetcher.RANGE_BYTES * 2 + 1
    found = list(fetcher.ranges(size))
    assert found[0][0] == 0
    assert found[-1] == (size - 1, size - 1)
    assert all(after[0] == before[1] + 1 for before, after in itertools.pairwise(found))
