"""Processes of the benchmark: pinned to cores, gone when it is gone, and what they use as /proc tells it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.errors import ProcessFailed

_TICKS = os.sysconf("SC_CLK_TCK")
_STOP_S = 3.0
_LOG_TAIL = 1500
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Cores:
    """One core is the gateway's alone; all others are for clients and engines."""

    gateway: int
    others: tuple[int, ...]

    @classmethod
    def here(cls) -> Self:
        available = sorted(os.sched_getaffinity(0))
        return cls(available[-1], tuple(available[:-1]) or (available[-1],))


class Child:
    """A process with a log, ended with this object or with the benchmark, whichever goes first."""

    def __init__(
        self, argv: Sequence[str], *, cores: Iterable[int], env: Mapping[str, str], cwd: Path, name: str
    ) -> None:
        """Raises ProcessFailed."""
        self.name = name
        self._log = cwd / f"{name}.log"
        pinned = ["taskset", "-c", ",".join(map(str, cores)), "setpriv", "--pdeathsig", "KILL", *argv]
        with self._log.open("wb") as log:
            try:
                self._process = subprocess.Popen(
                    pinned,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=dict(env),
                    cwd=cwd,
                    start_new_session=True,
                )
            except OSError as exc:
                raise ProcessFailed(f"cannot start {name}: {exc}; install util-linux") from exc

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def logged(self, text: str) -> int:
        """How often it has logged so."""
        return self._log.read_text(errors="replace").count(text)

    def log_tail(self) -> str:
        return self._log.read_text(errors="replace")[-_LOG_TAIL:]

    def signal(self, number: signal.Signals) -> None:
        """To the process itself, unless it is gone."""
        if self.running:
            self._process.send_signal(number)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL to its whole group."""
        if self.running:
            self._process.terminate()
            self._process.send_signal(signal.SIGCONT)
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
        self.kill()

    def kill(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        finally:
            self._process.wait()

    async def listening(self, address: Address, within_s: float) -> None:
        """Until something accepts there. Raises ProcessFailed."""
        await self.until(lambda: accepts(address), f"listen on {address[0]}:{address[1]}", within_s)

    async def until(self, done: Callable[[], bool], what: str, within_s: float) -> None:
        """Raises ProcessFailed."""
        ends = time.monotonic() + within_s
        while not done():
            if not self.running:
                raise ProcessFailed(f"{self.name} ended before it could {what}: {self.log_tail()}")
            if time.monotonic() > ends:
                raise ProcessFailed(f"{self.name} did not {what} in {within_s:.0f} s: {self.log_tail()}")
            await asyncio.sleep(0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop()


def prioritise(pid: int, nice: int) -> None:
    """A process that leads a session, and all of it: sessions share cores evenly before their members do.

    Raises PermissionError.
    """
    os.setpriority(os.PRIO_PROCESS, pid, nice)
    group = Path(f"/proc/{pid}/autogroup")
    if group.exists():
        group.write_text(str(nice))


def accepts(address: Address) -> bool:
    try:
        with socket.create_connection(address, timeout=1):
            return True
    except OSError:
        return False


def free_port(host: str) -> int:
    with socket.create_server((host, 0)) as listener:
        return int(listener.getsockname()[1])


def tree(pid: int) -> list[int]:
    """The process and all below it."""
    found = [pid]
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            children = Path(f"/proc/{pid}/task/{task}/children").read_text().split()
            found += [below for child in children for below in tree(int(child))]
    except OSError:
        return found
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time, of threads that ended too."""
    return sum(_cpu_ticks(pid) for pid in pids) / _TICKS


def rss_bytes(pids: Iterable[int]) -> int:
    return sum(_rss_pages(pid) for pid in pids) * os.sysconf("SC_PAGE_SIZE")


def _cpu_ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def _rss_pages(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
