"""A process that holds the SDK imported, and runs programs in forks of itself.

Importing pulumi_aws costs a program most of its time. Who runs it often keeps one of these; without one,
every run has a fresh interpreter.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import IO, Any

from fleet.rehearsal.engine.errors import ProgramError

_HOST = Path(__file__).with_name("host.py")
_MOST_BYTES = 1 << 16
_ENDED = "the process that runs the Pulumi program has ended"


class WarmHost:
    """One run at a time, so that engines which share one wait for each other. Use as a context manager.

    `ahead` names modules of the SDK that it imports at once, while its owner does something else.
    """

    def __init__(self, ahead: Sequence[str] = ()) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel, self._busy = ours, Lock()
        with theirs:
            words = [sys.executable, "-P", str(_HOST), "--warm", str(theirs.fileno()), *ahead]
            self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),))

    def __enter__(self) -> WarmHost:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()
        # It may be importing for a run that does not come.
        self._process.terminate()
        self._process.wait()

    def kill(self) -> None:
        """At once; a program that runs ends with its engine."""
        self._process.kill()
        self._process.wait()

    def start(
        self, words: Sequence[str], folder: Path, environment: Mapping[str, str], lifeline: int
    ) -> WarmProgram:
        self._busy.acquire()
        heard, told = os.pipe()
        asked = {"words": list(words), "folder": str(folder), "environment": dict(environment)}
        try:
            socket.send_fds(self._channel, [json.dumps(asked).encode()], [told, lifeline])
        except OSError as exc:
            os.close(heard)
            self._busy.release()
            raise ProgramError(_ENDED, "Run it again.") from exc
        finally:
            os.close(told)
        try:
            return WarmProgram(self._channel, os.fdopen(heard, errors="replace"), self._busy)
        except ProgramError:
            self._busy.release()
            raise


class WarmProgram:
    """A running program, with what is needed here of a subprocess.Popen."""

    def __init__(self, channel: socket.socket, stdout: IO[str], busy: Lock) -> None:
        self.stdout = stdout
        self._channel, self._busy = channel, busy
        self._pid = int(self._told(None)["pid"])
        self._code: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, negative for a signal. Raises subprocess.TimeoutExpired."""
        if self._code is None:
            try:
                self._code = int(self._told(timeout)["code"])
            except ProgramError:
                self._code = -signal.SIGKILL
                raise
            finally:
                if self._code is not None:
                    self._busy.release()
        return self._code

    def poll(self) -> int | None:
        return self._code

    def terminate(self) -> None:
        os.kill(self._pid, signal.SIGTERM)

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)

    def _told(self, timeout: float | None) -> dict[str, Any]:
        self._channel.settimeout(timeout)
        try:
            message = self._channel.recv(_MOST_BYTES)
        except TimeoutError as exc:
            raise subprocess.TimeoutExpired("the program", timeout or 0.0) from exc
        if not message:
            raise ProgramError(_ENDED, "Run it again.")
        return dict(json.loads(message))
