"""Images are promoted and rolled out while clients stream: a good one, one that never gets ready, one that
makes an alarm ring. The bad ones go back by themselves; then the channel is set right.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fleet.rehearsal.cloud import InstanceView
from fleet.rehearsal.errors import ImpossibleError, RehearsalError
from fleet.rehearsal.nodes import REGION
from fleet.rehearsal.resources import Aws
from fleet.rehearsal.scenarios.scenario import Outcome, Stage
from fleet.stack.naming import image_parameter
from fleet.stack.observability_alarms import NEVER_READY as NEVER_READY_ALARM

if TYPE_CHECKING:
    from fleet.rehearsal.plan import Checked

PATIENCE_SECONDS = 600.0
"""Of AWS's time, in place of the hour that AWS tries before a refresh that comes no further fails."""

NEVER_READY = {"GOLDENFLEET_PORT": "8079"}
"""The server listens where no balancer looks."""

_NODE_SECONDS = 60.0  # real: two cores boot a node, and drain one, under load
_ROLLED_BACK = "RollbackSuccessful"


class Rollout:
    """Of all tiers at once, for they boot one recipe. At least as many nodes serve as each tier states."""

    config: Mapping[str, str] = {}

    def check(self, checked: Checked) -> None:
        recipes = {(tier.recipe, tier.channel) for tier in checked.tiers.values()}
        if len(recipes) > 1:
            raise ImpossibleError(
                "the tiers boot images of several channels", "Let them have one recipe and one channel."
            )
        if blind := [tier.name for tier in checked.tiers.values() if not tier.rollout.watch_alarms]:
            raise ImpossibleError(
                f"no alarm fails a rollout of tier {blind[0]}",
                f"Set goldenfleet:tiers.{blind[0]}.rollout.watchAlarms to true.",
            )

    def play(self, stage: Stage) -> Outcome:
        stage.cloud.give_up_refreshes_after(PATIENCE_SECONDS)
        return _Story(stage, Aws(stage.cloud.endpoint_url, REGION)).tell()


@dataclass
class _Act:
    """What one image came to. Seconds are real ones."""

    image_id: str
    began: float
    took_s: dict[str, float] = field(default_factory=dict)
    least: dict[str, int] = field(default_factory=dict)
    furthest: dict[str, int] = field(default_factory=dict)
    """Percent of a tier's nodes that were new."""
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "image": self.image_id,
            "took_s": {tier: round(seconds, 1) for tier, seconds in self.took_s.items()},
            "least_serving": self.least,
            "furthest_percent": self.furthest,
            "reason": self.reason,
        }


@dataclass
class _Story:
    stage: Stage
    aws: Aws
    began: float = field(default_factory=time.time)
    lines: list[str] = field(default_factory=list)

    def tell(self) -> Outcome:
        first = self._images()
        good = self._good()
        unready = self._unready(good.image_id)
        noisy = self._noisy(good.image_id)
        kept = self._set_right(good.image_id)
        figures = {
            "first_image": sorted(first),
            "promised": self._promised,
            "good": good.as_json(),
            "never_ready": unready.as_json(),
            "noisy": noisy.as_json(),
            "set_right": kept,
        }
        return Outcome("rollout", tuple(self.lines), figures)

    # ---- the acts

    def _good(self) -> _Act:
        act = self._promote("a good image")
        self._until_over(act, "Successful", self._patience(whole=True))
        self._expect_images({act.image_id})
        self._expect_no_changes("once it is rolled out")
        self._tell("good image, every node replaced", act)
        return act

    def _unready(self, good: str) -> _Act:
        act = self._promote("an image whose nodes never get ready", spoiled=True)
        self._until_over(act, _ROLLED_BACK, self._patience(whole=False) + self._real(PATIENCE_SECONDS))
        self._expect_images({good})
        self._tell("never ready, rolled back", act)
        self._say(f"never ready: {act.reason}")
        # Without the control handler nobody counts the nodes that are given up, and AWS's hour is left.
        if self.stage.checked.plan.watchers != "imds" and NEVER_READY_ALARM not in act.reason:
            raise RehearsalError(f"no alarm on nodes that never got ready sent the image back: {act.reason}")
        self._expect_no_changes("after a rollback: what was refused is not tried again")
        return act

    def _noisy(self, good: str) -> _Act:
        act = self._promote("an image that makes an alarm ring")
        self._until(act, self._at_checkpoint, self._patience(whole=True), "the first checkpoint")
        alarm = self._shared_alarm()
        self._say(f"noisy image: at its checkpoints {alarm} rings")
        self._ring(alarm, "ALARM")
        try:
            self._until_over(act, _ROLLED_BACK, self._patience(whole=False))
        finally:
            self._ring(alarm, "OK")
        self._expect_images({good})
        self._tell("noisy image, rolled back", act)
        return act

    def _set_right(self, good: str) -> dict[str, Any]:
        """The channel points at the good image again, as `goldenfleet images rollback` leaves it."""
        before = self._serving()
        refreshes = self._count_refreshes()
        self._publish(good)
        changed = self._up()
        self._expect_no_changes("once the channel is set right")
        if self._count_refreshes() != refreshes:
            raise RehearsalError("setting the channel right began a rollout of what runs already")
        if gone := before - self._serving():
            raise RehearsalError(f"setting the channel right replaced {', '.join(sorted(gone))}")
        self._say(f"channel set right: up changed {len(changed)} resources, and replaced no node")
        return {"changed": changed, "replaced": 0}

    # ---- what is done

    def _promote(self, what: str, *, spoiled: bool = False) -> _Act:
        tier = next(iter(self.stage.checked.tiers.values()))
        image = self.stage.cloud.register_image(tier.recipe, self._stack, tier.channel)
        if spoiled:
            self.stage.nodes.spoil(image, NEVER_READY)
        act = _Act(image, time.time())
        self._say(f"{what} is promoted: {image}")
        changed = self._up()
        self._say(f"up changed {len(changed)} resources, and rollouts began")
        kinds = {urn.split("::")[2].rpartition("$")[2].rpartition(":")[2] for urn in changed}
        if not kinds <= {"LaunchTemplate", "Rollout"}:
            raise RehearsalError(f"an image changed more than templates and rollouts: {', '.join(changed)}")
        return act

    def _up(self) -> list[str]:
        return [step.urn for step in self.stage.pulumi.up().steps if step.op != "same"]

    def _expect_no_changes(self, when: str) -> None:
        if changed := self._up():
            raise RehearsalError(f"up changed {', '.join(changed)} {when}")

    def _publish(self, image_id: str) -> None:
        tier = next(iter(self.stage.checked.tiers.values()))
        name = image_parameter(self._stack, tier.recipe, tier.channel)
        self.aws.call("ssm.PutParameter", Name=name, Value=image_id, Overwrite=True)

    def _ring(self, alarm: str, state: str) -> None:
        said = {"StateValue": state, "StateReason": "the rehearsal says so"}
        self.aws.call("cloudwatch.SetAlarmState", AlarmName=alarm, **said)

    # ---- what is looked at

    @property
    def _stack(self) -> str:
        return self.stage.checked.plan.stack

    @property
    def _tiers(self) -> Sequence[str]:
        return list(self.stage.checked.tiers)

    @property
    def _promised(self) -> dict[str, int]:
        return {
            name: -(-tier.capacity.desired * tier.rollout.min_healthy_percent // 100)
            for name, tier in self.stage.checked.tiers.items()
        }

    def _last(self, tier: str) -> dict[str, Any]:
        found = self._refreshes(tier)
        return found[0] if found else {"Status": "none", "PercentageComplete": 0}

    def _refreshes(self, tier: str) -> list[dict[str, Any]]:
        name = self.stage.group(tier)
        answer = self.aws.call("autoscaling.DescribeInstanceRefreshes", AutoScalingGroupName=name)
        return list(answer["InstanceRefreshes"])

    def _count_refreshes(self) -> int:
        return sum(len(self._refreshes(tier)) for tier in self._tiers)

    def _at_checkpoint(self) -> bool:
        return all("Checkpoint" in self._last(tier).get("StatusReason", "") for tier in self._tiers)

    def _shared_alarm(self) -> str:
        """One that clients notice: every tier's rollout watches it."""
        watched = [self._last(tier)["Preferences"]["AlarmSpecification"]["Alarms"] for tier in self._tiers]
        return str(min(set.intersection(*map(set, watched))))

    def _serving(self) -> set[str]:
        return {one.instance_id for one in self.stage.cloud.instances() if _serves(one)}

    def _images(self) -> set[str]:
        return {one.image_id for one in self.stage.cloud.instances() if _serves(one)}

    def _expect_images(self, wanted: set[str]) -> None:
        if self._images() != wanted:
            raise RehearsalError(f"nodes of {', '.join(sorted(self._images() - wanted))} serve")

    def _until_over(self, act: _Act, status: str, seconds: float) -> None:
        def over() -> bool:
            for tier in self._tiers:
                last = self._last(tier)
                if last["Status"] == status and tier not in act.took_s:
                    act.took_s[tier] = time.time() - act.began
                elif last["Status"] not in (status, "Pending", "InProgress", "Baking", "RollbackInProgress"):
                    raise RehearsalError(f"the rollout of {tier} became {last['Status']}, not {status}")
                act.reason = act.reason or last.get("RollbackDetails", {}).get("RollbackReason", "")
            return len(act.took_s) == len(self._tiers)

        self._until(act, over, seconds, f"rollouts that end as {status}")

    def _until(self, act: _Act, condition: Callable[[], bool], seconds: float, what: str) -> None:
        def met() -> bool:
            self._count(act, self.stage.cloud.instances())
            return condition()

        self.stage.watch.wait_until(met, seconds, what, self._state)
        if short := [tier for tier, least in act.least.items() if least < self._promised[tier]]:
            raise RehearsalError(
                f"{', '.join(short)} had fewer serving nodes than stated: {act.least}, not {self._promised}",
                "A rollout must cost no capacity beyond what its settings state.",
            )

    def _count(self, act: _Act, instances: Sequence[InstanceView]) -> None:
        for tier in self._tiers:
            count = sum(_serves(one) for one in instances if one.tier == tier)
            act.least[tier] = min(count, act.least.get(tier, count))
            percent = self._last(tier)["PercentageComplete"]
            act.furthest[tier] = max(percent, act.furthest.get(tier, 0))

    def _patience(self, *, whole: bool) -> float:
        """Real seconds that a rollout, or its way back, may take: AWS's waits, and booting here."""
        tiers = self.stage.checked.tiers.values()
        waits = max(
            len(t.rollout.checkpoint_percents) * t.rollout.checkpoint_delay_seconds + t.rollout.bake_seconds
            for t in tiers
        )
        nodes = max(tier.capacity.desired for tier in tiers)
        return _NODE_SECONDS * (nodes + 1) + (self._real(waits) if whole else 0)

    def _real(self, seconds: float) -> float:
        return seconds * self.stage.checked.plan.time_scale

    # ---- what is told

    def _tell(self, what: str, act: _Act) -> None:
        for tier in self._tiers:
            self._say(
                f"{what}: {tier} in {act.took_s[tier]:.0f} s, {act.furthest[tier]}% were new, "
                f"{act.least[tier]} served of {self._promised[tier]} promised"
            )

    def _state(self) -> str:
        told = [f"{tier}: {self._last(tier)}" for tier in self._tiers]
        nodes = [
            f"{one.tier} {one.instance_id} {one.image_id}: {one.state}, {one.lifecycle_state}, "
            f"{one.target_state}"
            for one in self.stage.cloud.instances()
        ]
        return "\n".join([*told, *nodes])

    def _say(self, text: str) -> None:
        line = f"{time.time() - self.began:6.1f} s  {text}"
        self.stage.progress.say(line)
        self.lines.append(line)


def _serves(instance: InstanceView) -> bool:
    return instance.state == "running" and instance.target_state == "healthy"
