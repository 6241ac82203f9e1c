"""What the figures were measured on, and what else it was doing."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.processes import Cores


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Ticks since boot, of all cores together."""

    total: int
    idle: int
    steal: int

    @classmethod
    def now(cls) -> Self:
        return cls.read(Path("/proc/stat").read_text())

    @classmethod
    def read(cls, stat: str) -> Self:
        """Of /proc/stat's first line: user nice system idle iowait irq softirq steal guest guest_nice."""
        ticks = [int(field) for field in stat.splitlines()[0].split()[1:9]]
        return cls(sum(ticks), ticks[3] + ticks[4], ticks[7])

    def shares_since(self, earlier: CpuTimes) -> tuple[float, float]:
        """Of that time: the share that was used, the share that the host took."""
        total = max(1, self.total - earlier.total)
        return 1 - (self.idle - earlier.idle) / total, (self.steal - earlier.steal) / total


@dataclass(frozen=True)
class Machine:
    """As it was when the run began, and in the end what the run shared it with."""

    started: str
    cpu: str
    cores: Cores
    python: str
    kernel: str
    load_before: float
    load_after: float
    steal_percent: float
    busy_percent: float

    def __str__(self) -> str:
        return (
            f"{self.started}, {self.cpu}, {len(self.cores.others) + 1} cores, ours on {self.python}; "
            f"load average {self.load_before:.1f} before and {self.load_after:.1f} after, "
            f"{self.busy_percent:.0f} % of CPU time used, {self.steal_percent:.1f} % stolen by the host"
        )


class MachineWatch:
    """From now until `ended` is asked. `python` is what runs ours."""

    def __init__(self, cores: Cores, python: str) -> None:
        self._cores = cores
        self._python = python
        self._began = CpuTimes.now()
        self._load = os.getloadavg()[0]
        self._started = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())

    def ended(self) -> Machine:
        used, stolen = CpuTimes.now().shares_since(self._began)
        return Machine(
            started=self._started,
            cpu=_cpu_model(Path("/proc/cpuinfo").read_text()),
            cores=self._cores,
            python=self._python,
            kernel=platform.release(),
            load_before=self._load,
            load_after=os.getloadavg()[0],
            steal_percent=stolen * 100,
            busy_percent=used * 100,
        )


def _cpu_model(cpuinfo: str) -> str:
    names = (line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name"))
    return next(names, platform.machine())
