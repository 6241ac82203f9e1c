"""What the program asks AWS for where a stack is not like those of the project."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from server.settings import load_settings as load_server_settings
from tests.fleet.stack.conftest import PRIVATE, PUBLIC, Registered

Shape = Callable[[str], Registered]


def group(registered: Registered, tier: str) -> dict[str, Any]:
    return dict(registered.one("autoscaling/group:Group", tier).inputs)


def overrides(registered: Registered, tier: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = group(registered, tier)["mixedInstancesPolicy"]["launchTemplate"][
        "overrides"
    ]
    return found


def told(registered: Registered, tier: str) -> dict[str, Any]:
    parameter = registered.one("ssm/parameter:Parameter", f"{tier}-config")
    value: dict[str, Any] = json.loads(parameter.inputs["insecureValue"])
    return value


# --- several model tiers


def test_each_model_tier_is_whole(shape: Shape) -> None:
    """A group, a template, a target group on a balancer of its own, a role, logs: none is shared."""
    made = shape("two model tiers")
    for kind in (
        "autoscaling/group:Group",
        "cloudwatch/logGroup:LogGroup",
        "ec2/launchTemplate:LaunchTemplate",
        "lb/loadBalancer:LoadBalancer",
        "lb/targetGroup:TargetGroup",
    ):
        names = {r.name.removeprefix("gf-rehearsal-") for r in made.of(kind)}
        assert {"gateway", "model", "second"} <= {name.removesuffix("-logs") for name in names}
    assert set(made.outputs["tiers"]) == {"gateway", "model", "second"}


def test_gateways_are_told_where_all_model_tiers_are(shape: Shape) -> None:
    """In the order of the settings, for the first is the one of requests that name no model."""
    made = shape("two model tiers")
    nodes = told(made, "gateway")["nodes"]
    arn = "target-group:arn:aws:aws:lb/targetGroup:TargetGroup:gf-rehearsal"
    assert nodes == f"{arn}-model,{arn}-second"
    assert "engine_model" not in told(made, "model")
    assert told(made, "second")["engine_model"] == "other-model"
    for tier, role in (("gateway", "gateway"), ("second", "model")):
        settings = load_server_settings(
            role=role, tier=tier, stack="rehearsal", tier_config=told(made, tier), environ={}
        )
        assert settings.tier == tier


def test_nodes_know_their_tier_and_role(shape: Shape) -> None:
    """User data names both."""
    template = shape("two model tiers").one("ec2/launchTemplate:LaunchTemplate", "second")
    script = base64.b64decode(template.inputs["userData"]).decode()
    assert "exec goldenfleet-boot --role model --tier second --stack rehearsal\n" in script


def test_model_tiers_do_not_reach_one_another(shape: Shape) -> None:
    """Each hears the gateways, its balancer and control."""
    made = shape("two model tiers")
    name = {g.id: g.name.removeprefix("gf-rehearsal-") for g in made.of("ec2/securityGroup:SecurityGroup")}
    rules = [r.inputs for r in made.of("vpc/securityGroupIngressRule:SecurityGroupIngressRule")]
    for tier in ("model", "second"):
        sources = {name[r["referencedSecurityGroupId"]] for r in rules if name[r["securityGroupId"]] == tier}
        assert sources == {"gateway", "model-balancer", "control"}


def test_terminations_of_every_tier_are_noticed(shape: Shape) -> None:
    """The rule knows the groups by the beginning of their names."""
    rule = shape("two model tiers").one("cloudwatch/eventRule:EventRule", "notices-termination")
    groups = json.loads(rule.inputs["eventPattern"])["detail"]["AutoScalingGroupName"]
    assert {each["prefix"] for each in groups} == {
        f"gf-rehearsal-{tier}-" for tier in ("gateway", "model", "second")
    }


# --- what is bought


def test_requirements_stand_for_types(shape: Shape) -> None:
    """In AWS's units; on demand then goes by price, for there is no order to go by."""
    made = shape("requirements")
    (only,) = overrides(made, "model")
    assert set(only) == {"instanceRequirements"}
    asked = only["instanceRequirements"]
    assert asked["vcpuCount"] == {"min": 4, "max": 16}
    assert asked["memoryMib"] == {"min": 16 * 1024}
    assert asked["acceleratorCount"] == {"min": 1, "max": 1}
    assert (asked["acceleratorTypes"], asked["acceleratorManufacturers"]) == (["gpu"], ["nvidia"])
    assert asked["acceleratorTotalMemoryMib"] == {"min": 22 * 1024}
    distribution = group(made, "model")["mixedInstancesPolicy"]["instancesDistribution"]
    assert distribution["onDemandAllocationStrategy"] == "lowest-price"
    assert distribution["spotAllocationStrategy"] == "price-capacity-optimized"


def test_weights_go_with_their_types(shape: Shape) -> None:
    """As text, which is what the API takes; without weights there are none."""
    assert overrides(shape("weights"), "model") == [
        {"instanceType": "c7i.xlarge", "weightedCapacity": "1"},
        {"instanceType": "c7i.2xlarge", "weightedCapacity": "2"},
    ]
    assert all(set(each) == {"instanceType"} for each in overrides(shape("weights"), "gateway"))


def test_a_warm_pool_is_the_groups(shape: Shape) -> None:
    """Stopped nodes, bounded; tiers without the setting have none."""
    made = shape("warm pool")
    assert group(made, "model")["warmPool"] == {
        "poolState": "Stopped",
        "minSize": 1,
        "maxGroupPreparedCapacity": 4,
        "instanceReusePolicy": {"reuseOnScaleIn": False},
    }
    assert "warmPool" not in group(made, "gateway")


def test_nodes_that_wait_are_ready_before_they_do(shape: Shape) -> None:
    """A hook holds them, whose event reaches control; tiers without a pool have neither."""
    made = shape("warm pool")
    hooks = {hook["name"]: hook for hook in group(made, "model")["initialLifecycleHooks"]}
    ready = hooks["ready"]
    assert ready["lifecycleTransition"] == "autoscaling:EC2_INSTANCE_LAUNCHING"
    assert (ready["heartbeatTimeout"], ready["defaultResult"]) == (300, "ABANDON")
    assert [hook["name"] for hook in group(made, "gateway")["initialLifecycleHooks"]] == ["drain"]
    pattern = json.loads(made.one("cloudwatch/eventRule:EventRule", "notices-launch").inputs["eventPattern"])
    assert pattern["detail-type"] == ["EC2 Instance-launch Lifecycle Action"]
    assert pattern["detail"]["AutoScalingGroupName"] == [{"prefix": "gf-rehearsal-model-"}]
    rules = {rule.name for rule in shape("weights").of("cloudwatch/eventRule:EventRule")}
    assert "gf-rehearsal-notices-launch" not in rules


def test_hooks_change_without_a_new_group(shape: Shape) -> None:
    """Of a group that exists, pulumi-aws would replace it for a change of its initial hooks: each hook is a
    resource, too, and the one that drains stays as long as the group does.
    """
    made = shape("warm pool")
    hooks = {
        r.name.removeprefix("gf-rehearsal-"): r for r in made.of("autoscaling/lifecycleHook:LifecycleHook")
    }
    assert set(hooks) == {"gateway-drain", "model-drain", "model-ready"}
    for initial in group(made, "model")["initialLifecycleHooks"]:
        own = hooks[f"model-{initial['name']}"]
        assert {k: own.inputs[k] for k in initial} == initial
        assert own.retain == (initial["name"] == "drain")
    (short,) = [
        r for r in shape("short drain").of("autoscaling/lifecycleHook:LifecycleHook") if "model" in r.name
    ]
    assert short.inputs["heartbeatTimeout"] == 30


def test_a_drain_lasts_as_long_as_it_is_told(shape: Shape) -> None:
    """The hook and the deregistration together."""
    made = shape("short drain")
    (hook,) = group(made, "model")["initialLifecycleHooks"]
    assert hook["heartbeatTimeout"] == 30
    assert made.one("lb/targetGroup:TargetGroup", "model").inputs["deregistrationDelay"] == 20


# --- networks


def test_a_network_that_exists_is_lived_in(shape: Shape) -> None:
    """Nothing of a network is made; balancers and nodes are in its subnets."""
    made = shape("existing network")
    assert not [
        r for r in made.resources if r.type.startswith(("aws:ec2/vpc:", "aws:ec2/subnet", "aws:ec2/nat"))
    ]
    assert not [r for r in made.resources if r.type.startswith(("aws:ec2/route", "aws:ec2/internetGateway"))]
    assert made.one("lb/loadBalancer:LoadBalancer", "gateway").inputs["subnets"] == PUBLIC
    assert made.one("lb/loadBalancer:LoadBalancer", "model").inputs["subnets"] == PRIVATE
    assert group(made, "model")["vpcZoneIdentifiers"] == PRIVATE
    assert {r.inputs["vpcId"] for r in made.of("ec2/securityGroup:SecurityGroup")} == {"vpc-0000000a"}
    assert told(made, "gateway")["proxies"] == "10.7.0.0/24,10.7.1.0/24"


def test_without_a_way_out_nodes_have_no_route_to_the_world(shape: Shape) -> None:
    """Only the load balancer's subnets lead to the internet."""
    made = shape("no way out")
    assert not [r for r in made.resources if r.type.startswith(("aws:ec2/natGateway", "aws:ec2/eip"))]
    routes = made.of("ec2/route:Route")
    public = made.one("ec2/routeTable:RouteTable", "network-public")
    assert {route.inputs["routeTableId"] for route in routes} == {public.id}
    private = {s.id for s in made.of("ec2/subnet:Subnet") if "-private-" in s.name}
    table = made.one("ec2/routeTable:RouteTable", "network-private").id
    associated = {
        a.inputs["subnetId"]
        for a in made.of("ec2/routeTableAssociation:RouteTableAssociation")
        if a.inputs["routeTableId"] == table
    }
    assert associated == private


def test_a_way_out_changes_without_a_second_association(shape: Shape, registered_prod: Registered) -> None:
    """AWS refuses a subnet a second route table: its association is the same one whatever `nat` is."""
    for made in (registered_prod, shape("weights"), shape("no way out")):
        subnets = {subnet.id: subnet.name for subnet in made.of("ec2/subnet:Subnet")}
        associations = made.of("ec2/routeTableAssociation:RouteTableAssociation")
        served = {each.name: subnets[each.inputs["subnetId"]] for each in associations}
        assert served == {name: name for name in subnets.values()}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "foreign subnets",
            "subnet-0000000a is in vpc-0000000a, and goldenfleet:network.existing.vpcId is vpc-",
        ),
        (
            "private subnets in public",
            "subnet-0000000c of goldenfleet:network.existing.publicSubnetIds has no",
        ),
        (
            "private subnets in public",
            "subnet-0000000a of goldenfleet:network.existing.privateSubnetIds has a",
        ),
        (
            "one zone",
            "privateSubnetIds has two subnets of one zone (us-east-1b, us-east-1b): name one a zone",
        ),
        ("one zone", "subnet-0000000e of goldenfleet:network.existing.privateSubnetIds holds 11 addresses"),
        ("one zone", "control take 9, all of which a spot drought may put there: lower max by 9 in all"),
        ("no such subnet", "subnet-0000000f of goldenfleet:network.existing cannot be looked up"),
    ],
)
def test_networks_that_cannot_be_lived_in_are_refused(
    refusal: Callable[[str], str], name: str, says: str
) -> None:
    """Before anything is made, and with the subnet that does not fit."""
    assert says in refusal(name)
