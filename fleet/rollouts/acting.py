"""Cancelling, rolling back, trying again, and waiting for what comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fleet.errors import GoldenfleetError
from fleet.oncall.aws import Aws
from fleet.oncall.errors import AwsFailed, OnCallError
from fleet.rollouts.errors import NoSuchTier, NothingRuns, NotOver, RolloutError
from fleet.rollouts.reading import RolloutView, load_rollouts, raw_last, raw_policy
from fleet.rollouts.starting import Wish, roll_out
from fleet.rollouts.words import headline, plan_to_cancel, plan_to_retry, plan_to_roll_back

Act = Literal["cancel", "rollback", "retry"]

_LOOK_SECONDS = 5.0
_PLANS: Mapping[Act, Callable[[RolloutView], str]] = {
    "cancel": plan_to_cancel,
    "rollback": plan_to_roll_back,
    "retry": plan_to_retry,
}
WELL: Mapping[str, str] = {
    "cancel": "Cancelled",
    "rollback": "RollbackSuccessful",
    "retry": "Successful",
    "status": "Successful",
}
"""Act -> the status in which a refresh ends as wished."""


def named(views: Sequence[RolloutView], tiers: Sequence[str]) -> list[RolloutView]:
    """Those of the tiers named, or all. Raises NoSuchTier."""
    there = {view.tier: view for view in views}
    if unknown := [tier for tier in tiers if tier not in there]:
        raise NoSuchTier(f"there is no tier {unknown[0]}", f"There are: {', '.join(there) or 'none'}.")
    return [there[tier] for tier in tiers] if tiers else list(views)


def meant(act: Act, views: Sequence[RolloutView], tiers: Sequence[str], stack: str) -> list[RolloutView]:
    """Those that `act` would change. Raises NoSuchTier, and NothingRuns where there is none, or none of a
    tier that was named.
    """
    chosen = named(views, tiers)
    able = [view for view in chosen if _possible(act, view)]
    missing = [view for view in chosen if not _possible(act, view)]
    if missing and (tiers or not able):
        names = ", ".join(view.tier for view in missing)
        raise NothingRuns(_NOTHING[act].format(names=names), _hint(act, missing, stack))
    return able


def plan(act: Act, view: RolloutView) -> str:
    return _PLANS[act](view)


def _possible(act: Act, view: RolloutView) -> bool:
    if view.last is None:
        return False
    if act == "retry":
        return not view.running and view.last.status != "Successful"
    if act == "rollback" and (view.one_way or view.last.status == "RollbackInProgress"):
        return False
    return view.running and view.last.status != "Cancelling"


_NOTHING: Mapping[Act, str] = {
    "cancel": "no rollout runs that could be cancelled: {names}",
    "rollback": "no rollout runs that could be rolled back: {names}",
    "retry": "no rollout came to nothing that could be tried again: {names}",
}


def _hint(act: Act, views: Sequence[RolloutView], stack: str) -> str:
    if act != "rollback":
        return f"`goldenfleet rollout status --stack {stack}` tells what there is."
    sources = sorted({view.channel for view in views if "/" in view.channel}) or ["RECIPE/CHANNEL"]
    back = [f"  goldenfleet images rollback {source.replace('/', ' ')} --stack {stack}" for source in sources]
    return "\n".join(
        [
            "What has been rolled out goes back by another rollout, of the image before:",
            *back,
            f"  goldenfleet up --stack {stack} --engine pulumi",
        ]
    )


def do(aws: Aws, act: Act, view: RolloutView) -> str:
    """Begin it; gives the refresh's id, empty where there was nothing to do any more.

    Raises OnCallError and RolloutError.
    """
    if act == "retry":
        last = raw_last(aws, view.group)
        if last is None:
            return ""
        # A one-way refresh was begun by what the group says still.
        towards = last.get("DesiredConfiguration") or {"MixedInstancesPolicy": raw_policy(aws, view.group)}
        wish = Wish(view.group, towards, last.get("Preferences", {}))
        # Wished before as now: what fallback has raised meanwhile stays.
        return roll_out(aws.client, wish, before=towards).refresh
    operation = "cancel" if act == "cancel" else "rollback"
    call = f"autoscaling.{operation}_instance_refresh"
    try:
        return str(aws.call(call, AutoScalingGroupName=view.group)["InstanceRefreshId"])
    except AwsFailed as error:
        if error.code.startswith("ActiveInstanceRefreshNotFound"):
            return ""  # it has just ended
        raise


def do_all(aws: Aws, act: Act, views: Sequence[RolloutView]) -> tuple[dict[str, str], dict[str, str]]:
    """Tier -> refresh, and tier -> why it was not done. Raises where none was."""
    begun: dict[str, str] = {}
    failed: dict[str, GoldenfleetError] = {}
    for view in views:
        try:
            begun[view.tier] = do(aws, act, view)
        except (OnCallError, RolloutError) as error:
            failed[view.tier] = error
    if failed and not begun:
        raise next(iter(failed.values()))
    return begun, {tier: error.message for tier, error in failed.items()}


@dataclass(frozen=True)
class Waiting:
    """Clock and pause are given so that tests need not wait."""

    timeout_s: float
    pause: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def until_over(self, aws: Aws, tiers: Sequence[str], tell: Callable[[str], None]) -> list[RolloutView]:
        """The tiers, once none of their rollouts runs. Raises NotOver, and OnCallError."""
        deadline, told = self.clock() + self.timeout_s, dict[str, str]()
        while True:
            views = named(load_rollouts(aws), tiers)
            for view, line in _news(views, told):
                told[view.tier] = line
                tell(line)
            if not any(view.running for view in views):
                return views
            if self.clock() >= deadline:
                raise NotOver(
                    f"a rollout still runs after {self.timeout_s:g} s",
                    f"It goes on. To wait again: goldenfleet rollout status --wait {aws.flags}",
                )
            self.pause(_LOOK_SECONDS * min(1.0, aws.time_scale * 2))


def _news(views: Sequence[RolloutView], told: Mapping[str, str]) -> Iterator[tuple[RolloutView, str]]:
    for view in views:
        line = headline(view)
        if told.get(view.tier) != line:
            yield view, line


def exit_code(act: str, views: Sequence[RolloutView]) -> int:
    """0 where all ended as wished, 4 where some did, 1 where none."""
    well = [view.last is None or view.last.status == WELL[act] for view in views]
    return 0 if all(well) else 4 if any(well) else 1
