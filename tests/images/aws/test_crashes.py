"""A bake may end at any call of AWS, and nothing of it remains."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from images.run import is_held, run_ids
from tests.images.aws.layer import Layer, installed
from tests.images.aws.layer_parts import FakeClock, Lags
from tests.images.aws.world import World, credentials, leftovers, publish_base

ROOT = Path(__file__).parents[3]
MUTATIONS = {
    "ImportKeyPair",
    "CreateSecurityGroup",
    "RunInstances",
    "CreateImage",
    "CopyImage",
    "CreateVolume",
    "PutParameter",
}


def ended(how: str, tmp_path: Path) -> list[dict[str, Any]]:
    """What remained after a bake that ended at every moment in turn."""
    out = tmp_path / "moments"
    subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.images.aws.crashes", how, str(out)],
        cwd=ROOT,
        check=True,
        timeout=300,
    )
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.mark.parametrize(
    ("how", "at_least"),
    [("killed", 90), ("killed-elsewhere", 20), ("interrupted", 90), ("interrupted-twice", 30)],
)
def test_nothing_remains(how: str, at_least: int, tmp_path: Path) -> None:
    """Killed or interrupted before and after every call of AWS, a bake leaves only what is published."""
    moments = ended(how, tmp_path)
    assert len(moments) >= at_least
    assert [moment for moment in moments if moment["remains"]] == []
    if how == "killed":
        named = {moment["moment"] for moment in moments}
        assert {f"{when} 1 {call}" for call in MUTATIONS for when in ("before", "after")} <= named


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """An account behind HTTP, which outlives the processes that use it."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    layer = Layer(FakeClock(), Lags(starting=3, stopping=3, terminating=3, imaging=10))
    with credentials(), installed(layer):
        server.start()
        url = "http://{}:{}".format(*server.get_host_and_port())
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        urllib.request.urlopen(f"{url}/moto-api/reset", data=b"").close()
        world = World(layer, tmp_path)
        publish_base(world.aws())
        yield world
        server.stop()


@pytest.mark.parametrize("operation", ["RunInstances", "CreateImage"])
def test_a_killed_process_is_swept(served: World, operation: str) -> None:
    """A baking process that gets SIGKILL lets go of its run, and the sweep removes what it left."""
    killed = subprocess.run(victim("killed", operation, served), cwd=ROOT, check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    (run_id,) = run_ids(served.runs)
    assert not is_held(served.runs / run_id)
    assert len(leftovers(served)) >= 3
    sweep = served.sweep()
    assert sweep.apply(sweep.plan()) == ()
    assert leftovers(served) == []


def victim(how: str, operations: str, served: World) -> list[str]:
    return [sys.executable, "-m", "tests.images.aws.victim", how, operations, str(served.state)]


def terminated(served: World, *operations: str) -> tuple[int, str]:
    """Exit status and stderr of a baking process that gets SIGTERM as each of `operations` was answered."""
    command = victim("told", ",".join(operations), served)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        for operation in operations:
            assert process.stdout.readline() == f"{operation}\n"
            assert leftovers(served)
            process.terminate()
        _, said = process.communicate(timeout=120)
    return process.returncode, said


@pytest.mark.parametrize("operation", ["ImportKeyPair", "RunInstances", "CreateImage"])
def test_sigterm_cleans_up_as_ctrl_c_does(served: World, operation: str) -> None:
    """A baking process that gets SIGTERM removes all it made, lets go of its run and exits with 143."""
    status, said = terminated(served, operation)
    assert (status, "what the run had made is removed" in said) == (143, True), said
    assert leftovers(served) == []
    (run_id,) = run_ids(served.runs)
    assert not is_held(served.runs / run_id)


def test_a_second_sigterm_says_what_is_left(served: World) -> None:
    """SIGTERM during the clean-up ends it with a list of what stands, which the sweep removes."""
    status, said = terminated(served, "CreateImage", "TerminateInstances")
    assert (status, "interrupted again; what is left:" in said) == (1, True), said
    assert "volume builder-data (vol-" in said
    sweep = served.sweep()
    assert sweep.apply(sweep.plan()) == ()
    assert leftovers(served) == []
