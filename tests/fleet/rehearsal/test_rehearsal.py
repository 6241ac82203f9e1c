"""Whole rehearsals, small ones, as a user starts them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PNG = b"\x89PNG\r\n\x1a\n"
COMMAND = str(Path(sys.executable).with_name("goldenfleet"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def inside(directory: Path) -> list[int]:
    """Processes that work in the directory: every one that a rehearsal starts does, but its keeper."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                working = os.readlink(entry / "cwd")
            except OSError:
                continue
            if working.startswith(str(directory)):
                found.append(int(entry.name))
    return found


def children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def until(condition: Callable[[], bool], deadline_s: float = 30.0) -> None:
    limit = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < limit, "did not happen in time"
        os.sched_yield()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def nothing_left(run_dir: Path, port: int, started: set[int]) -> bool:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            return False
    return not inside(run_dir) and not any(map(alive, started))


@contextmanager
def rehearsal(run_dir: Path, port: int, *options: str) -> Iterator[subprocess.Popen[str]]:
    argv = [COMMAND, "rehearse", "--port", str(port), "--run-dir", str(run_dir), *options]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def read_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if words in line:
            return
    pytest.fail(f"{words!r} was never said:\n{''.join(said)}")


def test_whole(tmp_path: Path) -> None:
    """Nodes go with notice, without, and by scaling in; every client reads the undisturbed text."""
    run_dir, port, picture = tmp_path / "run", free_port(), tmp_path / "fleet.png"
    steps = ["spot:gateway", "kill:model", "scale-in:model"]
    options = ["--clients", "40", "--duration", "1", "--interrupt", ",".join(steps)]
    with rehearsal(run_dir, port, *options, "--json", "--png", str(picture)) as process:
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    report: dict[str, Any] = json.loads(out)
    assert (report["lost"], report["truncated"], report["diverged"]) == (0, 0, 0), report["problems"]
    assert report["requests"] > 40
    assert report["resumed"] >= 1
    assert report["memory_peak_mib"] < 3 * 1024
    assert report["nodes"] == {"on-demand": 2, "spot": 2}
    assert 0 < report["cost"]["hourly"] < report["cost"]["hourly_on_demand"]
    check_interruptions(report["interruptions"], steps)
    assert picture.read_bytes().startswith(PNG)
    assert " same\n" in err
    assert nothing_left(run_dir, port, set())


def check_interruptions(interruptions: list[dict[str, Any]], steps: list[str]) -> None:
    assert [f"{i['kind']}:{i['tier']}" for i in interruptions] == steps
    spot, killed, scaled_in = interruptions
    assert 0 < spot["refusing_s"] <= spot["empty_s"] < spot["gone_s"]
    assert spot["replaced_s"] > 0
    assert killed["refusing_s"] is killed["empty_s"] is None
    assert killed["gone_s"] < 1 < killed["replaced_s"]
    assert 0 < scaled_in["empty_s"] < scaled_in["gone_s"]
    assert scaled_in["replacement"] is None


def test_ctrl_c(tmp_path: Path) -> None:
    """Ctrl-C under load, twice, ends with 130 and leaves no process, no port and no report."""
    run_dir, port = tmp_path / "run", free_port()
    with rehearsal(run_dir, port, "--clients", "8", "--interrupt", "none", "--duration", "600") as process:
        read_until(process, "clients ask")
        started = children(process.pid)
        assert len(inside(run_dir)) >= 5
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert out == ""
    assert nothing_left(run_dir, port, started)


def test_killed(tmp_path: Path) -> None:
    """SIGKILL of the rehearsal while Pulumi's program runs leaves no process and no port."""
    run_dir, port = tmp_path / "run", free_port()
    with rehearsal(run_dir, port, "--interrupt", "none") as process:
        read_until(process, "pulumi preview:")
        until(lambda: len(children(process.pid)) >= 2)
        started = children(process.pid)
        process.kill()
    until(lambda: nothing_left(run_dir, port, started))
