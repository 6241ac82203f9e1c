"""The process that owns every other process of a rehearsal, so that none outlives it.

It takes orders as JSON lines on stdin and answers on stdout. When stdin ends, for whatever reason (the
rehearsal is done, crashed, or was killed with SIGKILL), it kills every process that it started, and exits
when all are gone. Only the standard library is imported: the keeper must start fast and stay small.
"""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import signal
import subprocess
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _die_with_keeper() -> None:
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Keeper:
    """Starts process groups by name, reports how each ends, and ends them all when it is closed."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def obey(self, order: dict[str, Any]) -> None:
        if order["do"] == "start":
            self._start(order)
        else:
            self._signal(order["name"], order["signal"])

    def _start(self, order: dict[str, Any]) -> None:
        try:
            with Path(order["stdout"]).open("ab") as out, Path(order["stderr"]).open("ab") as err:
                child = subprocess.Popen(
                    order["argv"],
                    env=order["env"],
                    cwd=order["cwd"],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                    preexec_fn=_die_with_keeper,
                )
        except OSError as error:
            _tell(event="failed", name=order["name"], error=str(error))
            return
        # Popen would warn about, and reap, a child that this class reaps itself.
        child.returncode = 0
        self._names[child.pid] = order["name"]
        _tell(event="started", name=order["name"], pid=child.pid)

    def _signal(self, name: str, number: int) -> None:
        for pid, known in self._names.items():
            if known == name:
                _signal_group(pid, number)

    def reap(self) -> None:
        """Report every process that has ended; what is left of its group ends with it."""
        for pid in list(self._names):
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                continue
            # Before it is reaped the group's id cannot belong to anyone else.
            _signal_group(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            _tell(event="ended", name=self._names.pop(pid), code=os.waitstatus_to_exitcode(status))
        for orphan in _children() - set(self._names):
            os.waitpid(orphan, os.WNOHANG)

    def close(self) -> None:
        for pid in self._names:
            _signal_group(pid, signal.SIGKILL)
        # Orphans arrive here as their parents die, so ask again until there are none.
        while children := _children():
            for pid in children:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


def _children() -> set[int]:
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


def _tell(**event: Any) -> None:
    line = json.dumps(event) + "\n"
    try:
        os.write(1, line.encode())
    except BrokenPipeError:
        return  # nobody listens any more: the end of stdin follows


def _lines(buffer: bytearray) -> list[bytes]:
    *complete, rest = bytes(buffer).split(b"\n")
    buffer[:] = rest
    return complete


def serve(keeper: Keeper) -> None:
    """Obey until stdin ends."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    buffer = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if woken in ready:
                os.read(woken, 4096)
                keeper.reap()
            if 0 in ready:
                data = os.read(0, 65536)
                if not data:
                    return
                buffer += data
                for line in _lines(buffer):
                    keeper.obey(json.loads(line))


def main() -> None:
    # A terminal's Ctrl-C and a polite kill are for the rehearsal, whose end is the end of stdin.
    # An empty handler and not SIG_IGN, which the children would inherit.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    keeper = Keeper()
    try:
        serve(keeper)
    finally:
        keeper.close()


if __name__ == "__main__":
    main()
