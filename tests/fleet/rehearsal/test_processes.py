from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet.rehearsal.errors import NotInTimeError, ProcessFailedError
from fleet.rehearsal.processes import Processes

ENV = {"PATH": os.environ["PATH"]}


def until(condition: Callable[[], bool], deadline_s: float = 20.0) -> None:
    limit = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < limit, "did not happen in time"
        os.sched_yield()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def child_of(pid: int) -> int:
    until(lambda: bool(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes() as running:
        yield running


def test_missing_program(processes: Processes, tmp_path: Path) -> None:
    """A program that does not exist is an error that names it, and the keeper goes on."""
    with pytest.raises(ProcessFailedError, match="no-such-program"):
        processes.start("x", ["no-such-program"], env=ENV, cwd=tmp_path)
    assert processes.start("x", ["true"], env=ENV, cwd=tmp_path) > 0


def test_name_used_twice(processes: Processes, tmp_path: Path) -> None:
    """A name belongs to one process for good, so that a log is never shared."""
    processes.start("x", ["true"], env=ENV, cwd=tmp_path)
    with pytest.raises(ProcessFailedError, match="before"):
        processes.start("x", ["true"], env=ENV, cwd=tmp_path)


def test_another_life(processes: Processes, tmp_path: Path) -> None:
    """Asked for, the name of a process that has ended is used again, and its log goes on."""
    say = ["sh", "-c", "echo said"]
    first = processes.start("x", say, env=ENV, cwd=tmp_path)
    processes.wait("x", 20)
    second = processes.start("x", say, env=ENV, cwd=tmp_path, again=True)
    assert second != first
    assert processes.wait("x", 20).code == 0
    assert (tmp_path / "x.log").read_text() == "said\nsaid\n"
    processes.start("y", ["sleep", "60"], env=ENV, cwd=tmp_path)
    with pytest.raises(ProcessFailedError, match="before"):
        processes.start("y", ["true"], env=ENV, cwd=tmp_path, again=True)


def test_exit_code(processes: Processes, tmp_path: Path) -> None:
    """The exit code and both outputs of a process that ended on its own are kept."""
    processes.start("x", ["sh", "-c", "echo out; echo err >&2; exit 7"], env=ENV, cwd=tmp_path)
    assert processes.wait("x", 20).code == 7
    assert (tmp_path / "x.log").read_text() == "out\n"
    assert (tmp_path / "x.err").read_text() == "err\n"
    assert processes.pid("x") is None


def test_wait_gives_up(processes: Processes, tmp_path: Path) -> None:
    """Waiting for a process that goes on ends at its deadline."""
    processes.start("x", ["sleep", "600"], env=ENV, cwd=tmp_path)
    with pytest.raises(NotInTimeError, match="x did not end"):
        processes.wait("x", 0.01)


def test_kill_takes_the_group(processes: Processes, tmp_path: Path) -> None:
    """SIGKILL reaches the children of a process too, and its end is reported."""
    leader = processes.start("x", ["sh", "-c", "sleep 600; true"], env=ENV, cwd=tmp_path)
    child = child_of(leader)
    processes.signal("x")
    assert processes.wait("x", 20).code == -signal.SIGKILL
    until(lambda: not alive(child))


def test_leader_ends_first(processes: Processes, tmp_path: Path) -> None:
    """What a process left running in its group ends with it."""
    processes.start("x", ["sh", "-c", "sleep 600 & echo $!"], env=ENV, cwd=tmp_path)
    processes.wait("x", 20)
    child = int((tmp_path / "x.log").read_text())
    until(lambda: not alive(child))


def test_polite_signal_arrives(processes: Processes, tmp_path: Path) -> None:
    """The keeper's own deafness to SIGTERM is not inherited."""
    processes.start("x", ["sleep", "600"], env=ENV, cwd=tmp_path)
    processes.signal("x", signal.SIGTERM)
    assert processes.wait("x", 20).code == -signal.SIGTERM


def test_signal_after_the_end(processes: Processes, tmp_path: Path) -> None:
    """Killing what has ended is harmless."""
    processes.start("x", ["true"], env=ENV, cwd=tmp_path)
    processes.wait("x", 20)
    processes.signal("x")
    assert processes.running() == {}


def test_close_finds_strays(tmp_path: Path) -> None:
    """A grandchild that left its process group is gone too when close returns."""
    with Processes() as processes:
        processes.start(
            "x", ["sh", "-c", "setsid sleep 600 & echo $!; exec sleep 600"], env=ENV, cwd=tmp_path
        )
        until(lambda: (tmp_path / "x.log").read_text().endswith("\n"))
        stray = int((tmp_path / "x.log").read_text())
        assert alive(stray)
    assert not alive(stray)
    processes.close()


PARENT = """
import json, os, sys, threading
from pathlib import Path
from fleet.rehearsal.processes import Processes
processes = Processes()
env = {"PATH": os.environ["PATH"]}
pid = processes.start("x", ["sh", "-c", "sleep 600; true"], env=env, cwd=Path(sys.argv[1]))
print(json.dumps([processes.keeper_pid, pid]), flush=True)
threading.Event().wait()
"""


def _family(tmp_path: Path) -> tuple[subprocess.Popen[bytes], int, list[int]]:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    keeper, leader = json.loads(parent.stdout.readline())
    return parent, keeper, [leader, child_of(leader)]


def test_parent_killed(tmp_path: Path) -> None:
    """SIGKILL of the rehearsal leaves no process: not its keeper, not a node, not a node's child."""
    parent, keeper, group = _family(tmp_path)
    with parent:
        parent.kill()
    until(lambda: not any(alive(pid) for pid in [keeper, *group]))


def test_keeper_killed(tmp_path: Path) -> None:
    """Even when the keeper itself is killed, the processes that it started die with it."""
    parent, keeper, group = _family(tmp_path)
    with parent:
        os.kill(keeper, signal.SIGKILL)
        until(lambda: not alive(group[0]))
        parent.kill()
    os.kill(group[1], signal.SIGKILL)
