"""The program as a child process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO

from fleet.rehearsal.engine.project import Project
from fleet.rehearsal.engine.warm import WarmHost, WarmProgram

_HOST = Path(__file__).with_name("host.py")
_PARALLEL = 16
_TAIL_LINES = 40
_STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Ended:
    code: int
    """The exit status, negative for a signal."""
    tail: str
    """The last lines that it wrote."""


def run_program(project: Project, address: str, warm: WarmHost | None, *, dry_run: bool) -> Ended:
    """Run to the end, and never leave it running. `address` is of both services, as host:port."""
    lifeline, held = os.pipe()
    try:
        process = _start(project, address, lifeline, warm, dry_run=dry_run)
        os.close(lifeline)
        return _ended(process)
    finally:
        os.close(held)


def _start(
    project: Project, address: str, lifeline: int, warm: WarmHost | None, *, dry_run: bool
) -> subprocess.Popen[str] | WarmProgram:
    """The program ends when the other end of `lifeline` closes: the SDK hangs once its engine was killed."""
    words = [address, address, project.name, project.stack]
    words += [str(dry_run).lower(), str(project.folder), str(_PARALLEL)]
    environment = _environment(project.config)
    if warm is not None:
        return warm.start(words, project.program, environment, lifeline)
    return subprocess.Popen(
        [sys.executable, "-P", str(_HOST), *words, str(lifeline)],
        cwd=project.program,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=(lifeline,),
    )


def _ended(process: subprocess.Popen[str] | WarmProgram) -> Ended:
    assert process.stdout is not None
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    reader = Thread(target=_keep, args=(process.stdout, tail), daemon=True)
    reader.start()
    try:
        code = process.wait()
    finally:
        _stop(process)
        reader.join(_STOP_SECONDS)
        process.stdout.close()
    return Ended(code, "".join(tail))


def _environment(config: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, "PULUMI_CONFIG": json.dumps(dict(config)), "PULUMI_CONFIG_SECRET_KEYS": "[]"}


def _keep(stream: IO[str], tail: deque[str]) -> None:
    for line in stream:
        tail.append(line)


def _stop(process: subprocess.Popen[str] | WarmProgram) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
