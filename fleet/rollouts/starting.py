"""Starts a rollout: an instance refresh towards what a group shall launch, which can go back.

pulumi-aws has `instanceRefresh` on a group, and it cannot roll back: it first saves the new configuration on
the group, then starts the refresh, and a refresh goes back to what the group said when it began
(hashicorp/terraform-provider-aws#34189, open; "Undo changes with a rollback", Auto Scaling user guide). Nor
does it know bake times. So the group's own policy is left to refreshes alone, and this starts them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from fleet.rollouts.deciding import (
    RUNNING,
    by_requirements,
    next_step,
    next_step_one_way,
    one_way,
    specification,
    version_of,
    with_base_kept,
    with_version,
    without_ringing,
)
from fleet.rollouts.errors import NotOver, RolloutRefused
from fleet.rollouts.spelling import as_request, holds

_CANCEL_SECONDS = 1800.0
_POLL_SECONDS = 2.0
# Of a template's version; its number, times and author say nothing of what it launches.
_CONTENT = "LaunchTemplateData"


Clients = Callable[[str], Any]
"""boto3's client of autoscaling, cloudwatch or ec2."""


@dataclass(frozen=True)
class Wish:
    """What a group shall launch, and how it gets there; both as pulumi-aws or as AWS spells them."""

    group: str
    configuration: Mapping[str, Any]
    preferences: Mapping[str, Any]


@dataclass(frozen=True)
class Begun:
    """`refresh` is empty where there was nothing to do."""

    refresh: str = ""
    unwatched: tuple[str, ...] = ()
    """Alarms that rang already when it began."""


@dataclass(frozen=True)
class Patience:
    """Given so that tests need not wait."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def roll_out(
    clients: Clients,
    wish: Wish,
    before: Mapping[str, Any] | None = None,
    patience: Patience = Patience(),
) -> Begun:
    """Have the group launch what is wished, and replace what it launched before.

    `before` is the configuration that was wished last. Returns at once; a refresh takes its time. Raises
    RolloutRefused, and NotOver where one that is replaced does not end.
    """
    try:
        return _Group(clients, wish.group, patience).go(wish, before)
    except (ClientError, BotoCoreError) as exc:
        hint = "`goldenfleet rollout status` tells what runs; run `up` again."
        raise RolloutRefused(f"no rollout to {wish.group}: {exc}", hint) from exc


@dataclass(frozen=True)
class _Group:
    clients: Clients
    name: str
    patience: Patience

    def go(self, wish: Wish, before: Mapping[str, Any] | None) -> Begun:
        found = self._described()
        now = found.get("MixedInstancesPolicy", {})
        wanted = self._policy(wish.configuration)
        if self._launches_the_same(wanted, now):
            wanted = with_version(wanted, version_of(now))
        wanted = with_base_kept(wanted, None if before is None else self._policy(before), now)
        members = [one["LaunchTemplate"]["Version"] for one in found["Instances"] if _stays(one)]
        if by_requirements(wanted) or by_requirements(now):
            return self._go_one_way(wanted, now, members, wish.preferences)
        match next_step(wanted, now, members, self._let_cancelled_end()):
            case "nothing":
                return Begun()
            case "roll back":
                return Begun(str(self._call("rollback_instance_refresh")["InstanceRefreshId"]))
            case "replace":
                self._cancel()
        return self._start(wanted, wish.preferences)

    def _go_one_way(
        self, wanted: dict[str, Any], now: Mapping[str, Any], members: list[str], wished: Mapping[str, Any]
    ) -> Begun:
        """Where AWS takes no desired configuration. What came before comes back by another rollout only."""
        step = next_step_one_way(wanted, now, members, self._let_cancelled_end())
        if step == "nothing":
            return Begun()
        if step == "replace":
            self._cancel()
        if not holds(now, wanted):
            self._call("update_auto_scaling_group", MixedInstancesPolicy=wanted)
        return self._start(None, wished)

    def _start(self, policy: dict[str, Any] | None, wished: Mapping[str, Any]) -> Begun:
        """Towards `policy`, or towards what the group says."""
        preferences = as_request(self._shape("Preferences"), wished)
        towards = {"DesiredConfiguration": {"MixedInstancesPolicy": policy}} if policy else {}
        if policy is None:
            preferences = one_way(preferences)
        watched = preferences.get("AlarmSpecification", {}).get("Alarms", [])
        ringing = self._ringing(watched) if watched else []
        started = self._call(
            "start_instance_refresh",
            Strategy="Rolling",
            Preferences=without_ringing(preferences, ringing),
            **towards,
        )
        return Begun(str(started["InstanceRefreshId"]), tuple(ringing))

    def _policy(self, configuration: Mapping[str, Any]) -> dict[str, Any]:
        request = as_request(self._shape("DesiredConfiguration"), configuration)
        return dict(request["MixedInstancesPolicy"])

    def _launches_the_same(self, wanted: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
        """Whether two versions differ by number only: going back to an earlier image makes such a pair."""
        template, other = (specification(policy).get("LaunchTemplateId") for policy in (wanted, now))
        versions = [version_of(wanted), version_of(now)]
        if template != other or template is None or versions[0] == versions[1]:
            return False
        try:
            found = self.clients("ec2").describe_launch_template_versions(
                LaunchTemplateId=template, Versions=versions
            )["LaunchTemplateVersions"]
        except ClientError:
            return False  # one of them has been deleted
        return len(found) == len(versions) and found[0][_CONTENT] == found[1][_CONTENT]

    def _described(self) -> dict[str, Any]:
        groups = self.clients("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[self.name])[
            "AutoScalingGroups"
        ]
        if not groups:
            raise RolloutRefused(f"there is no Auto Scaling group {self.name}", "Run `up` to make it.")
        return dict(groups[0])

    def _running(self) -> dict[str, Any] | None:
        found = self._call("describe_instance_refreshes", MaxRecords=1)["InstanceRefreshes"]
        return next((dict(one) for one in found if one["Status"] in RUNNING), None)

    def _ringing(self, alarms: list[str]) -> list[str]:
        kinds = ["MetricAlarm", "CompositeAlarm"]
        found = self.clients("cloudwatch").describe_alarms(AlarmNames=alarms, AlarmTypes=kinds)
        every = (*found["MetricAlarms"], *found["CompositeAlarms"])
        return sorted(one["AlarmName"] for one in every if one["StateValue"] == "ALARM")

    def _cancel(self) -> None:
        self._call("cancel_instance_refresh")
        self._let_end(RUNNING)

    def _let_cancelled_end(self) -> dict[str, Any] | None:
        """What runs then: what is being cancelled can be neither cancelled again nor undone."""
        return self._let_end({"Cancelling"})

    def _let_end(self, statuses: Collection[str]) -> dict[str, Any] | None:
        deadline = self.patience.clock() + _CANCEL_SECONDS
        while (running := self._running()) is not None and running["Status"] in statuses:
            if self.patience.clock() >= deadline:
                raise NotOver(
                    f"the rollout before this one still ends after {_CANCEL_SECONDS:g} s",
                    "See `goldenfleet rollout status`, and run `up` again once it is over.",
                )
            self.patience.sleep(_POLL_SECONDS)
        return running

    def _call(self, operation: str, **request: Any) -> dict[str, Any]:
        client = self.clients("autoscaling")
        return dict(getattr(client, operation)(AutoScalingGroupName=self.name, **request))

    def _shape(self, member: str) -> Any:
        model = self.clients("autoscaling").meta.service_model
        return model.operation_model("StartInstanceRefresh").input_shape.members[member]


def _stays(instance: Mapping[str, Any]) -> bool:
    """One that is on its way out still says what it was launched from."""
    return "LaunchTemplate" in instance and not instance["LifecycleState"].startswith("Terminating")
