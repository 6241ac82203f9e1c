"""What processes use, from /proc: how busy process groups are, and memory of process trees."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


@dataclass(frozen=True)
class Stat:
    """The fields of /proc/<pid>/stat that matter here (proc(5))."""

    pid: int
    parent: int
    group: int
    cpu_seconds: float


def parse_stat(line: str) -> Stat:
    # The command's name is in parentheses and may itself hold spaces and parentheses.
    pid, rest = line.split(" ", 1)
    fields = rest.rsplit(")", 1)[1].split()
    return Stat(int(pid), int(fields[1]), int(fields[2]), (int(fields[11]) + int(fields[12])) / _TICKS)


def processes() -> Iterator[Stat]:
    """Every process of this machine that can be read; those that end meanwhile are left out."""
    for entry in os.listdir(_PROC):
        if entry.isdigit():
            try:
                yield parse_stat((_PROC / entry / "stat").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue


def busy_seconds(stats: Iterable[Stat], groups: Collection[int]) -> Mapping[int, float]:
    """Process group -> seconds in which its living processes had work for a CPU so far, got one or not.

    An instance has its CPUs to itself; here all share this machine's, and whoever waits for one is as busy.
    """
    busy: dict[int, float] = defaultdict(float)
    for stat in stats:
        if stat.group in groups:
            busy[stat.group] += _ready_seconds(stat)
    return busy


def _ready_seconds(stat: Stat) -> float:
    """Time on a CPU and time in the queue for one, of all threads (proc_pid_schedstat, scheduler statistics);
    where the kernel does not count the latter, the former alone.
    """
    found = 0.0
    tasks = _PROC / str(stat.pid) / "task"
    try:
        for task in os.listdir(tasks):
            ran, waited, _ = (tasks / task / "schedstat").read_text().split()
            found += (int(ran) + int(waited)) / 1e9
    except (OSError, ValueError):
        return stat.cpu_seconds
    return found or stat.cpu_seconds


def family(stats: Iterable[Stat], roots: Iterable[int]) -> set[int]:
    """`roots` and all their descendants."""
    children: dict[int, list[int]] = defaultdict(list)
    for stat in stats:
        children[stat.parent].append(stat.pid)
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children[pid]
    return found


def memory_mib(pids: Iterable[int]) -> float:
    """Memory of processes in MiB, pages that several share counted once (PSS)."""
    return sum(_pss_kib(pid) for pid in pids) / 1024


def _pss_kib(pid: int) -> int:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0  # it has ended
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
