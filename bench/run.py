"""One run: every measurement of every gateway, in turns, so that a busy minute is unfair to all."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from bench.errors import NotAllowed, OutOfTime, ProcessFailed
from bench.faults import FAULTS, Noticed, Offered, Prepared, prepare
from bench.gateway_loss import Crowd, gateway_killed
from bench.gateways import HEADERS, ROOT, Running, Spec
from bench.hangup import until_engine_stops
from bench.idle_streams import idle_streams
from bench.machine import Machine, MachineWatch
from bench.modes import MODES, Mode, Size, Target
from bench.processes import Cores, prioritise
from bench.soak import soak
from bench.stage import FakeEngine, Stage

SECTIONS = (*get_args(Mode), "faults", "hangup", "gateway-kill", "idle", "soak")
_QUICK = Size(unary_s=1.0, streams=64, stream_tokens=64, rounds=1, full_s=1.0)
_QUICK_OFFERED = Offered(seconds=6.0)
_IDLE_S = 20.0
_IDLE, _QUICK_IDLE = 10_000, 1000
_QUICK_CROWD = Crowd(clients=20, streams=2)


@dataclass(frozen=True)
class Plan:
    """What to measure. `soak_s` is 0 for none; `limit_s` is the most that a run may take.

    `nice` is the priority of clients, engines and gateways alike.
    """

    gateways: Sequence[Spec]
    sections: Collection[str]
    repeats: int = 3
    quick: bool = False
    soak_s: float = 0.0
    limit_s: float = 1800.0
    tree: Path = ROOT
    nice: int = 0
    python: str = sys.executable

    @property
    def size(self) -> Size:
        return _QUICK if self.quick else Size()

    @property
    def offered(self) -> Offered:
        return _QUICK_OFFERED if self.quick else Offered()

    @property
    def crowd(self) -> Crowd:
        return _QUICK_CROWD if self.quick else Crowd()


@dataclass
class Results:
    """Everything that was measured, by section, then gateway; `skipped` says why something was not."""

    runs: dict[Mode, dict[str, list[Mapping[str, float]]]] = field(default_factory=dict)
    faults: dict[str, dict[str, Noticed]] = field(default_factory=dict)
    hangup: dict[str, Mapping[str, float]] = field(default_factory=dict)
    gateway_kill: Mapping[str, float] = field(default_factory=dict)
    idle: Mapping[str, float] = field(default_factory=dict)
    soak: Mapping[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    machine: Machine | None = None


class Run:
    """Tells `say` what it does. What cannot be measured is skipped with its reason."""

    def __init__(self, plan: Plan, directory: Path, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._directory = directory
        self._say = say
        self._cores = Cores.here()
        self.results = Results()

    async def all(self) -> Results:
        """Raises NotAllowed, OutOfTime and ProcessFailed; what was measured until then is in `results`."""
        self._take_place()
        watch = MachineWatch(self._cores, self._plan.python)
        try:
            async with asyncio.timeout(self._plan.limit_s):
                await self._throughput()
                await self._faults()
                await self._hangups()
                await self._gateway_kill()
                await self._idle_streams()
                await self._soak()
        except TimeoutError as exc:
            limit = self._plan.limit_s
            raise OutOfTime(f"the run passed its limit of {limit:.0f} s; raise --limit-s") from exc
        finally:
            self.results.machine = watch.ended()
        return self.results

    def _take_place(self) -> None:
        try:
            if self._plan.nice:
                prioritise(os.getpid(), self._plan.nice)
        except PermissionError as exc:
            raise NotAllowed(f"--nice {self._plan.nice} is for root; leave it out") from exc
        os.sched_setaffinity(0, self._cores.others)

    async def _throughput(self) -> None:
        modes = [mode for mode in get_args(Mode) if mode in self._plan.sections]
        if not modes:
            return
        with self._stage() as stage:
            engines = await stage.engines(2)
            running = await self._started(stage, [engine.address for engine in engines])
            for mode in modes:
                await self._mode(mode, engines, running)

    async def _started(self, stage: Stage, backends: Sequence[tuple[str, int]]) -> list[Running]:
        running = []
        for spec in self._plan.gateways:
            self._say(f"starting {spec.name}")
            try:
                running.append(await stage.gateway(spec, backends))
            except ProcessFailed as exc:
                self._skip(spec, exc)
        return running

    async def _mode(self, mode: Mode, engines: Sequence[FakeEngine], running: Sequence[Running]) -> None:
        size = self._plan.size
        for engine in engines:
            await engine.set(pace_ms=size.pace_s * 1000 if mode == "paced" else 0)
        found = self.results.runs.setdefault(mode, {gateway.spec.name: [] for gateway in running})
        for repeat in range(self._plan.repeats):
            # Each takes its turn to be first.
            for gateway in [*running[repeat % len(running) :], *running[: repeat % len(running)]]:
                hidden = gateway.hidden
                figures = await MODES[mode](_target(gateway, engines), size)
                figures["hidden"] = gateway.hidden - hidden
                found[gateway.spec.name].append(figures)
                shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
                self._say(f"{mode} {repeat + 1}/{self._plan.repeats} {gateway.spec.name}: {shown}")
                await gateway.idle(_IDLE_S)

    async def _faults(self) -> None:
        for repeat in range(self._plan.repeats if "faults" in self._plan.sections else 0):
            for fault in FAULTS:
                found = self.results.faults.setdefault(fault, {})
                for name, one in (await self._fault(fault)).items():
                    found[name] = found[name] + one if name in found else one
                    self._say(f"{fault} {repeat + 1}/{self._plan.repeats} {name}: {_lost(one)}")

    async def _fault(self, fault: str) -> dict[str, Noticed]:
        """All gateways at once: each has engines of its own, and the load is light."""
        with self._stage() as stage:
            prepared = {spec.name: await self._prepared(stage, spec) for spec in self._gateways()}
            ready = {name: one for name, one in prepared.items() if one}
            offered = self._plan.offered
            noticed = await asyncio.gather(*(one.strike(fault, offered) for one in ready.values()))
        return dict(zip(ready, noticed, strict=True))

    async def _prepared(self, stage: Stage, spec: Spec) -> Prepared | None:
        try:
            return await prepare(stage, spec)
        except ProcessFailed as exc:
            self._skip(spec, exc)
            return None

    async def _hangups(self) -> None:
        if "hangup" not in self._plan.sections:
            return
        for spec in self._gateways():
            with self._stage() as stage:
                try:
                    found = await until_engine_stops(stage, spec)
                except (ProcessFailed, OSError) as exc:
                    self._skip(spec, exc)
                    continue
            self.results.hangup[spec.name] = found
            self._say(f"hangup {spec.name}: {found}")

    async def _gateway_kill(self) -> None:
        ours = self._ours()
        if "gateway-kill" not in self._plan.sections or ours is None:
            return
        summed: Counter[str] = Counter()
        for _ in range(self._plan.repeats):
            with self._stage() as stage:
                summed.update(await gateway_killed(stage, ours, self._plan.crowd))
            self.results.gateway_kill = dict(summed)
            self._say(f"gateway-kill: {dict(summed)}")

    async def _idle_streams(self) -> None:
        ours = self._ours()
        if "idle" not in self._plan.sections or ours is None:
            return
        with self._stage() as stage:
            self.results.idle = await idle_streams(stage, ours, _QUICK_IDLE if self._plan.quick else _IDLE)
        self._say(f"idle: {dict(self.results.idle)}")

    async def _soak(self) -> None:
        ours = self._ours()
        if not self._plan.soak_s or ours is None:
            return
        with self._stage() as stage:
            self.results.soak = await soak(stage, ours, self._plan.soak_s)
        self._say(f"soak: {dict(self.results.soak)}")

    def _stage(self) -> Stage:
        return Stage(self._directory, self._cores, self._plan.tree, self._plan.python, self._plan.nice)

    def _gateways(self) -> list[Spec]:
        """Those that pass requests on, and have not failed to start before."""
        skipped = self.results.skipped
        return [spec for spec in self._plan.gateways if spec.kind != "none" and spec.name not in skipped]

    def _ours(self) -> Spec | None:
        return next((spec for spec in self._plan.gateways if spec.kind == "ours"), None)

    def _skip(self, spec: Spec, why: Exception) -> None:
        self.results.skipped[spec.name] = str(why)
        self._say(f"skipping {spec.name}: {why}")


def _target(gateway: Running, engines: Sequence[FakeEngine]) -> Target:
    addresses = [gateway.address] if gateway.child else [engine.address for engine in engines]
    return Target(addresses, HEADERS, lambda: gateway.cpu_seconds)


def _lost(noticed: Noticed) -> str:
    return (
        f"{noticed.unary_failed} of {noticed.unary} unary failed, of {noticed.streams} streams "
        f"{noticed.streams_failed} failed and {noticed.streams_truncated} truncated, {noticed.wrong} wrong; "
        f"slowest unary {noticed.slowest_unary_s:.2f} s, longest gap {noticed.longest_gap_s:.2f} s"
    )
