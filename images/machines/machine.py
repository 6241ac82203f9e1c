"""One running virtual machine, which lives no longer than the process that started it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from images.errors import MachineFailed
from images.machines import qemu, uml
from images.machines.hardware import Accelerator, Hardware, Program, Programs

_KEEPER = Path(__file__).with_name("keeper.py")
_LAST_WORDS = 1500
_KILL_S = 30


def programs_for(hardware: Hardware, accelerator: Accelerator) -> Programs:
    return uml.programs(hardware) if accelerator == "uml" else qemu.programs(hardware, accelerator)


class Machine:
    """Started on entry, killed on exit: a machine that is to keep its disk sound is shut down from inside."""

    def __init__(self, hardware: Hardware, accelerator: Accelerator) -> None:
        self.hardware = hardware
        self.accelerator = accelerator
        self._keeper: subprocess.Popen[bytes] | None = None
        self._logs: tuple[Path, ...] = ()
        self._groups: tuple[int, ...] = ()

    def start(self) -> None:
        """Raises MachineFailed if a program of it is missing."""
        self.hardware.directory.mkdir(parents=True, exist_ok=True)
        programs = programs_for(self.hardware, self.accelerator)
        everything = (programs.main, *programs.others)
        self._logs = tuple(program.log for program in everything)
        order = {"programs": [_order(program) for program in everything]}
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_KEEPER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._keeper.stdin.write(json.dumps(order).encode() + b"\n")
        self._keeper.stdin.flush()
        with self._keeper.stdout as started:
            self._groups = tuple(json.loads(started.readline() or b"[]"))

    @property
    def exit_status(self) -> int | None:
        """None while it runs."""
        return None if self._keeper is None else self._keeper.poll()

    def expect_running(self) -> None:
        """Raises MachineFailed, with what its programs said last, if it is not."""
        status = self.exit_status
        if self._keeper is None or status is not None:
            raise MachineFailed(f"the virtual machine is gone (status {status})\n{self.last_words()}")

    def wait(self, timeout_s: float | None = None) -> int:
        """Exit status of a machine that shuts itself down. Raises MachineFailed if it does not in time."""
        if self._keeper is None:
            return 0
        try:
            return self._ended(self._keeper.wait(timeout_s))
        except subprocess.TimeoutExpired as exc:
            raise MachineFailed(
                f"the virtual machine still runs after {timeout_s} s",
                f"see its console: {self.hardware.console}",
            ) from exc

    def kill(self) -> None:
        """As if its power were cut. Does nothing to a machine that is gone."""
        if self._keeper is None:
            return
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        self._ended(self._keeper.wait(_KILL_S))

    def last_words(self) -> str:
        """The end of each log, for an error message."""
        return "\n".join(f"{log.name}: {_tail(log)}" for log in self._logs if log.exists())

    def _ended(self, status: int) -> int:
        """A keeper that was killed ended nothing, and User-mode Linux has helpers that outlive it."""
        if status < 0:
            for group in self._groups:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)
        self._groups = ()
        return status

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def _order(program: Program) -> dict[str, object]:
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", **program.environment}
    return {"argv": list(program.argv), "log": str(program.log), "environment": environment}


def _tail(log: Path) -> str:
    return log.read_bytes()[-_LAST_WORDS:].decode("utf-8", "replace").strip()
