"""Who may do what in AWS, in every stack of the project."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from botocore import xform_name

from fleet.policy.roles import UNSCOPED
from fleet.stack import scaling
from fleet.stack.naming import interrupting_role
from fleet.stack.settings import MOST_TIERS
from server import scaling_metric
from tests.fleet.stack.conftest import PROJECT, Registered, parsed
from tests.fleet.stack.documents import listed, role_statements, statements

TIERS = ("gateway", "model")


def test_roles_name_their_actions(registered: Registered) -> None:
    """No action holds a wildcard, and none is there by exclusion."""
    for statement in role_statements(registered):
        assert statement["Effect"] == "Allow"
        assert not {"NotAction", "NotResource"} & set(statement)
        assert not any("*" in action for action in listed(statement["Action"]))


def test_roles_name_their_resources(registered: Registered) -> None:
    """`*` stands only where AWS takes nothing narrower."""
    for statement in role_statements(registered):
        if "*" in listed(statement["Resource"]):
            assert set(listed(statement["Action"])) <= UNSCOPED


@pytest.mark.parametrize("tier", TIERS)
def test_nodes_read_their_own_parameter_only(registered: Registered, tier: str) -> None:
    """Not the other tier's, not another stack's; and no managed policy gives more."""
    policy = registered.one("iam/rolePolicy:RolePolicy", f"{tier}-node")
    parameter = registered.one("ssm/parameter:Parameter", f"{tier}-config")
    reads = [s for s in statements(policy.inputs["policy"]) if "ssm:GetParameter" in s["Action"]]
    own, *others = [resource for s in reads for resource in s["Resource"]]
    assert own == f"arn:aws:{parameter.type}:{parameter.name}"
    keys = [f"{own}:parameter/goldenfleet/{registered.stack}/keys"]
    assert others == (keys if tier == "gateway" and registered.stack != "rehearsal" else [])
    assert not [r for r in registered.resources if "Attachment" in r.type]


def test_only_gateways_find_nodes(registered: Registered) -> None:
    """Model nodes need not know of one another."""
    gateway = registered.one("iam/rolePolicy:RolePolicy", "gateway-node").inputs["policy"]
    model = registered.one("iam/rolePolicy:RolePolicy", "model-node").inputs["policy"]
    for action in ("elasticloadbalancing:DescribeTargetHealth", "ec2:DescribeInstances"):
        assert action in gateway
        assert action not in model


@pytest.mark.parametrize("tier", TIERS)
def test_nodes_publish_in_their_own_namespace_only(registered: Registered, tier: str) -> None:
    """PutMetricData knows no resource: without the condition a node could fake any metric of the account."""
    policy = registered.one("iam/rolePolicy:RolePolicy", f"{tier}-node")
    [publishing] = [s for s in statements(policy.inputs["policy"]) if "cloudwatch" in str(s["Action"])]
    assert listed(publishing["Action"]) == ["cloudwatch:PutMetricData"]
    assert publishing["Condition"] == {"StringEquals": {"cloudwatch:namespace": scaling_metric.NAMESPACE}}


def test_the_stack_and_the_server_name_one_metric() -> None:
    """What a policy tracks is what nodes publish."""
    for name in ("NAMESPACE", "METRIC", "STACK_DIMENSION", "TIER_DIMENSION"):
        assert getattr(scaling, name) == getattr(scaling_metric, name)


def test_each_tier_has_its_own_role(registered: Registered) -> None:
    """Templates of different tiers give different profiles."""
    templates = registered.of("ec2/launchTemplate:LaunchTemplate")
    profiles = {template.inputs["iamInstanceProfile"]["arn"] for template in templates}
    assert len(profiles) == len(TIERS)


def test_control_may_all_before_its_function_is_made(registered: Registered) -> None:
    """Lambda refuses a mapping to a queue that the function's role cannot read yet."""
    function = registered.one("lambda/function:Function", "control")
    policies = [r for r in registered.of("iam/rolePolicy:RolePolicy") if "-control" in r.name]
    assert len(policies) == 2
    assert {policy.urn for policy in policies} <= set(function.dependencies)


def control_statements(registered: Registered) -> list[dict[str, Any]]:
    return role_statements(registered, "control")


def test_control_changes_this_stack_only(registered: Registered) -> None:
    """Its groups and target groups by how their names begin, and its queue: never without the tag."""
    role = registered.one("iam/role:Role", "control")
    (trust,) = statements(role.inputs["assumeRolePolicy"])
    assert trust["Principal"] == {"Service": "lambda.amazonaws.com"}
    here = f"{registered.stack}-*"
    groups = f"arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:*:autoScalingGroupName/gf-{here}"
    targets = f"arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/gf-{here}"
    queue = registered.one("sqs/queue:Queue", "notices")
    changed = {"autoscaling": [groups], "elasticloadbalancing": [targets]}
    changed |= {"sqs": [f"arn:aws:{queue.type}:{queue.name}"]}
    for statement in control_statements(registered):
        service = statement["Action"][0].partition(":")[0]
        if service in changed and statement["Resource"] != ["*"]:
            assert statement["Resource"] == changed[service]
            asked = statement["Condition"]["StringEquals"]
            assert asked == {"aws:ResourceTag/goldenfleet:stack": registered.stack}


def test_control_may_launch_by_this_stacks_templates_only(registered: Registered) -> None:
    """Auto Scaling may ask for that where the base changes: no launch without a template, none by another's,
    and no role but the nodes'.
    """
    granted = [s for s in control_statements(registered) if "ec2:RunInstances" in s["Action"]]
    named = {kind: s for s in granted for kind in kinds_of(s["Resource"])}
    tag = {"aws:ResourceTag/goldenfleet:stack": registered.stack}
    assert named["launch-template"]["Condition"] == {"StringEquals": tag}
    for kind in ("instance", "image", "volume", "network-interface", "security-group", "subnet", "snapshot"):
        (pattern,) = named[kind]["Condition"]["ArnLike"].values()
        assert pattern.endswith(":launch-template/*")
    assert "Condition" not in named["spot-instances-request"]
    (passing,) = [s for s in control_statements(registered) if s["Action"] == ["iam:PassRole"]]
    roles = [registered.one("iam/role:Role", f"{tier}-node") for tier in TIERS]
    assert sorted(passing["Resource"]) == sorted(f"arn:aws:{r.type}:{r.name}" for r in roles)
    assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}


def kinds_of(arns: list[str]) -> list[str]:
    return [arn.rpartition(":")[2].partition("/")[0] for arn in arns]


def test_a_tier_without_spot_lends_control_no_role(shape: Callable[[str], Registered]) -> None:
    """Its base never changes."""
    made = shape("warm pool")
    (passing,) = [s for s in control_statements(made) if s["Action"] == ["iam:PassRole"]]
    assert [arn.rpartition(":")[2] for arn in passing["Resource"]] == ["gf-rehearsal-gateway-node"]


def at_most(size: Callable[[Registered], int], registered: Registered, made: Registered) -> int:
    """What `size` gives of a stack of as many tiers as there can be, by what one more tier adds."""
    tiers = [len(each.of("autoscaling/group:Group")) for each in (registered, made)]
    assert tiers == [2, 3]
    return size(registered) + (MOST_TIERS - 2) * (size(made) - size(registered))


def test_roles_of_many_tiers_fit(
    registered_rehearsal: Registered, shape: Callable[[str], Registered]
) -> None:
    """A role may have 10,240 characters inline."""

    def size(made: Registered) -> int:
        policies = [p for p in made.of("iam/rolePolicy:RolePolicy") if "-control" in p.name]
        return sum(len(policy.inputs["policy"]) for policy in policies)

    # An ARN of a role is longer in AWS than in this test, and a name of a tier may be.
    longer = MOST_TIERS * len("arn:aws:iam::123456789012:role/longer-name-1a2b3c4")
    assert at_most(size, registered_rehearsal, shape("two model tiers")) + longer < 10_240


def test_gateways_can_be_told_of_many_tiers(
    registered_rehearsal: Registered, shape: Callable[[str], Registered]
) -> None:
    """A parameter of SSM holds 4096 characters, and an ARN of a target group in AWS has up to 118."""

    def size(made: Registered) -> int:
        told = made.one("ssm/parameter:Parameter", "gateway-config").inputs["insecureValue"]
        return len(re.sub(r"target-group:[^,\"]+", "target-group:" + 118 * "-", told))

    assert at_most(size, registered_rehearsal, shape("two model tiers")) < 4096 - 300


def test_interrupting_is_a_role_of_its_own_where_it_is_asked_for(
    recorded: dict[str, Any], registered: Registered
) -> None:
    """Spot nodes of this stack, by experiments of this account, and nothing else; no stack has it unasked."""
    assert not [r for r in registered.of("iam/role:Role") if "interrupt" in r.name]
    made = parsed({"rehearsal": recorded["secured"]}, "rehearsal")
    role = made.one("iam/role:Role", "interrupt")
    assert role.inputs["name"] == interrupting_role("rehearsal") == "gf-rehearsal-interrupt"
    (trust,) = statements(role.inputs["assumeRolePolicy"])
    assert trust["Principal"] == {"Service": "fis.amazonaws.com"}
    assert trust["Condition"] == {
        "StringEquals": {"aws:SourceAccount": "123456789012"},
        "ArnLike": {"aws:SourceArn": "arn:aws:fis:us-east-1:123456789012:experiment/*"},
    }
    looking, interrupting = role_statements(made, "interrupt")
    assert (looking["Action"], looking["Resource"]) == (["ec2:DescribeInstances"], ["*"])
    assert interrupting == {
        "Effect": "Allow",
        "Action": ["ec2:SendSpotInstanceInterruptions"],
        "Resource": ["arn:aws:ec2:us-east-1:123456789012:instance/*"],
        "Condition": {"StringEquals": {"aws:ResourceTag/goldenfleet:stack": "rehearsal"}},
    }


def test_control_may_do_what_it_calls(registered: Registered) -> None:
    """Every call that fleet/control makes, and beside it only what Lambda and Auto Scaling do in its name."""
    calls = {
        "autoscaling": {
            "CancelInstanceRefresh",
            "CompleteLifecycleAction",
            "CreateOrUpdateTags",
            "DescribeAutoScalingGroups",
            "DescribeAutoScalingInstances",
            "DescribeInstanceRefreshes",
            "DescribeLifecycleHooks",
            "DescribeScalingActivities",
            "DetachInstances",
            "EnterStandby",
            "ExitStandby",
            "TerminateInstanceInAutoScalingGroup",
            "UpdateAutoScalingGroup",
        },
        "ec2": {"CreateTags", "DescribeInstances"},
        "elasticloadbalancing": {"DeregisterTargets"},
        "logs": {"CreateLogStream", "PutLogEvents"},
        "sqs": {"ChangeMessageVisibility", "DeleteMessage", "ReceiveMessage"},
    }
    allowed = {action for statement in control_statements(registered) for action in statement["Action"]}
    by_auto_scaling = {"ec2:RunInstances", "iam:PassRole"}
    by_lambda = {action for action in allowed if "Interface" in action or "PrivateIp" in action}
    by_lambda |= {"sqs:GetQueueAttributes", "ec2:DescribeSubnets"}
    asked = {f"{service}:{call}" for service, named in calls.items() for call in named}
    assert allowed == asked | by_lambda | by_auto_scaling
    source = "".join(path.read_text() for path in (PROJECT / "fleet" / "control").glob("*.py"))
    clients = r"\b_?(?:ec2|groups|balancers|sqs|logs)\.(\w+_\w+)"
    methods = {*re.findall(clients, source), *re.findall(r'get_paginator\("(\w+)"\)', source)}
    made = {method.removesuffix("_batch") for method in methods} - {"get_paginator"}
    assert {xform_name(call) for named in calls.values() for call in named} == made
