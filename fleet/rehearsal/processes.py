"""The rehearsal's processes: started, watched and ended through their keeper."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fleet.rehearsal.errors import NotInTimeError, ProcessFailedError

_ANSWER_SECONDS = 30.0  # a busy machine may take long to fork; a keeper that is silent for longer is gone


@dataclass
class Ended:
    """How a process ended: its exit code, or minus the signal's number."""

    code: int


class Processes:
    """Named process groups; when this object is closed, or its process dies, all of them are gone.

    Safe to use from any thread.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pids: dict[str, int] = {}
        self._ended: dict[str, Ended] = {}
        self._errors: dict[str, str] = {}
        self._closed = False
        self._keeper = subprocess.Popen(
            [sys.executable, "-m", "fleet.rehearsal.keeper"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._listen, name="keeper", daemon=True)
        self._reader.start()

    @property
    def keeper_pid(self) -> int:
        return self._keeper.pid

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path | None = None,
        again: bool = False,
    ) -> int:
        """Start `argv` as the leader of its own process group and return its pid.

        Output goes to `log` (default: `<cwd>/<name>.log`), errors to the same name ending in `.err`. Only
        `again` may take the name of one that has ended, and writes on where that one stopped.
        Raises ProcessFailedError when it cannot be started.
        """
        stdout = log or cwd / f"{name}.log"
        stderr = stdout.with_suffix(".err")
        with self._changed:
            if again and name in self._ended:
                del self._pids[name], self._ended[name]
            if name in self._pids:
                raise ProcessFailedError(f"{name} was started before")
            self._order(
                do="start",
                name=name,
                argv=list(argv),
                env=dict(env),
                cwd=str(cwd),
                stdout=str(stdout),
                stderr=str(stderr),
            )
            answered = self._changed.wait_for(
                lambda: name in self._pids or name in self._errors or self._closed, _ANSWER_SECONDS
            )
            if name in self._errors:
                raise ProcessFailedError(f"cannot start {name}: {self._errors.pop(name)}")
            if not answered or name not in self._pids:
                raise ProcessFailedError(f"cannot start {name}: the keeper of the processes is gone")
            return self._pids[name]

    def signal(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to the whole group of `name`; nothing happens when it has ended."""
        with self._changed:
            if not self._closed:
                self._order(do="signal", name=name, signal=int(number))

    def pid(self, name: str) -> int | None:
        """The pid of a process that runs, else None."""
        with self._changed:
            return None if name in self._ended else self._pids.get(name)

    def running(self) -> dict[str, int]:
        """Name -> pid of every process that runs."""
        with self._changed:
            return {name: pid for name, pid in self._pids.items() if name not in self._ended}

    def ended(self, name: str) -> Ended | None:
        with self._changed:
            return self._ended.get(name)

    def wait(self, name: str, timeout_s: float) -> Ended:
        """How `name` ended; raises NotInTimeError when it still runs after `timeout_s`."""
        with self._changed:
            if not self._changed.wait_for(lambda: name in self._ended or self._closed, timeout_s):
                raise NotInTimeError(f"{name} did not end within {timeout_s:g} s")
            return self._ended.get(name, Ended(-signal.SIGKILL))

    def close(self) -> None:
        """Kill whatever runs; returns when all of it is gone. May be called again."""
        assert self._keeper.stdin is not None
        with self._changed, contextlib.suppress(BrokenPipeError):
            self._keeper.stdin.close()
        self._keeper.wait()
        self._reader.join()
        if self._keeper.stdout:
            self._keeper.stdout.close()

    def _order(self, **order: Any) -> None:
        assert self._keeper.stdin is not None
        try:
            self._keeper.stdin.write(json.dumps(order).encode() + b"\n")
            self._keeper.stdin.flush()
        except (BrokenPipeError, ValueError) as error:
            raise ProcessFailedError("the keeper of the rehearsal's processes is gone") from error

    def _listen(self) -> None:
        assert self._keeper.stdout is not None
        for line in self._keeper.stdout:
            with self._changed:
                self._note(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _note(self, event: dict[str, Any]) -> None:
        name = event["name"]
        if event["event"] == "started":
            self._pids[name] = event["pid"]
        elif event["event"] == "failed":
            self._errors[name] = event["error"]
        else:
            self._ended[name] = Ended(event["code"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
