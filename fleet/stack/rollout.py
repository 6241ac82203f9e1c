"""Rollout of a tier: whatever its group launches changes by instance refreshes alone, which can go back.

Why not `instanceRefresh` on the group: see fleet/rollouts/starting.py. The group's own policy counts when the
group is made, and Pulumi leaves it alone from then on; this resource holds what it shall be. Its provider is
Pulumi's own for programs in Python ("Dynamic resource providers", Pulumi's documentation): it runs on the
machine that runs `up`, by the same credentials, and asks for StartInstanceRefresh, DescribeInstanceRefreshes,
CancelInstanceRefresh, RollbackInstanceRefresh, DescribeAutoScalingGroups, DescribeLaunchTemplateVersions and
DescribeAlarms beyond what pulumi-aws needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import boto3
import pulumi
import pulumi_aws as aws
from pulumi.dynamic import (
    ConfigureRequest,
    CreateResult,
    DiffResult,
    Resource,
    ResourceProvider,
    UpdateResult,
)

from fleet.errors import SettingsError
from fleet.rollouts import starting
from fleet.stack.naming import resource_name
from fleet.stack.purchase import mixture
from fleet.stack.settings_purchase import Purchase
from fleet.stack.settings_rollout import Rollout as Settings
from fleet.stack.settings_tier import BaseTier
from fleet.stack.tier import Tier

MOST_ALARMS = 10
"""That a refresh may watch: AlarmSpecification, Auto Scaling API reference."""

_UNKNOWN = ("aws:accessKey", "aws:secretKey", "aws:token", "aws:assumeRole", "aws:assumeRoles")
_WISHED = ("group", "configuration", "preferences")


def check_credentials(config: Mapping[str, object]) -> None:
    """Rollouts act with the environment's credentials, or aws:profile's: others of pulumi-aws's would be a
    different account's, perhaps. Raises SettingsError.
    """
    if given := [key for key in _UNKNOWN if config.get(key)]:
        raise SettingsError(
            f"{given[0]} is set, by which pulumi-aws would act and rollouts could not",
            "Put the credentials, or the role, into a profile: AWS_PROFILE or aws:profile.",
        )


class Rollout(Resource, module="goldenfleet", name="Rollout"):
    """Of one group. Only a change of `configuration` starts a refresh."""

    def __init__(
        self,
        name: str,
        group: pulumi.Input[str],
        configuration: Mapping[str, Any],
        preferences: Mapping[str, Any],
        region: str,
        opts: pulumi.ResourceOptions,
    ) -> None:
        props: dict[str, Any] = {"group": group, "configuration": configuration}
        super().__init__(
            RolloutProvider(), name, {**props, "preferences": preferences, "region": region}, opts
        )


class RolloutProvider(ResourceProvider):
    """Kept in the state by the names of this module and class, which must stay importable."""

    def __init__(self) -> None:
        super().__init__()
        self.serialize_as_secret_always = False  # it is two names
        self.profile: str | None = None

    def configure(self, req: ConfigureRequest) -> None:
        self.profile = req.config.get("aws:profile")

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        changed = [key for key in _WISHED if _olds.get(key) != _news.get(key)]
        return DiffResult(changes=bool(changed), replaces=[key for key in changed if key == "group"])

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult(str(props["group"]), self._rolled_out(props, None))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        before = _olds["configuration"]
        told = {"refresh": _olds.get("refresh"), "unwatched": _olds.get("unwatched")}
        if before == _news["configuration"]:
            return UpdateResult({**_news, **told})
        return UpdateResult(self._rolled_out(_news, before))

    def _rolled_out(self, props: dict[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
        session = boto3.Session(profile_name=self.profile, region_name=props["region"])
        wish = starting.Wish(props["group"], props["configuration"], props["preferences"])
        begun = starting.roll_out(lambda service: session.client(service), wish, before)  # type: ignore[call-overload]
        return {**props, "refresh": begun.refresh, "unwatched": list(begun.unwatched)}


def roll_out(stack: str, tier: Tier, settings: BaseTier, alarms: Sequence[pulumi.Input[str]]) -> Rollout:
    """The tier's; `alarms` fail a refresh."""
    return Rollout(
        resource_name(stack, f"{settings.name}-rollout"),
        tier.group.name,
        configuration(settings.purchase, tier.template.id, tier.template.latest_version.apply(str)),
        preferences(settings.rollout, alarms),
        aws.get_region().region,
        pulumi.ResourceOptions(parent=tier),
    )


def configuration(
    purchase: Purchase, template_id: pulumi.Input[str], version: pulumi.Input[str]
) -> dict[str, Any]:
    """What a refresh goes towards: a version by its number, for AWS rolls back to no other."""
    return {"mixedInstancesPolicy": mixture(purchase, template_id, version)}


def preferences(settings: Settings, alarms: Sequence[pulumi.Input[str]]) -> dict[str, Any]:
    """Instance warmup is the group's DefaultInstanceWarmup, as AWS recommends.

    Raises AssertionError for more alarms than AWS takes.
    """
    assert len(alarms) <= MOST_ALARMS, alarms
    watched = {"alarmSpecification": {"alarms": list(alarms)}} if settings.watch_alarms and alarms else {}
    return {
        "minHealthyPercentage": settings.min_healthy_percent,
        # Where it is left out, AWS may end a node before its replacement serves, whatever the minimum is.
        "maxHealthyPercentage": settings.max_healthy_percent,
        "checkpointPercentages": list(settings.checkpoint_percents),
        "checkpointDelay": settings.checkpoint_delay_seconds,
        "bakeTime": settings.bake_seconds,
        "skipMatching": True,
        "autoRollback": True,
        "scaleInProtectedInstances": settings.protected_nodes.capitalize(),
        "standbyInstances": settings.standby_nodes.capitalize(),
        **watched,
    }
