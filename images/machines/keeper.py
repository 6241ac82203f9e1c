"""The process that owns a virtual machine's processes, so that none outlives the one that asked for it.

One JSON object on stdin says what to run, and one line on stdout which process groups were started. The end
of stdin ends it all, whether it was closed or its owner was killed. Only the standard library is imported: it
is run as a file, and must start fast.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
WIRE, SCRATCH = "@WIRE@", "@SCRATCH@"
OWNER_LEFT = 143
LOST_HELPER = 70
_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _die_with_keeper() -> None:
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start(program: dict[str, Any], wire: socket.socket, scratch: str) -> subprocess.Popen[bytes]:
    argv = [part.replace(WIRE, str(wire.fileno())).replace(SCRATCH, scratch) for part in program["argv"]]
    with Path(program["log"]).open("ab") as log:
        return subprocess.Popen(
            argv,
            env=program["environment"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[wire.fileno()],
            start_new_session=True,
            preexec_fn=_die_with_keeper,
        )


def end(children: list[subprocess.Popen[bytes]]) -> None:
    """Kill each with its process group: User-mode Linux has a process for each of the guest's."""
    for child in children:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        child.wait()
    _end_orphans()


def _end_orphans() -> None:
    listing = Path(f"/proc/self/task/{os.getpid()}/children")
    while pids := listing.read_text().split():
        for pid in map(int, pids):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def watch(children: list[subprocess.Popen[bytes]]) -> int:
    """Exit status for all: the first child's own, or why it was ended."""
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ, None)
        for child in children:
            selector.register(os.pidfd_open(child.pid), selectors.EVENT_READ, child)
        while True:
            for key, _ in selector.select():
                if key.data is None and not os.read(0, 4096):
                    return OWNER_LEFT
                if key.data is children[0]:
                    return _exit_status(children[0])
                if key.data is not None:
                    return LOST_HELPER


def _exit_status(child: subprocess.Popen[bytes]) -> int:
    # Not reaped before its group is ended: until then the group's id is its own.
    ended = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    return ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status


def _first_line() -> dict[str, Any]:
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            sys.exit(OWNER_LEFT)
        line += byte
    order: dict[str, Any] = json.loads(line)
    return order


def main() -> int:
    # A terminal's Ctrl-C and a polite kill are for the owner, whose end is the end of stdin.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    order = _first_line()
    children: list[subprocess.Popen[bytes]] = []
    # A socket's path is at most 107 bytes long, and run directories are deep.
    scratch = tempfile.mkdtemp(prefix="goldenfleet-scratch-vm-")
    # A sweep removes scratch directories that nobody has locked; see images.machines.tools.
    fcntl.flock(os.open(scratch, os.O_RDONLY | os.O_DIRECTORY), fcntl.LOCK_EX)
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        with ends[0], ends[1]:
            children.extend(
                start(program, wire, scratch) for program, wire in zip(order["programs"], ends, strict=False)
            )
        os.write(1, json.dumps([child.pid for child in children]).encode() + b"\n")
        return watch(children)
    finally:
        end(children)
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
