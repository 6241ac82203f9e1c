"""Fallback against the emulated cloud: what it reads, what it changes, and what becomes of the group."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import boto3
import pytest

from fleet.control.errors import AwsFailed
from fleet.control.fallback import Memory, Rules
from fleet.control.fallback_account import FallbackAccount, TierGroup, failed_launches, lacks_spot
from fleet.control.fallback_record import MEMORY_TAG, RULES_TAG, read_memory, read_rules, write_memory
from fleet.control.fallback_round import Fallback
from fleet.control.log import Log

RULES = {"enabled": True, "base": 0, "most": 4, "after": 30, "hold": 300, "longestHold": 1200}


@pytest.fixture
def tier(fleet: Any) -> Any:
    """The small fleet's group with rules: four wanted of four at most, all of them spot."""
    groups = boto3.client("autoscaling")
    groups.update_auto_scaling_group(AutoScalingGroupName=fleet.group, DesiredCapacity=4)
    _tag(fleet, RULES_TAG, json.dumps(RULES))
    fleet.settle()
    assert _options(fleet) == {"spot": 4}
    return fleet


def _tag(fleet: Any, key: str, value: str) -> None:
    of_group = {"ResourceId": fleet.group, "ResourceType": "auto-scaling-group", "PropagateAtLaunch": False}
    boto3.client("autoscaling").create_or_update_tags(Tags=[{**of_group, "Key": key, "Value": value}])


def _options(fleet: Any) -> dict[str, int]:
    """Members in service by how they were bought."""
    return dict(Counter(i.purchase_option for i in fleet.members()))


def _described(fleet: Any) -> dict[str, Any]:
    found = boto3.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[fleet.group])
    return dict(found["AutoScalingGroups"][0])


def _base(fleet: Any) -> int:
    return int(_described(fleet)["MixedInstancesPolicy"]["InstancesDistribution"]["OnDemandBaseCapacity"])


def _minutes(fleet: Any, minutes: int) -> list[int]:
    """The handler's schedule for so long, in steps of AWS's half minutes; the base after each look."""
    fallback = Fallback(FallbackAccount("lab"), Log(fleet.out, fleet.clock))
    bases = []
    for half in range(2 * minutes):
        fleet.clock.now += 30
        fleet.cloud.tick()
        if half % 2:
            fallback.run(fleet.clock.now)
            fleet.cloud.tick()
            bases.append(_base(fleet))
    return bases


def _take_spot(fleet: Any, count: int) -> None:
    for instance in [i for i in fleet.members() if i.purchase_option == "spot"][:count]:
        boto3.client("ec2").terminate_instances(InstanceIds=[instance.instance_id])


# ---- what is read


@pytest.mark.parametrize(
    "told",
    [
        "",
        "{",
        "[]",
        '{"base": 1}',
        '{"base": "many", "most": 2, "after": 1, "hold": 1, "longestHold": 1, "enabled": true}',
    ],
)
def test_rules_that_nobody_can_read(told: str) -> None:
    """A group without readable rules is not ours to change."""
    assert read_rules({RULES_TAG: told}) is None


def test_rules_of_a_rehearsal() -> None:
    """Its seconds are AWS's times the scale; numbers of nodes stay."""
    scaled = Rules(0, 4, 3.0, 30.0, 120.0, rollout_patience_s=30.0)
    assert read_rules({RULES_TAG: json.dumps(RULES)}, 0.1) == scaled


def test_a_rollout_has_five_minutes_at_the_least() -> None:
    """Else a single failed launch would cancel it, where fallback waits for nothing."""
    for after, patience in ((0, 300.0), (30, 300.0), (60, 600.0)):
        rules = read_rules({RULES_TAG: json.dumps({**RULES, "after": after})})
        assert rules is not None
        assert rules.rollout_patience_s == patience


@pytest.mark.parametrize(
    "told", ["", "null", "{}", '{"base":1,"at":"x","lowered":0,"failed":0,"shortSince":null}']
)
def test_a_memory_that_nobody_can_read(told: str) -> None:
    """It is as if there were none."""
    assert read_memory({MEMORY_TAG: told}) is None


@pytest.mark.parametrize("memory", [Memory(999, 1e10, 512, 16, 1e10 + 0.123), Memory(0, 0.5)])
def test_a_memory_is_kept(memory: Memory) -> None:
    """What is written is read again, and fits into a tag of 256 characters."""
    assert read_memory({MEMORY_TAG: write_memory(memory)}) == memory
    assert len(write_memory(memory)) <= 256


SPOT, ON_DEMAND = "Could not launch Spot Instances. ", "Could not launch On-Demand Instances. "


@pytest.mark.parametrize(
    "said",
    [
        "There is no Spot capacity available that matches your request.",
        f"{SPOT}UnfulfillableCapacity - Unable to fulfill capacity due to your request configuration.",
        f"{SPOT}UnfulfillableCapacity - There is no capacity available that matches your request.",
        f"{SPOT}InsufficientInstanceCapacity - There is no Spot capacity available that matches.",
        f"{SPOT}MaxSpotInstanceCountExceeded - Max spot instance count exceeded.",
        "Max spot instance count exceeded.",
        "Your Spot request price of 0.1 is lower than the minimum required fulfillment price of 0.2.",
    ],
)
def test_what_a_shortage_of_spot_sounds_like(said: str) -> None:
    """AWS's own words, as people report them."""
    assert lacks_spot(f"{said} Launching EC2 instance failed.")


@pytest.mark.parametrize(
    "said",
    [
        "",
        f"{SPOT}InvalidParameterCombination - The specified instance type is not eligible for Free Tier.",
        f"{SPOT}InvalidFleetConfiguration - Your requested instance type (p3.8xlarge) is not supported.",
        f"{ON_DEMAND}InsufficientInstanceCapacity - There is no capacity available that matches.",
        "The AMI ID 'ami-1' does not exist.",
    ],
)
def test_what_it_does_not_sound_like(said: str) -> None:
    """A mistake, or a shortage of on-demand nodes, is not answered by more on-demand nodes."""
    assert not lacks_spot(f"{said} Launching EC2 instance failed.")


@pytest.mark.parametrize("refusal", ["unfulfillable", "no-capacity", "quota"])
@pytest.mark.parametrize("option", ["spot", "on-demand"])
def test_a_shortage_that_was_asked_for(fleet: Any, option: Any, refusal: Any) -> None:
    """The emulated cloud refuses launches of the option in AWS's words, for as long as asked, no longer."""
    groups = boto3.client("autoscaling")
    policy = {"InstancesDistribution": {"OnDemandBaseCapacity": 4 if option == "on-demand" else 0}}
    groups.update_auto_scaling_group(
        AutoScalingGroupName=fleet.group, DesiredCapacity=4, MixedInstancesPolicy=policy
    )
    fleet.cloud.run_short(option, seconds=300, group=fleet.group, refusal=refusal)
    fleet.settle()
    activities = groups.describe_scaling_activities(AutoScalingGroupName=fleet.group)["Activities"]
    spot, on_demand = failed_launches(activities)
    assert bool(spot) == (option == "spot")
    assert bool(on_demand) == (option == "on-demand")
    assert len(fleet.members()) == 2
    fleet.clock.now += 300
    fleet.settle()
    assert len(fleet.members()) == 4


# ---- what is done


def test_a_tier_at_rest_costs_one_call(tier: Any) -> None:
    """Nothing but the groups is asked for while nothing is missing, and nothing is said."""

    class Counted(FallbackAccount):
        calls = 0

        def spot_ids(self, group: str) -> frozenset[str]:
            self.calls += 1
            return super().spot_ids(group)

    account = Counted("lab")
    assert Fallback(account, Log(tier.out, tier.clock)).run(tier.clock.now) is None
    assert account.calls == 0
    assert tier.logged("fallback.decided") == []


def test_another_stack(tier: Any) -> None:
    """Only the own stack's groups are looked at."""
    assert FallbackAccount("other").tiers() == []


def test_dry_and_back(tier: Any) -> None:
    """Spot dry for ten minutes: whole on demand within three, then back on spot, and whole throughout."""
    dry = tier.clock.now
    tier.cloud.run_short(seconds=600, group=tier.group)
    _take_spot(tier, 3)
    first = _minutes(tier, 3)
    assert first[-1] == 3
    assert _options(tier) == {"spot": 1, "on-demand": 3}
    there = []
    while _options(tier) != {"spot": 4} and tier.clock.now < dry + 3600:
        _minutes(tier, 1)
        there.append(len(tier.members()))
    assert _options(tier) == {"spot": 4}
    assert min(there) == 4
    lines = tier.logged("fallback.decided")
    assert [line["above"] for line in lines][-1] == 0
    assert all(set(line) >= {"tier", "base_before", "base_after", "desired", "why"} for line in lines)


def test_only_the_base_changes(tier: Any) -> None:
    """Every other part of the group's policy, and of the group, is as it was."""
    before = _described(tier)
    account = FallbackAccount("lab")
    [group] = account.tiers()
    account.set_base(group, 2)
    after = _described(tier)
    assert after["MixedInstancesPolicy"]["InstancesDistribution"].pop("OnDemandBaseCapacity") == 2
    before["MixedInstancesPolicy"]["InstancesDistribution"].pop("OnDemandBaseCapacity")
    assert after == before


def test_the_memory_is_not_handed_to_instances(tier: Any) -> None:
    """Instances that are launched later do not carry the handler's memory as a tag."""
    [group] = FallbackAccount("lab").tiers()
    FallbackAccount("lab").remember(group.name, Memory(1, 5.0))
    assert FallbackAccount("lab").tiers()[0].memory == Memory(1, 5.0)
    _take_spot(tier, 1)
    tier.clock.now += 60
    tier.settle()
    assert all(MEMORY_TAG not in instance.tags for instance in tier.members())


class Flaky(FallbackAccount):
    """An account that refuses some calls."""

    refused: frozenset[str] = frozenset()

    def set_base(self, group: TierGroup, base: int) -> None:
        if "set_base" in self.refused:
            raise AwsFailed("UpdateAutoScalingGroup", "Throttling", "Rate exceeded")
        super().set_base(group, base)

    def cancel_rollout(self, group: str) -> None:
        if "cancel_rollout" in self.refused:
            raise AwsFailed("CancelInstanceRefresh", "Throttling", "Rate exceeded")
        super().cancel_rollout(group)

    def tiers(self) -> list[TierGroup]:
        if "tiers" in self.refused:
            raise AwsFailed("DescribeAutoScalingGroups", "Throttling", "Rate exceeded")
        return super().tiers()


def test_a_handler_that_dies_between_intent_and_change(tier: Any) -> None:
    """What was intended, and not carried out, the next look carries out."""
    account = Flaky("lab")
    fallback = Fallback(account, Log(tier.out, tier.clock))
    tier.cloud.run_short(seconds=6000)
    _take_spot(tier, 2)
    tier.settle()
    tier.clock.now += 60
    account.refused = frozenset({"set_base"})
    fallback.run(tier.clock.now)
    assert _base(tier) == 0
    assert [line["tier"] for line in tier.logged("fallback.failed")] == [tier.group]
    account.refused = frozenset()
    fallback.run(tier.clock.now)
    assert _base(tier) == 2


def test_a_throttled_account(tier: Any) -> None:
    """It is said, and nothing else happens: the next look comes by itself."""
    account = Flaky("lab")
    account.refused = frozenset({"tiers"})
    assert Fallback(account, Log(tier.out, tier.clock)).run(tier.clock.now) is None
    assert "Throttling" in tier.logged("fallback.failed")[0]["error"]


def test_an_update_in_the_middle(tier: Any) -> None:
    """An update of the stack that sends the configured base along is undone at the next look."""
    tier.cloud.run_short(seconds=6000)
    _take_spot(tier, 2)
    _minutes(tier, 3)
    assert _base(tier) == 2
    policy = {"InstancesDistribution": {"OnDemandBaseCapacity": 0}}
    boto3.client("autoscaling").update_auto_scaling_group(
        AutoScalingGroupName=tier.group, MixedInstancesPolicy=policy
    )
    Fallback(FallbackAccount("lab"), Log(tier.out, tier.clock)).run(tier.clock.now)
    assert _base(tier) == 2
    assert tier.logged("fallback.decided")[-1]["why"] == "an update took the base back"


def test_a_step_in_vain_ends_nobody(tier: Any) -> None:
    """While spot stays dry, a step is tried and taken back, and the same on-demand nodes serve throughout."""
    tier.cloud.run_short(seconds=100_000)
    _take_spot(tier, 4)
    _minutes(tier, 3)
    served = {i.instance_id for i in tier.members()}
    bases = _minutes(tier, 12)
    assert sorted(set(bases)) == [3, 4]
    assert {i.instance_id for i in tier.members()} == served
    whys = [line["why"] for line in tier.logged("fallback.decided")]
    assert "trying whether spot is back" in whys
    assert "spot is not back" in whys


# ---- beside a rollout


def _roll_out(fleet: Any) -> None:
    """One node is new, and the rollout stops for an hour to be looked at."""
    policy = _described(fleet)["MixedInstancesPolicy"]
    named = policy["LaunchTemplate"]["LaunchTemplateSpecification"]
    image = fleet.cloud.register_image("model-cpu", "lab", "dev")
    boto3.client("ec2").create_launch_template_version(
        LaunchTemplateId=named["LaunchTemplateId"],
        LaunchTemplateData={"ImageId": image, "InstanceType": "c7i.large"},
    )
    policy["LaunchTemplate"]["LaunchTemplateSpecification"] = {
        "LaunchTemplateId": named["LaunchTemplateId"],
        "Version": "2",
    }
    boto3.client("autoscaling").start_instance_refresh(
        AutoScalingGroupName=fleet.group,
        DesiredConfiguration={"MixedInstancesPolicy": policy},
        Preferences={
            "MinHealthyPercentage": 100,
            "MaxHealthyPercentage": 110,
            "InstanceWarmup": 0,
            "CheckpointPercentages": [25, 100],
            "CheckpointDelay": 3600,
            "AutoRollback": True,
        },
    )
    fleet.settle()
    assert "Checkpoint" in _rollout(fleet)["StatusReason"]


def _rollout(fleet: Any) -> dict[str, Any]:
    found = boto3.client("autoscaling").describe_instance_refreshes(AutoScalingGroupName=fleet.group)
    return dict(found["InstanceRefreshes"][0])


def test_a_shortage_during_a_rollout(tier: Any) -> None:
    """The rollout has five minutes; then it is cancelled, and the tier is whole on demand, of what it was."""
    _roll_out(tier)
    tier.cloud.run_short(seconds=6000, group=tier.group)
    _take_spot(tier, 3)
    assert set(_minutes(tier, 4)) == {0}
    assert _rollout(tier)["Status"] == "InProgress"
    assert _minutes(tier, 4)[-1] == 3
    assert _rollout(tier)["Status"] == "Cancelled"
    assert _options(tier) == {"spot": 1, "on-demand": 3}
    assert [line["tier"] for line in tier.logged("rollout.cancelled")] == [tier.group]
    # The base was not even asked for while AWS would have refused it.
    assert tier.logged("fallback.failed") == []


@pytest.mark.parametrize(("refused", "left"), [("cancel_rollout", "InProgress"), ("set_base", "Cancelled")])
def test_a_handler_that_gets_half_way(tier: Any, refused: str, left: str) -> None:
    """Before the rollout is cancelled or after it, the next look goes on: the tier was short long enough."""
    account = Flaky("lab")
    fallback = Fallback(account, Log(tier.out, tier.clock))
    _roll_out(tier)
    tier.cloud.run_short(seconds=6000, group=tier.group)
    _take_spot(tier, 3)
    _minutes(tier, 4)
    account.refused = frozenset({refused})
    for _ in range(3):
        tier.clock.now += 60
        tier.cloud.tick()
        fallback.run(tier.clock.now)
    assert "Throttling" in tier.logged("fallback.failed")[-1]["error"]
    assert (_base(tier), _rollout(tier)["Status"]) == (0, left)
    account.refused = frozenset()
    fallback.run(tier.clock.now + 1)
    assert (_base(tier), _rollout(tier)["Status"]) == (3, "Cancelled")


def test_a_rollout_that_ends_as_it_is_cancelled(tier: Any) -> None:
    """There is nothing to cancel any more, and nothing fails."""
    FallbackAccount("lab").cancel_rollout(tier.group)
    assert FallbackAccount("lab").rollout(tier.group) == "none"
