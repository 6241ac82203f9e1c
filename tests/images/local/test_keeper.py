"""A machine's processes live no longer than the one that asked for them, whatever ends it."""

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

from images.machines import keeper

SLEEPER = """
import subprocess, time
print(subprocess.Popen(["sleep", "600"]).pid, flush=True)
time.sleep(600)
"""
# It lets go of nothing by itself: it has to be killed.
OWNER = """
import json, subprocess, sys, time
keeper, log, text = sys.argv[1:]
command = [sys.executable, "-I", "-S", keeper]
kept = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
program = {"argv": [sys.executable, "-c", text], "log": log, "environment": {"PATH": "/usr/bin:/bin"}}
kept.stdin.write(json.dumps({"programs": [program]}).encode() + b"\\n")
kept.stdin.flush()
print(kept.pid, flush=True)
time.sleep(600)
"""


def until(condition: Callable[[], bool], what: str) -> None:
    ends = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ends, what
        os.sched_yield()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Kept:
    """A keeper with programs of the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def order(self, *programs: str) -> None:
        made = [
            {
                "argv": [sys.executable, "-c", text],
                "log": str(self.log(number)),
                "environment": {"PATH": os.defpath},
            }
            for number, text in enumerate(programs)
        ]
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"programs": made}).encode() + b"\n")
        self.process.stdin.flush()

    def log(self, number: int) -> Path:
        return self.directory / f"{number}.log"

    def said(self, number: int = 0) -> str:
        until(
            lambda: self.log(number).exists() and self.log(number).read_text().endswith("\n"),
            "it said nothing",
        )
        return self.log(number).read_text().strip()


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    found = Kept(tmp_path)
    yield found
    assert found.process.stdin is not None
    found.process.stdin.close()
    found.process.wait(20)


def test_the_end_of_its_owner_ends_everything(kept: Kept) -> None:
    """When stdin ends, programs, their children and the scratch directory are gone before the keeper is."""
    kept.order(SLEEPER, "print('@SCRATCH@', flush=True); import time; time.sleep(600)")
    grandchild = int(kept.said())
    scratch = Path(kept.said(1))
    assert scratch.is_dir()
    assert kept.process.stdin is not None
    kept.process.stdin.close()
    assert kept.process.wait(20) == keeper.OWNER_LEFT
    assert not alive(grandchild)
    assert not scratch.exists()


def test_an_owner_that_is_killed_ends_everything(tmp_path: Path) -> None:
    """SIGKILL of the owner, who can then do nothing any more, ends what it asked for."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, keeper.__file__, str(tmp_path / "log"), SLEEPER], stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    kept = int(owner.stdout.readline())
    log = tmp_path / "log"
    until(lambda: log.exists() and log.read_text().endswith("\n"), "the program did not start")
    grandchild = int(log.read_text())
    owner.kill()
    owner.wait()
    owner.stdout.close()
    until(lambda: not alive(kept) and not alive(grandchild), "something outlived its owner")


def test_a_keeper_that_is_killed_takes_its_programs_along(kept: Kept) -> None:
    """Even SIGKILL of the keeper ends the programs that it started."""
    kept.order("import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    program = int(kept.said())
    kept.process.send_signal(signal.SIGKILL)
    until(lambda: not alive(program), "the program outlived its keeper")


@pytest.mark.parametrize(("ending", "status"), [("sys.exit(7)", 7), ("os.kill(os.getpid(), 9)", 137)])
def test_the_main_program_decides_the_status(kept: Kept, ending: str, status: int) -> None:
    """The keeper ends as its first program does, and ends the others."""
    kept.order(
        f"import os, sys; {ending}", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    )
    assert kept.process.wait(20) == status
    if kept.log(1).read_text():
        assert not alive(int(kept.said(1)))


def test_a_lost_helper_ends_the_machine(kept: Kept) -> None:
    """Without its network a machine is of no use: it ends with a status of its own."""
    kept.order("import time; time.sleep(600)", "pass")
    assert kept.process.wait(20) == keeper.LOST_HELPER


def test_programs_share_a_wire(kept: Kept) -> None:
    """Each finds its end of one datagram socket pair where its arguments say."""
    talk = "import socket, sys; w = socket.socket(fileno=int('@WIRE@')); "
    kept.order(
        talk + "w.send(b'42'); w.recv(9); sys.exit(0)",
        talk + "print(int(w.recv(9)), flush=True); w.send(b'.'); import time; time.sleep(600)",
    )
    assert kept.process.wait(20) == 0
    assert kept.said(1) == "42"


def test_polite_signals_are_left_to_the_owner(kept: Kept) -> None:
    """Ctrl-C and SIGTERM to the keeper end nothing: the owner cleans up first, and then lets go."""
    kept.order("import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    program = int(kept.said())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        kept.process.send_signal(number)
    kept.order()
    assert alive(program)
    assert kept.process.poll() is None
