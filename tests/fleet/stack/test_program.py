"""What the program asks AWS for, in every stack of the project."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore import xform_name

from fleet.policy.kinds import UNTAGGABLE
from fleet.policy.roles import UNSCOPED
from fleet.stack import scaling
from fleet.stack.settings import load_settings
from fleet.stack.settings_tier import Boot
from server import scaling_metric
from server.settings import load_settings as load_server_settings
from tests.fleet.stack.conftest import IMAGE_ID, PROJECT, Registered, Resource

TIERS = ("gateway", "model")


def statements(document: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(document)["Statement"]
    return found


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def role_statements(registered: Registered) -> Iterator[dict[str, Any]]:
    for policy in registered.of("iam/rolePolicy:RolePolicy"):
        yield from statements(policy.inputs["policy"])


def group(registered: Registered, tier: str) -> Resource:
    return registered.one("autoscaling/group:Group", tier)


# --- instances


def test_metadata_service_asks_for_a_token(registered: Registered) -> None:
    """IMDSv2 only, and two hops for an engine in a container."""
    for template in registered.of("ec2/launchTemplate:LaunchTemplate"):
        assert template.inputs["metadataOptions"] == {
            "httpEndpoint": "enabled",
            "httpTokens": "required",
            "httpPutResponseHopLimit": 2,
        }


def test_volumes_are_encrypted(registered: Registered) -> None:
    """The image's own root device, as gp3 whose operations allow its throughput, and no other."""
    for template in registered.of("ec2/launchTemplate:LaunchTemplate"):
        (mapping,) = template.inputs["blockDeviceMappings"]
        volume = mapping["ebs"]
        assert mapping["deviceName"] == "/dev/sda1"
        assert (volume["encrypted"], volume["volumeType"]) == ("true", "gp3")
        assert volume["throughput"] <= volume["iops"] / 4


def test_weights_come_on_their_own_volume(mappings: Callable[[str], list[dict[str, Any]]]) -> None:
    """From the image's snapshot at its rate, throughput and operations; a word on encryption AWS refuses."""
    root, weights = mappings("weights volume")
    assert weights == {
        "deviceName": "/dev/sdf",
        "ebs": {
            "snapshotId": "snap-2",
            "volumeInitializationRate": 300,
            "volumeSize": 17,
            "volumeType": "gp3",
            "throughput": 500,
            "iops": 4000,
            "deleteOnTermination": "true",
        },
    }
    assert "volumeInitializationRate" not in root["ebs"]
    assert "volumeInitializationRate" not in mappings("own pace")[1]["ebs"]


def test_a_root_that_holds_the_weights_is_as_fast_as_they_ask(
    mappings: Callable[[str], list[dict[str, Any]]],
) -> None:
    """The image's throughput, operations and rate, where the stack asks for less; the stack's own size."""
    (root,) = mappings("weights on the root")
    assert root["ebs"] == {
        "volumeInitializationRate": 200,
        "volumeSize": 16,
        "volumeType": "gp3",
        "throughput": 1000,
        "iops": 5000,
        "encrypted": "true",
        "deleteOnTermination": "true",
    }


def test_nodes_have_no_public_address_and_no_key(registered: Registered) -> None:
    """Nothing gives one: template, subnet, or a subnet with a way in."""
    for template in registered.of("ec2/launchTemplate:LaunchTemplate"):
        assert not {"keyName", "networkInterfaces"} & set(template.inputs)
    subnets = registered.of("ec2/subnet:Subnet")
    assert not any(subnet.inputs["mapPublicIpOnLaunch"] for subnet in subnets)
    private = {subnet.id for subnet in subnets if "-private-" in subnet.name}
    for tier in TIERS:
        assert set(group(registered, tier).inputs["vpcZoneIdentifiers"]) == private


def test_private_subnets_lead_out_through_nat_only(registered: Registered) -> None:
    """Every private subnet has one table whose way out is a NAT gateway; production has one a zone."""
    routes = {r.inputs["routeTableId"]: r.inputs for r in registered.of("ec2/route:Route")}
    associations = registered.of("ec2/routeTableAssociation:RouteTableAssociation")
    tables = {a.inputs["subnetId"]: a.inputs["routeTableId"] for a in associations}
    private = [s.id for s in registered.of("ec2/subnet:Subnet") if "-private-" in s.name]
    nats = {routes[tables[subnet]]["natGatewayId"] for subnet in private}
    assert not any("gatewayId" in routes[tables[subnet]] for subnet in private)
    assert len(nats) == (3 if registered.stack == "prod" else 1)


@pytest.mark.parametrize("tier", TIERS)
def test_user_data_names_role_tier_and_stack_only(registered: Registered, tier: str) -> None:
    """The image holds all the rest."""
    template = registered.one("ec2/launchTemplate:LaunchTemplate", tier)
    script = base64.b64decode(template.inputs["userData"]).decode()
    assert (
        script == f"#!/bin/sh\nexec goldenfleet-boot --role {tier} --tier {tier} --stack {registered.stack}\n"
    )


def test_instances_are_watched_each_minute(registered: Registered) -> None:
    """Target tracking on five-minute metrics reacts too late."""
    for template in registered.of("ec2/launchTemplate:LaunchTemplate"):
        assert template.inputs["monitoring"] == {"enabled": True}


# --- groups


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


# --- edge


def test_balancers_refuse_ambiguous_requests(registered: Registered) -> None:
    """Invalid headers dropped, and what two servers could read in two ways."""
    for balancer in registered.of("lb/loadBalancer:LoadBalancer"):
        assert balancer.inputs["dropInvalidHeaderFields"] is True
        assert balancer.inputs["desyncMitigationMode"] == "strictest"
        assert balancer.inputs["enableDeletionProtection"] is (registered.stack == "prod")


def test_only_the_gateways_balancer_is_public(registered: Registered) -> None:
    """The model tier's is internal, in the private subnets."""
    public = registered.one("lb/loadBalancer:LoadBalancer", "gateway")
    internal = registered.one("lb/loadBalancer:LoadBalancer", "model")
    assert (public.inputs["internal"], internal.inputs["internal"]) == (False, True)
    assert all("-public-" in subnet for subnet in public.inputs["subnets"])
    assert all("-private-" in subnet for subnet in internal.inputs["subnets"])


def test_production_serves_https_only(registered_prod: Registered) -> None:
    """TLS 1.2 and 1.3, and HTTP answers nothing but where HTTPS is."""
    https = registered_prod.one("lb/listener:Listener", "gateway-https").inputs
    http = registered_prod.one("lb/listener:Listener", "gateway-http").inputs
    assert (https["port"], https["protocol"]) == (443, "HTTPS")
    assert https["sslPolicy"].startswith("ELBSecurityPolicy-TLS13-1-2-")
    assert https["certificateArn"].startswith("arn:aws:acm:")
    assert [action["type"] for action in https["defaultActions"]] == ["forward"]
    assert http["defaultActions"] == [
        {"type": "redirect", "redirect": {"protocol": "HTTPS", "port": "443", "statusCode": "HTTP_301"}}
    ]
    assert registered_prod.outputs["endpoint"] == "https://llm.example.com"


def test_without_a_certificate_http_forwards(registered_rehearsal: Registered) -> None:
    """A rehearsal has no certificate."""
    listeners = registered_rehearsal.of("lb/listener:Listener")
    assert {(listener.inputs["port"], listener.inputs["protocol"]) for listener in listeners} == {
        (80, "HTTP")
    }
    assert {a["type"] for listener in listeners for a in listener.inputs["defaultActions"]} == {"forward"}


def test_target_groups_notice_fast_and_let_go_in_time(registered: Registered) -> None:
    """Health checks at AWS's fastest sensible pace, and a deregistration shorter than a spot notice."""
    for targets in registered.of("lb/targetGroup:TargetGroup"):
        check = targets.inputs["healthCheck"]
        assert (check["path"], check["matcher"]) == ("/ready", "200")
        assert (check["interval"], check["timeout"]) == (10, 5)
        assert (check["healthyThreshold"], check["unhealthyThreshold"]) == (2, 2)
        assert targets.inputs["port"] == 8080
        assert targets.inputs["deregistrationDelay"] <= 90
        assert targets.inputs["loadBalancingAlgorithmType"] == "least_outstanding_requests"


# --- firewall


def test_only_the_public_balancer_hears_the_world(registered: Registered) -> None:
    """Every other way in names a security group, and there are as few as the flows need."""
    name = {
        g.id: g.name.removeprefix(f"gf-{registered.stack}-")
        for g in registered.of("ec2/securityGroup:SecurityGroup")
    }
    rules = [r.inputs for r in registered.of("vpc/securityGroupIngressRule:SecurityGroupIngressRule")]
    world = {(name[r["securityGroupId"]], r["fromPort"]) for r in rules if "cidrIpv4" in r}
    inside = {
        (name[r["referencedSecurityGroupId"]], name[r["securityGroupId"]], r["fromPort"])
        for r in rules
        if "cidrIpv4" not in r
    }
    ports = (80, 443) if registered.stack == "prod" else (80,)
    assert world == {("public-balancer", port) for port in ports}
    assert inside == {
        ("public-balancer", "gateway", 8080),
        ("gateway", "model", 8080),
        ("gateway", "model-balancer", 80),
        ("model-balancer", "model", 8080),
        ("control", "gateway", 9090),
        ("control", "model", 9090),
    }


def test_rules_open_single_ports(registered: Registered) -> None:
    """No rule means all ports or all protocols; out to the world is HTTPS only."""
    for kind in ("Ingress", "Egress"):
        for rule in registered.of(f"vpc/securityGroup{kind}Rule:SecurityGroup{kind}Rule"):
            assert rule.inputs["ipProtocol"] == "tcp"
            assert rule.inputs["fromPort"] == rule.inputs["toPort"]
            if kind == "Egress" and "cidrIpv4" in rule.inputs:
                assert rule.inputs["fromPort"] == 443


def test_groups_have_no_inline_rules(registered: Registered) -> None:
    """Inline and separate rules undo each other."""
    for made in registered.of("ec2/securityGroup:SecurityGroup"):
        assert not {"ingress", "egress"} & set(made.inputs)


# --- notices


def test_notices_reach_the_queue(registered: Registered) -> None:
    """Interruption, rebalance, maintenance, sudden ends and this stack's terminations, each with the queue as
    its target.
    """
    prefix = f"gf-{registered.stack}-notices"
    found = [r for r in registered.of("cloudwatch/eventRule:EventRule") if r.name.startswith(prefix)]
    rules = {r.name: json.loads(r.inputs["eventPattern"]) for r in found}
    groups = [{"prefix": f"gf-{registered.stack}-{tier}-"} for tier in TIERS]
    assert rules == {
        f"{prefix}-interruption": {
            "source": ["aws.ec2"],
            "detail-type": ["EC2 Spot Instance Interruption Warning"],
        },
        f"{prefix}-rebalance": {
            "source": ["aws.ec2"],
            "detail-type": ["EC2 Instance Rebalance Recommendation"],
        },
        f"{prefix}-maintenance": {
            "source": ["aws.health"],
            "detail-type": ["AWS Health Event"],
            "detail": {"service": ["EC2"], "eventTypeCategory": ["scheduledChange"]},
        },
        f"{prefix}-state": {
            "source": ["aws.ec2"],
            "detail-type": ["EC2 Instance State-change Notification"],
            "detail": {"state": ["stopping", "stopped", "shutting-down", "terminated"]},
        },
        f"{prefix}-termination": {
            "source": ["aws.autoscaling"],
            "detail-type": ["EC2 Instance-terminate Lifecycle Action"],
            "detail": {"AutoScalingGroupName": groups},
        },
    }
    queue = registered.one("sqs/queue:Queue", "notices")
    targets = [t for t in registered.of("cloudwatch/eventTarget:EventTarget") if t.name.startswith(prefix)]
    assert {t.inputs["arn"] for t in targets} == {f"arn:aws:{queue.type}:{queue.name}"}
    assert {t.inputs["rule"] for t in targets} == {f"{name}-1a2b3c4" for name in rules}


def test_only_the_rules_may_send(registered: Registered) -> None:
    """EventBridge may, and only for these rules; the dead letters come from the queue alone."""
    allowed = {
        policy.name.removeprefix(f"gf-{registered.stack}-"): [
            s for s in statements(policy.inputs["policy"]) if s["Effect"] == "Allow"
        ]
        for policy in registered.of("sqs/queuePolicy:QueuePolicy")
    }
    assert allowed["notices-dead"] == []
    (statement,) = allowed["notices"]
    rules = [r for r in registered.of("cloudwatch/eventRule:EventRule") if "-notices-" in r.name]
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert statement["Action"] == "sqs:SendMessage"
    sources = statement["Condition"]["ArnEquals"]["aws:SourceArn"]
    assert sorted(sources) == sorted(f"arn:aws:{r.type}:{r.name}" for r in rules)


def test_queues_are_encrypted_and_lose_nothing(registered: Registered) -> None:
    """What cannot be handled goes to a second queue, after more tries than a drain takes."""
    notices = registered.one("sqs/queue:Queue", "notices")
    dead = registered.one("sqs/queue:Queue", "notices-dead")
    redrive = json.loads(notices.inputs["redrivePolicy"])
    assert notices.inputs["sqsManagedSseEnabled"] is dead.inputs["sqsManagedSseEnabled"] is True
    assert redrive["deadLetterTargetArn"] == f"arn:aws:{dead.type}:{dead.name}"
    assert redrive["maxReceiveCount"] >= 60
    longest_hook = next(m.le for m in Boot.model_fields["grace_seconds"].metadata if hasattr(m, "le"))
    assert notices.inputs["messageRetentionSeconds"] > longest_hook == 7200
    assert dead.inputs["messageRetentionSeconds"] > notices.inputs["messageRetentionSeconds"]


# --- roles


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


def test_control_acts_on_this_stack_only(registered: Registered) -> None:
    """It may change the groups, their target groups and the queue, and is a Lambda function's role."""
    role = registered.one("iam/role:Role", "control")
    (trust,) = statements(role.inputs["assumeRolePolicy"])
    assert trust["Principal"] == {"Service": "lambda.amazonaws.com"}
    policy = registered.one("iam/rolePolicy:RolePolicy", "control")
    resources = {r for s in statements(policy.inputs["policy"]) for r in s["Resource"] if r != "*"}
    kinds = ("autoscaling/group:Group", "lb/targetGroup:TargetGroup")
    own = {f"arn:aws:{r.type}:{r.name}" for kind in kinds for r in registered.of(kind)}
    queue = registered.one("sqs/queue:Queue", "notices")
    assert resources == {*own, f"arn:aws:{queue.type}:{queue.name}"}


def test_control_may_do_what_it_calls(registered: Registered) -> None:
    """Every call that fleet/control makes, and beside it only what Lambda does in its name."""
    calls = {
        "autoscaling": {
            "CompleteLifecycleAction",
            "CreateOrUpdateTags",
            "DescribeAutoScalingGroups",
            "DescribeAutoScalingInstances",
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
    policies = [registered.one("iam/rolePolicy:RolePolicy", part) for part in ("control", "control-function")]
    granted = [s for policy in policies for s in statements(policy.inputs["policy"])]
    allowed = {action for statement in granted for action in statement["Action"]}
    by_lambda = {action for action in allowed if "Interface" in action or "PrivateIp" in action}
    by_lambda |= {"sqs:GetQueueAttributes", "ec2:DescribeSubnets"}
    asked = {f"{service}:{call}" for service, named in calls.items() for call in named}
    assert allowed == asked | by_lambda
    source = "".join(path.read_text() for path in (PROJECT / "fleet" / "control").glob("*.py"))
    clients = r"\b_?(?:ec2|groups|balancers|sqs|logs)\.(\w+_\w+)"
    methods = {*re.findall(clients, source), *re.findall(r'get_paginator\("(\w+)"\)', source)}
    made = {method.removesuffix("_batch") for method in methods} - {"get_paginator"}
    assert {xform_name(call) for named in calls.values() for call in named} == made


# --- the whole


def test_every_resource_is_tagged(registered: Registered) -> None:
    """Stack and tier are on all that can have tags, and a tier's are its own."""
    tagged = [r for r in registered.resources if r.type.startswith("aws:") and r.type not in UNTAGGABLE]
    for resource in tagged:
        tags = resource.inputs["tags"]
        if isinstance(tags, list):
            kept = {tag["key"] for tag in tags if not tag["propagateAtLaunch"]}
            assert kept <= {"goldenfleet:fallback"}
            tags = {tag["key"]: tag["value"] for tag in tags}
        assert tags["goldenfleet:stack"] == registered.stack, resource.urn
        assert tags["goldenfleet:tier"] in {*TIERS, "shared"}, resource.urn
    for tier in TIERS:
        for kind in ("autoscaling/group:Group", "lb/targetGroup:TargetGroup", "lb/loadBalancer:LoadBalancer"):
            assert f"'{tier}'" in str(registered.one(kind, tier).inputs["tags"])


@pytest.mark.parametrize("tier", TIERS)
def test_instances_and_volumes_are_tagged_at_launch(registered: Registered, tier: str) -> None:
    """The control handler knows its own by the instance's tags, and the image is told."""
    template = registered.one("ec2/launchTemplate:LaunchTemplate", tier)
    specifications = {s["resourceType"]: s["tags"] for s in template.inputs["tagSpecifications"]}
    assert set(specifications) == {"instance", "volume"}
    for tags in specifications.values():
        assert tags["goldenfleet:stack"] == registered.stack
        assert tags["goldenfleet:tier"] == tier
        assert tags["goldenfleet:image"] == IMAGE_ID


def test_names_leave_room_for_the_suffix(registered: Registered) -> None:
    """pulumi-aws appends eight characters, and load balancers and target groups hold 32."""
    for kind in ("lb/loadBalancer:LoadBalancer", "lb/targetGroup:TargetGroup"):
        assert all(len(r.name) <= 24 for r in registered.of(kind))


def test_nodes_are_told_what_they_boot_with(registered: Registered) -> None:
    """Gateways where the model nodes and the keys are, model nodes their engine; only a rehearsal is open."""
    targets = registered.one("lb/targetGroup:TargetGroup", "model")
    values = {
        p.inputs["name"]: json.loads(p.inputs["insecureValue"])
        for p in registered.of("ssm/parameter:Parameter")
    }
    engine = "embedded" if registered.stack == "rehearsal" else "vllm"
    path = f"/goldenfleet/{registered.stack}/tier"
    blocks = load_settings(PROJECT, registered.stack).network.public_blocks
    secured = {"auth": "on", "keys": f"ssm:/goldenfleet/{registered.stack}/keys"}
    common = {"node_metrics": "on", "access_log": "troubled", "keep_alive_seconds": 315}
    assert values == {
        f"{path}/gateway/config": {
            "nodes": f"target-group:arn:aws:{targets.type}:{targets.name}",
            "proxies": ",".join(map(str, blocks)),
            **common,
            **({"auth": "off"} if registered.stack == "rehearsal" else secured),
        },
        f"{path}/model/config": {"engine": engine, "scaling_metric": "on", **common},
    }


def test_servers_accept_what_nodes_are_told(registered: Registered) -> None:
    """The two meet only in this JSON, so a key that one of them renames shows here."""
    for tier in TIERS:
        told = json.loads(registered.one("ssm/parameter:Parameter", f"{tier}-config").inputs["insecureValue"])
        settings = load_server_settings(role=tier, stack=registered.stack, tier_config=told, environ={})
        assert {key: getattr(settings, key) for key in told} == told


def test_outputs_tell_what_others_go_by(registered_rehearsal: Registered) -> None:
    """Exactly the names that the rehearsal and the control handler read."""
    outputs = registered_rehearsal.outputs
    prefix = "gf-rehearsal"
    assert set(outputs) == {
        "endpoint",
        "loadBalancerArn",
        "loadBalancerDns",
        "noticeQueueUrl",
        "noticeQueueArn",
        "tiers",
        "control",
    }
    assert outputs["endpoint"] == f"http://{outputs['loadBalancerDns']}"
    assert outputs["noticeQueueUrl"] == f"https://sqs.test/{prefix}-notices"
    assert outputs["tiers"]["model"] == {
        "autoScalingGroup": f"{prefix}-model-1a2b3c4",
        "targetGroupArn": f"arn:aws:aws:lb/targetGroup:TargetGroup:{prefix}-model",
        "launchTemplateId": registered_rehearsal.one("ec2/launchTemplate:LaunchTemplate", "model").id,
        "launchTemplateVersion": 7,
        "port": 8080,
        "imageId": IMAGE_ID,
    }
    assert set(outputs["tiers"]) == set(TIERS)


# --- what it refuses


def test_a_missing_image_is_named(refusal: Callable[[str], str]) -> None:
    """Which parameter is empty, and the command that fills it."""
    said = refusal("no image")
    assert "no image is published at /goldenfleet/rehearsal/image/rehearsal/dev" in said
    assert "goldenfleet images bake rehearsal --stack rehearsal" in said


def test_a_parameter_that_holds_no_image_id_is_refused(refusal: Callable[[str], str]) -> None:
    """What it holds is shown."""
    assert "holds 'latest', which is no image id" in refusal("no image id")


def test_a_rate_that_ebs_refuses_is_refused(refusal: Callable[[str], str]) -> None:
    """Before anything is made, with the parameter and the number."""
    said = refusal("rate out of range")
    assert f"/goldenfleet/rehearsal/launch/{IMAGE_ID}/volumes cannot be used" in said
    assert "initialization_mib_s: Input should be less than or equal to 300, not 500" in said


def test_a_root_smaller_than_the_images_is_refused(refusal: Callable[[str], str]) -> None:
    """Auto Scaling would find out at the first launch, and launch nothing."""
    said = refusal("root too small")
    assert "tiers.gateway.volumes.rootGib is 16, and the root volume" in said
    assert "raise it to 17" in said


def test_an_image_of_another_processor_is_refused(refusal: Callable[[str], str]) -> None:
    """It would launch nowhere."""
    assert "built for x86_64: not for c7g.large" in refusal("other processor")


def test_a_region_with_too_few_zones_is_refused(refusal: Callable[[str], str]) -> None:
    """Local zones do not count."""
    assert "goldenfleet:network.zones is 5, and the region has 4" in refusal("too few zones")


def test_unknown_keys_reach_the_program_and_are_refused(refusal: Callable[[str], str]) -> None:
    """Also at the top level, where pulumi.Config would pass them over."""
    assert "goldenfleet:tier: there is no such setting" in refusal("unknown key")
