"""Load comes and goes: a model tier grows by target tracking on CPU, and shrinks when the rush is over."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from fleet.rehearsal.cloud.tracking import SCALE_IN_SECONDS, Decision
from fleet.rehearsal.errors import ImpossibleError, RehearsalError
from fleet.rehearsal.scenarios.scenario import Outcome, Stage

if TYPE_CHECKING:
    from fleet.rehearsal.plan import Checked

_SLACK_SECONDS = 90.0  # a busy machine boots slowly, and its nodes take long to look busy
_MINUTE = 60.0


class Scaling:
    """The clients of the load become quiet, then hurried, then quiet again; all the while they stream."""

    config: Mapping[str, str] = {}

    def __init__(self, calm_s: float = 60.0) -> None:
        """`calm_s`: how long the tier may take to look quiet at first."""
        self._calm_s = calm_s

    def check(self, checked: Checked) -> None:
        tier = checked.settings.models[0]
        where = f"goldenfleet:tiers.{tier.name}"
        if tier.scaling.cpu_target_percent is None or not tier.scaling.scale_in:
            raise ImpossibleError(
                f"tier {tier.name} is not scaled by CPU both ways",
                f"Set {where}.scaling.cpuTargetPercent to 70 and {where}.scaling.scaleIn to true.",
            )
        if tier.capacity.max <= tier.capacity.desired:
            raise ImpossibleError(
                f"tier {tier.name} begins at its capacity.max {tier.capacity.max}, so that it cannot grow",
                f"Raise {where}.capacity.max.",
            )

    def play(self, stage: Stage) -> Outcome:
        tier = stage.checked.settings.models[0].name
        story = _Story(stage, tier, self._calm_s)
        try:
            return story.tell()
        finally:
            stage.processes.signal("load", signal.SIGUSR2)


@dataclass
class _Story:
    stage: Stage
    tier: str
    calm_s: float
    began: float = field(default_factory=time.time)
    told: dict[str, int] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    decisions: list[dict[str, object]] = field(default_factory=list)

    def tell(self) -> Outcome:
        self._quiet()
        self.stage.follow_load()
        self._until(lambda: self._last("falling") is not None, self.calm_s, "a look at a quiet tier")
        before = self._desired()

        self.stage.progress.say(f"the clients hurry: {self.tier} has {before} nodes")
        self.stage.processes.signal("load", signal.SIGUSR2)
        rush = time.time()
        grown = self._until_changed(lambda d: d.after > d.before, rush, 3 * _MINUTE, "scaling out")
        self._until(lambda: self._serving() >= grown.after, _SLACK_SECONDS, "new nodes that serve")
        served = time.time()

        self.stage.progress.say(f"{grown.after} nodes of {self.tier} serve; the clients become quiet")
        self._quiet()
        lull = time.time()
        shrunk = self._until_changed(lambda d: d.after < d.before, lull, SCALE_IN_SECONDS, "scaling in")
        self._until(lambda: self._members() <= shrunk.after, self._drain_s, "the end of nodes scaled in")
        return self._outcome(
            before=before,
            grown=grown.after,
            most=shrunk.before,  # a slow machine has decided more than once by then
            after=shrunk.after,
            out_decided_s=grown.at - rush,
            out_serving_s=served - rush,
            in_decided_s=shrunk.at - lull,
            in_gone_s=time.time() - lull,
        )

    def _quiet(self) -> None:
        self.stage.processes.signal("load", signal.SIGUSR1)

    def _until_changed(
        self, wanted: Callable[[Decision], bool], since: float, alarm_s: float, what: str
    ) -> Decision:
        """The first such decision after `since`; `alarm_s` is what AWS takes for it."""

        def found() -> Decision | None:
            made = self.stage.cloud.decisions(self.stage.group(self.tier))
            return next((d for d in made if d.at >= since and d.after != d.before and wanted(d)), None)

        scaled = alarm_s * self.stage.checked.plan.time_scale
        self._until(lambda: found() is not None, scaled + _SLACK_SECONDS, what)
        decision = found()
        assert decision is not None
        if decision.metric != "ASGAverageCPUUtilization" and decision.after > decision.before:
            raise RehearsalError(
                f"{self.tier} grew by {decision.metric}, not by CPU", "Raise its scaling.inFlightPerNode."
            )
        return decision

    def _until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        def met() -> bool:
            self._tell_decisions()
            return condition()

        self.stage.watch.wait_until(met, seconds, what, self._state)
        self._tell_decisions()

    def _tell_decisions(self) -> None:
        """Say each decision of any tier as it comes."""
        for group in self.stage.cloud.groups():
            made = self.stage.cloud.decisions(group.name)
            for decision in made[self.told.get(group.name, 0) :]:
                if decision.at >= self.began:
                    self._tell_one(str(group.tier), decision)
            self.told[group.name] = len(made)

    def _tell_one(self, tier: str, decision: Decision) -> None:
        line = f"{decision.at - self.began:6.1f} s  {in_words(tier, decision)}"
        self.stage.progress.say(line)
        self.lines.append(line)
        at_s = round(decision.at - self.began, 1)
        self.decisions.append({"tier": tier, **asdict(decision), "at_s": at_s})

    def _last(self, why: str) -> Decision | None:
        made = self.stage.cloud.decisions(self.stage.group(self.tier))
        return made[-1] if made and made[-1].why == why else None

    def _desired(self) -> int:
        return next(g.desired for g in self.stage.cloud.groups() if g.tier == self.tier)

    def _serving(self) -> int:
        living = (i for i in self.stage.cloud.instances() if i.tier == self.tier and i.state == "running")
        return sum(instance.target_state == "healthy" for instance in living)

    def _members(self) -> int:
        return next(len(g.instance_ids) for g in self.stage.cloud.groups() if g.tier == self.tier)

    @property
    def _drain_s(self) -> float:
        tier = self.stage.checked.settings.tier(self.tier)
        leaving = tier.drain.deregistration_delay_seconds + tier.drain.hook_seconds
        return leaving * self.stage.checked.plan.time_scale + _SLACK_SECONDS

    def _state(self) -> str:
        return (
            f"{self._serving()} of {self._desired()} nodes of {self.tier} serve; {'; '.join(self.lines[-3:])}"
        )

    def _outcome(self, **figures: float) -> Outcome:
        told = {key: round(value, 1) for key, value in figures.items()}
        out = (
            f"{self.tier} {told['before']:g} -> {told['grown']:g}: decided {told['out_decided_s']} s after "
            f"the rush began, {told['out_serving_s']} s until all served"
        )
        back = (
            f"{self.tier} {told['most']:g} -> {told['after']:g}: decided {told['in_decided_s']} s after it "
            f"ended, {told['in_gone_s']} s until the last node was gone"
        )
        return Outcome("scaling", (*self.lines, out, back), {**told, "decisions": self.decisions})


def in_words(tier: str, decision: Decision) -> str:
    """One decision, for people."""
    value = "nothing" if decision.value is None else f"{decision.value:.1f}"
    seen = f"{decision.metric} {value}, target {decision.target:g}"
    lasted = f" for {decision.lasted_s:.1f} s" if decision.lasted_s else ""
    if decision.after != decision.before:
        return f"{tier} {decision.before} -> {decision.after}: {seen}; {decision.why}{lasted}"
    return f"{tier} stays {decision.before}: {seen}; {decision.why}{lasted}"
