"""Taking instances away from a running fleet, one step after another."""

from __future__ import annotations

import json
import random
import time
import urllib.request
from collections.abc import Collection, Mapping, Sequence

from fleet.rehearsal import interruptions
from fleet.rehearsal.cloud import Cloud, InstanceView
from fleet.rehearsal.errors import NotInTimeError
from fleet.rehearsal.interruptions import STORM, Step
from fleet.rehearsal.nodes import Nodes
from fleet.rehearsal.progress import Progress
from fleet.rehearsal.report import Interruption
from fleet.rehearsal.watch import Watch

_ADMIN_PORT = 9090
_STORM_SECONDS = 3.0
_AT_STAKE = 6  # requests in flight on a victim, most of them streams: some will be in the middle
_AT_STAKE_SECONDS = 10.0
_SLACK_SECONDS = 60.0  # beyond the notice: a busy machine boots a replacement slowly


class Play:
    """Carries steps out; each waits until the node is gone and its replacement serves."""

    def __init__(
        self,
        cloud: Cloud,
        nodes: Nodes,
        groups: Mapping[str, str],
        watch: Watch,
        progress: Progress,
        *,
        notice_seconds: float,
        seed: int,
    ) -> None:
        self._cloud = cloud
        self._nodes = nodes
        self._groups = groups
        self._watch = watch
        self._progress = progress
        self._deadline_s = notice_seconds * 2 + _SLACK_SECONDS
        self._random = random.Random(seed)
        self.done: list[Interruption] = []

    def run(self, steps: Sequence[Step]) -> None:
        """Raises NotInTimeError when a node does not go, or is not replaced, in time."""
        for step in steps:
            before = {i.instance_id for i in self._cloud.instances()}
            self._settle(self._begin(step, before), before)

    def _begin(self, step: Step, before: Collection[str]) -> list[Interruption]:
        if step.kind == STORM:
            return self._storm()
        if step.kind == "scale-in":
            return [self._scale_in(step, before)]
        victim = self._victim(step)
        return [self._kill(victim) if step.kind == "kill" else self._notice(victim)]

    def _kill(self, victim: InstanceView) -> Interruption:
        self._progress.say(f"killing {_name(victim)} with no notice")
        begun = _interruption("kill", victim)
        self._cloud.kill(victim.instance_id)
        return begun

    def _notice(self, victim: InstanceView) -> Interruption:
        self._progress.say(f"spot notice for {_name(victim)}")
        begun = _interruption("spot", victim)
        self._cloud.interrupt(victim.instance_id)
        return begun

    def _storm(self) -> list[Interruption]:
        victims = interruptions.choose_storm(self._living())
        began = time.monotonic()
        found = []
        for moment, victim in zip(
            sorted(self._random.uniform(0, _STORM_SECONDS) for _ in victims), victims, strict=True
        ):
            self._watch.pause(began + moment - time.monotonic())
            found.append(self._notice(victim))
        return found

    def _scale_in(self, step: Step, before: Collection[str]) -> Interruption:
        group = next(g for g in self._cloud.groups() if g.name == self._groups[step.tier])
        at = time.time()
        # A node that was killed may wait for its hook for as long as that lasts.
        going = {i.instance_id for i in self._cloud.instances() if interruptions.leaves(i)}
        self._progress.say(f"scaling the {step.tier} tier in, from {group.desired} to {group.desired - 1}")
        self._cloud.set_desired(group.name, group.desired - 1)
        chosen: list[InstanceView] = []

        def has_chosen() -> bool:
            found = interruptions.leaving(set(before) - going, self._cloud.instances(), step.tier)
            chosen.extend([found] if found else [])
            return found is not None

        self._watch.wait_until(has_chosen, self._deadline_s, f"the choice of a {step.tier} node to scale in")
        return _interruption("scale-in", chosen[0], at)

    def _victim(self, step: Step) -> InstanceView:
        """Whoever has most at stake; the wait for that is short, for an idle node can go as well."""
        found: list[InstanceView] = []

        def at_stake() -> bool:
            instances = self._living()
            in_flight = {i.instance_id: requests_in_flight(i) for i in instances if i.tier == step.tier}
            found[:] = [interruptions.choose_victim(instances, step, in_flight, self._nodes.virtual)]
            return in_flight.get(found[0].instance_id, 0) >= _AT_STAKE

        try:
            self._watch.wait_until(at_stake, _AT_STAKE_SECONDS, "enough requests in flight")
        except NotInTimeError:
            self._progress.say(f"{_name(found[0])} has little in flight: taking it all the same")
        return found[0]

    def _settle(self, waiting: list[Interruption], before: Collection[str]) -> None:
        first = len(self.done)
        self.done += waiting

        def all_over() -> bool:
            self._look(first, before)
            return all(interruptions.over(i) for i in self.done[first:])

        what = f"the end and replacement of {', '.join(i.instance_id for i in waiting)}"
        self._watch.wait_until(all_over, self._deadline_s, what, self._state)
        for interruption in self.done[first:]:
            self._progress.say(_ending(interruption))

    def _look(self, first: int, before: Collection[str]) -> None:
        instances, now = self._living(), time.time()
        for index in range(first, len(self.done)):
            taken = {i.replacement for n, i in enumerate(self.done) if n != index and i.replacement}
            self.done[index] = interruptions.follow(self.done[index], instances, before, taken, now)

    def _living(self) -> list[InstanceView]:
        return self._nodes.living(self._cloud.instances())

    def _state(self) -> str:
        return "The fleet: " + "; ".join(
            f"{_name(i)} {i.state}, {i.lifecycle_state}, {i.target_state}" for i in self._cloud.instances()
        )


def _interruption(kind: str, victim: InstanceView, at: float | None = None) -> Interruption:
    tier = victim.tier or ""
    return Interruption(kind, tier, victim.instance_id, victim.purchase_option, at or time.time())


def _ending(interruption: Interruption) -> str:
    gone = (interruption.gone_at or interruption.at) - interruption.at
    text = f"{interruption.tier} {interruption.instance_id} gone after {gone:.1f} s"
    if interruption.replaced_at is None:
        return text
    after = interruption.replaced_at - interruption.at
    return f"{text}, {interruption.replacement} serves in its place after {after:.1f} s"


def _name(instance: InstanceView) -> str:
    return (
        f"{instance.tier} {instance.instance_id} ({instance.purchase_option}, {instance.availability_zone})"
    )


def requests_in_flight(instance: InstanceView) -> int:
    """What the node itself says; a node that does not answer has none that could be saved."""
    try:
        with urllib.request.urlopen(f"http://{instance.address}:{_ADMIN_PORT}/state", timeout=2) as response:
            return int(json.load(response)["in_flight"])
    except (OSError, ValueError, KeyError):
        return 0
