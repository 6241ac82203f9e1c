"""Spot runs dry: every spot node is taken away and none is to be had; later it is back. Clients stream on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fleet.rehearsal.cloud import InstanceView
from fleet.rehearsal.cloud.capacity import Split
from fleet.rehearsal.errors import ImpossibleError, RehearsalError
from fleet.rehearsal.nodes import LogEvent, read_log
from fleet.rehearsal.scenarios.scenario import Outcome, Stage

if TYPE_CHECKING:
    from fleet.rehearsal.plan import Checked
    from fleet.rehearsal.report import NodeLife
    from fleet.stack.settings import GatewayTier, ModelTier

DRY_SECONDS = 600.0
"""Of AWS's time: how long there is no spot."""

_SLACK_SECONDS = 60.0  # real: a busy machine boots replacements slowly
_DECIDED = "fallback.decided"


class SpotDry:
    """The tiers are back at their desired capacity on demand, then back on spot; nothing is lost."""

    config: Mapping[str, str] = {}

    def check(self, checked: Checked) -> None:
        falling = _with_spot(checked)
        if not falling:
            raise ImpossibleError("spot cannot run dry: no tier has a spot node", "Start with more nodes.")
        off = [tier.name for tier in falling if not tier.fallback.enabled]
        if off:
            raise ImpossibleError(
                f"tier {off[0]} does not fall back to on-demand nodes",
                f"Set goldenfleet:tiers.{off[0]}.fallback.enabled to true.",
            )
        capped = [tier.name for tier in falling if (tier.fallback.most or tier.capacity.max) < _nodes(tier)]
        if capped:
            raise ImpossibleError(
                f"tier {capped[0]} may not be all on demand",
                f"Raise goldenfleet:tiers.{capped[0]}.fallback.most.",
            )

    def play(self, stage: Stage) -> Outcome:
        story = _Story(stage)
        try:
            return story.tell()
        finally:
            stage.cloud.end_shortages()


@dataclass
class _Story:
    stage: Stage
    began: float = field(default_factory=time.time)
    fewest: dict[str, int] = field(default_factory=dict)
    whole_at: dict[str, float] = field(default_factory=dict)
    told: int = 0
    lines: list[str] = field(default_factory=list)

    def tell(self) -> Outcome:
        scale, tiers, before = self._scale, self._tiers, self._hourly()
        over = self.stage.cloud.run_short("spot", seconds=DRY_SECONDS)
        victims = [i for i in self.stage.cloud.instances() if _is_spot(i)]
        self._say(f"spot is dry for {DRY_SECONDS * scale:g} s; {len(victims)} spot nodes get their notice")
        for victim in victims:
            self.stage.cloud.interrupt(victim.instance_id)
        gone = {victim.instance_id for victim in victims}
        self._until(lambda: self._whole(gone), DRY_SECONDS * scale, "the desired capacity on demand")
        lasting = max(self.whole_at.values())
        self._say(f"as many nodes serve as are desired, {lasting - self.began:.1f} s after the notices")

        self._until(lambda: time.time() >= over, DRY_SECONDS * scale + 1, "the return of spot")
        during = self._hourly()
        self._say("spot is back")
        self._until(self._on_spot, max(map(self._return_s, tiers)), "the return to spot")
        back = time.time()
        self._say(f"all tiers buy spot as before, {back - over:.1f} s after it came back")
        if too_few := [t.name for t in tiers if self.fewest.get(t.name, _nodes(t)) < _nodes(t)]:
            raise RehearsalError(
                f"{', '.join(too_few)} had fewer nodes than desired on the way back to spot",
                "A step down must cost no capacity.",
            )
        return self._outcome(lasting, over, back, (before, during, self._hourly()))

    # ---- what is waited for

    def _whole(self, gone: set[str]) -> bool:
        """Every tier has its desired nodes serving, none of them one that got its notice."""
        instances, now = self.stage.cloud.instances(), time.time()
        for tier in self._tiers:
            serving = [i for i in instances if _serves(i, tier.name) and i.instance_id not in gone]
            if len(serving) >= _nodes(tier):
                self.whole_at.setdefault(tier.name, now)
        return len(self.whole_at) == len(self._tiers)

    def _on_spot(self) -> bool:
        """Every tier is bought as its settings say, and nothing else lives; on the way it is never short."""
        instances, done = self.stage.cloud.instances(), True
        for tier in self._tiers:
            there = [i for i in instances if i.tier == tier.name]
            serving = sum(_serves(i, tier.name) for i in there)
            self.fewest[tier.name] = min(serving, self.fewest.get(tier.name, serving))
            bought = sum(map(_is_spot, there)) == _spot_nodes(tier)
            done = done and bought and len(there) == serving == _nodes(tier)
        return done

    def _return_s(self, tier: GatewayTier | ModelTier) -> float:
        """At most: a hold that doubled, one step after another, each with a boot and a drain."""
        rules, steps = tier.fallback, _spot_nodes(tier).bit_length()
        moving = tier.boot.grace_seconds + tier.drain.hook_seconds
        held = 2 * rules.hold_seconds + steps * (rules.hold_seconds + moving)
        return held * self._scale + _SLACK_SECONDS * (steps + 1)

    def _until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        def met() -> bool:
            self._tell_decisions()
            return condition()

        self.stage.watch.wait_until(met, seconds, what, self._state)
        self._tell_decisions()

    # ---- what is told

    def _tell_decisions(self) -> None:
        for decision in self._decisions()[self.told :]:
            self.told += 1
            self._say(in_words(decision.fields), at=decision.at)

    def _decisions(self) -> list[LogEvent]:
        """Of the control process, since the story began."""
        log = self.stage.run_dir / "control.log"
        return [said for said in read_log(log) if said.event == _DECIDED and said.at >= self.began]

    def _say(self, text: str, at: float | None = None) -> None:
        line = f"{(time.time() if at is None else at) - self.began:6.1f} s  {text}"
        self.stage.progress.say(line)
        self.lines.append(line)

    def _state(self) -> str:
        instances = self.stage.cloud.instances()
        counts = (
            f"{sum(_serves(i, tier.name) for i in instances)} of {_nodes(tier)} nodes of {tier.name} serve"
            for tier in self._tiers
        )
        return f"{'; '.join(counts)}. {'; '.join(self.lines[-3:])}"

    def _hourly(self) -> float:
        """Dollars an hour of the nodes that there are."""
        return sum(i.hourly_price for i in self.stage.cloud.instances() if i.tier is not None)

    def _outcome(self, whole: float, over: float, back: float, hourly: tuple[float, float, float]) -> Outcome:
        before, during, after = hourly
        spent = _spent(self.stage.watch.lives, self.began, back)
        extra = spent - before * (back - self.began) / 3600
        cost = f"${before:.3f}/h before, ${during:.3f}/h on demand, ${after:.3f}/h after"
        whole_s, back_s = whole - self.began, back - over
        times = f"whole on demand after {self._both(whole_s)}, on spot {self._both(back_s)} after its return"
        summary = times, f"{cost}; ${extra / self._scale:.4f} more than spot, in AWS's time"
        figures = {
            "whole_s": round(whole_s, 1),
            "dry_s": round(over - self.began, 1),
            "back_on_spot_s": round(back_s, 1),
            "hourly_before": round(before, 4),
            "hourly_during": round(during, 4),
            "hourly_after": round(after, 4),
            "extra_dollars": round(extra / self._scale, 4),
            "decisions": [{"at_s": round(d.at - self.began, 1), **d.fields} for d in self._decisions()],
        }
        return Outcome("spot-dry", (*self.lines, *summary), figures)

    def _both(self, seconds: float) -> str:
        """Real seconds, and those that they stand for."""
        return f"{seconds:.1f} s ({seconds / self._scale:.0f} s of AWS's)"

    @property
    def _tiers(self) -> list[GatewayTier | ModelTier]:
        return _with_spot(self.stage.checked)

    @property
    def _scale(self) -> float:
        return self.stage.checked.plan.time_scale


def in_words(said: Mapping[str, Any]) -> str:
    """One decision of control's, for people."""
    there = f"{said['on_demand']} on demand and {said['spot']} spot of {said['desired']}"
    if said["base_before"] == said["base_after"]:
        return f"{said['tier']} stays {said['base_before']}: {said['why']}; {there}"
    return f"{said['tier']} base {said['base_before']} -> {said['base_after']}: {said['why']}; {there}"


def _with_spot(checked: Checked) -> list[GatewayTier | ModelTier]:
    return [tier for tier in checked.tiers.values() if _spot_nodes(tier)]


def _nodes(tier: GatewayTier | ModelTier) -> int:
    return tier.capacity.desired


def _spot_nodes(tier: GatewayTier | ModelTier) -> int:
    split = Split(tier.purchase.on_demand_base, tier.purchase.on_demand_percent)
    return tier.capacity.desired - split.on_demand(tier.capacity.desired)


def _is_spot(instance: InstanceView) -> bool:
    return instance.tier is not None and instance.purchase_option == "spot"


def _serves(instance: InstanceView, tier: str) -> bool:
    return instance.tier == tier and instance.state == "running" and instance.target_state == "healthy"


def _spent(lives: Sequence[NodeLife], start: float, end: float) -> float:
    """Dollars between two moments."""
    return sum(node.hours(start, end) * node.hourly_price for node in lives)
