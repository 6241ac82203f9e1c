"""What groups launch, and how they grow and shrink, in every stack of the project."""

from __future__ import annotations

import pytest

from tests.fleet.stack.conftest import IMAGE_ID, Registered, Resource

TIERS = ("gateway", "model")


def group(registered: Registered, tier: str) -> Resource:
    return registered.one("autoscaling/group:Group", tier)


@pytest.mark.parametrize("tier", TIERS)
def test_groups_launch_a_pinned_version(registered: Registered, tier: str) -> None:
    """A number and an image id: `$Latest` would boot what no `up` has rolled out, and refuses a rollback."""
    specification = group(registered, tier).inputs["mixedInstancesPolicy"]["launchTemplate"]
    template = registered.one("ec2/launchTemplate:LaunchTemplate", tier)
    assert specification["launchTemplateSpecification"] == {"launchTemplateId": template.id, "version": "7"}
    assert template.inputs["imageId"] == IMAGE_ID


@pytest.mark.parametrize("tier", TIERS)
def test_groups_are_spot_of_several_types(registered: Registered, tier: str) -> None:
    """At least three types, the spot pools least likely to be reclaimed, rebalanced when one gets short."""
    inputs = group(registered, tier).inputs
    policy = inputs["mixedInstancesPolicy"]
    overrides = [o["instanceType"] for o in policy["launchTemplate"]["overrides"]]
    distribution = policy["instancesDistribution"]
    assert len(set(overrides)) == len(overrides) >= 3
    assert distribution["spotAllocationStrategy"] == "price-capacity-optimized"
    assert distribution["onDemandAllocationStrategy"] == "prioritized"
    assert distribution["onDemandPercentageAboveBaseCapacity"] < 50
    assert inputs["capacityRebalance"] is True


def test_production_keeps_nodes_on_demand(registered_prod: Registered) -> None:
    """Each tier has at least one that spot cannot take."""
    for tier in TIERS:
        policy = group(registered_prod, tier).inputs["mixedInstancesPolicy"]
        assert policy["instancesDistribution"]["onDemandBaseCapacity"] >= 1


@pytest.mark.parametrize("tier", TIERS)
def test_scale_in_waits_for_the_drain(registered: Registered, tier: str) -> None:
    """The terminate hook is there from the group's first instance on."""
    (hook,) = group(registered, tier).inputs["initialLifecycleHooks"]
    assert hook["lifecycleTransition"] == "autoscaling:EC2_INSTANCE_TERMINATING"
    assert 30 <= hook["heartbeatTimeout"] <= 120
    assert hook["defaultResult"] == "CONTINUE"


@pytest.mark.parametrize("tier", TIERS)
def test_groups_go_by_what_the_balancer_sees(registered: Registered, tier: str) -> None:
    """Health from the target group, time to boot and warm up, a size that scaling owns, and rollouts."""
    made = group(registered, tier)
    target_group = registered.one("lb/targetGroup:TargetGroup", tier)
    assert made.inputs["healthCheckType"] == "ELB"
    assert made.inputs["targetGroupArns"] == [f"arn:aws:{target_group.type}:{target_group.name}"]
    assert made.inputs["healthCheckGracePeriod"] > made.inputs["defaultInstanceWarmup"] > 0
    assert made.inputs["minSize"] <= made.inputs["desiredCapacity"] <= made.inputs["maxSize"]
    assert made.ignore_changes == ("desiredCapacity", "mixedInstancesPolicy", "initialLifecycleHooks")


@pytest.mark.parametrize("tier", TIERS)
def test_nothing_launches_before_what_it_needs(registered: Registered, tier: str) -> None:
    """Rules (an event before them is lost), routes, role policy, listener, config."""
    needed = [
        *(t for t in registered.of("cloudwatch/eventTarget:EventTarget") if "-notices-" in t.name),
        *registered.of("sqs/queuePolicy:QueuePolicy"),
        *registered.of("ec2/route:Route"),
        *registered.of("ec2/routeTableAssociation:RouteTableAssociation"),
        *registered.of("vpc/securityGroupEgressRule:SecurityGroupEgressRule"),
        *registered.of("vpc/securityGroupIngressRule:SecurityGroupIngressRule"),
        registered.one("iam/rolePolicy:RolePolicy", f"{tier}-node"),
        registered.one("lb/listener:Listener", f"{tier}-http"),
        registered.one("ssm/parameter:Parameter", f"{tier}-config"),
    ]
    assert {r.urn for r in needed} <= set(group(registered, tier).dependencies)


def test_cpu_tiers_follow_their_cpu(registered: Registered) -> None:
    """Target tracking aims at 70 % on average, but not where GPUs do the work."""
    followed = {
        p.name.removeprefix(f"gf-{registered.stack}-") for p in registered.of("autoscaling/policy:Policy")
    }
    assert ("model-cpu" in followed) is (registered.stack == "rehearsal")
    tracking = registered.one("autoscaling/policy:Policy", "gateway-cpu").inputs[
        "targetTrackingConfiguration"
    ]
    assert tracking == {
        "predefinedMetricSpecification": {"predefinedMetricType": "ASGAverageCPUUtilization"},
        "targetValue": 70,
    }


def test_gateways_follow_their_requests(registered: Registered) -> None:
    """The metric needs the label of balancer and target group, and a listener that joins them."""
    policy = registered.one("autoscaling/policy:Policy", "gateway-requests")
    metric = policy.inputs["targetTrackingConfiguration"]["predefinedMetricSpecification"]
    name = f"gf-{registered.stack}-gateway"
    balancer, targets = "aws:lb/loadBalancer:LoadBalancer", "aws:lb/targetGroup:TargetGroup"
    assert metric == {
        "predefinedMetricType": "ALBRequestCountPerTarget",
        "resourceLabel": f"{balancer}/{name}/{targets}/{name}",
    }
    assert registered.one("lb/listener:Listener", "gateway-http").urn in policy.dependencies
