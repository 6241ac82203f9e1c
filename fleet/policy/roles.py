"""Rules for who may do what in AWS."""

from __future__ import annotations

from collections.abc import Iterator

from fleet.policy.kinds import ATTACHMENT, POLICY, ROLE, ROLE_POLICY
from fleet.policy.model import Resource, Stack, Values, listed, rule, whole_rule

_HOLDERS = (ROLE_POLICY, POLICY, ROLE)

UNSCOPED: frozenset[str] = frozenset(
    {
        # These look things up, and AWS knows no resource for them.
        "autoscaling:DescribeAutoScalingGroups",
        "autoscaling:DescribeAutoScalingInstances",
        "autoscaling:DescribeInstanceRefreshes",
        "autoscaling:DescribeLifecycleHooks",
        "autoscaling:DescribeScalingActivities",
        "ec2:DescribeInstances",
        "elasticloadbalancing:DescribeTargetHealth",
        # With them Lambda puts a function into a VPC; EC2 knows nothing narrower before they are made.
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:UnassignPrivateIpAddresses",
        # Bounded by its namespace.
        "cloudwatch:PutMetricData",
        # Session Manager's, which act on the caller itself.
        "ssm:UpdateInstanceInformation",
        "ssmmessages:CreateControlChannel",
        "ssmmessages:CreateDataChannel",
        "ssmmessages:OpenControlChannel",
        "ssmmessages:OpenDataChannel",
    }
)
"""Actions that may stand with resource `*`: docs/policy.md says why."""

# Of these AWS looks at the resource's tags (service authorization reference). What AWS makes out of ours, and
# what people keep for us, has no tag of the stack.
_TAGGED = frozenset(
    f"{service}:{action}"
    for service, actions in {
        "autoscaling": (
            "CancelInstanceRefresh",
            "CompleteLifecycleAction",
            "CreateOrUpdateTags",
            "DetachInstances",
            "EnterStandby",
            "ExitStandby",
            "RecordLifecycleActionHeartbeat",
            "SetDesiredCapacity",
            "SetInstanceHealth",
            "SetInstanceProtection",
            "StartInstanceRefresh",
            "TerminateInstanceInAutoScalingGroup",
            "UpdateAutoScalingGroup",
        ),
        "ec2": (
            "CreateTags",
            "RebootInstances",
            "SendSpotInstanceInterruptions",
            "StopInstances",
            "TerminateInstances",
        ),
        "elasticloadbalancing": ("DeregisterTargets", "RegisterTargets"),
        "sqs": ("ChangeMessageVisibility", "DeleteMessage", "ReceiveMessage", "SendMessage"),
    }.items()
    for action in actions
)
_STACK_TAG = "aws:ResourceTag/goldenfleet:stack"
# Of what a call makes: the tags that it is made with, and the call.
_MADE_WITH_TAG = ("aws:RequestTag/goldenfleet:stack", "ec2:CreateAction")
_CONDITIONED = frozenset({"cloudwatch:PutMetricData"})
_AWS_MANAGED = "arn:aws:iam::aws:policy/"


@rule(
    "Policies name their actions.",
    "Write out each action: no wildcard, and no NotAction.",
    _HOLDERS,
)
def actions_named(of: Resource) -> Iterator[str]:
    for statement in _allowing(of):
        if statement.has("NotAction"):
            yield "it allows by exclusion (NotAction)"
        for action in listed(statement.get("Action") or []):
            if "*" in action:
                yield f"it allows {action}"


@rule(
    "Policies name the resources that they act on.",
    "Write ARNs, or add the action to the list in fleet/policy/roles.py and say why there.",
    _HOLDERS,
)
def resources_named(of: Resource) -> Iterator[str]:
    for statement in _allowing(of):
        if statement.has("NotResource"):
            yield "it allows by exclusion (NotResource)"
        if "*" not in listed(statement.get("Resource") or []):
            continue
        actions = set(listed(statement.get("Action") or []))
        if open_ended := sorted(actions - UNSCOPED):
            yield f"it allows {', '.join(open_ended)} on every resource"
        if actions & _CONDITIONED and not statement.has("Condition"):
            yield f"it allows {', '.join(sorted(actions & _CONDITIONED))} without a condition"


@rule(
    "What a role changes in groups, target groups, instances and queues has the stack's tag.",
    f"Add the condition StringEquals {_STACK_TAG}: the stack's name.",
    _HOLDERS,
)
def changes_within_stack(of: Resource) -> Iterator[str]:
    for statement in _allowing(of):
        changing = sorted(_TAGGED & set(listed(statement.get("Action") or [])))
        asked = statement.get("Condition", "StringEquals") or {}
        if changing and not (_STACK_TAG in asked or all(key in asked for key in _MADE_WITH_TAG)):
            yield f"it allows {', '.join(changing)} whatever the tags"


@whole_rule(
    "A permissions boundary that one role has, every role of the stack has.",
    "Set security.permissionsBoundary, and no boundary elsewhere.",
    [ROLE],
)
def boundary_everywhere(of: Resource, stack: Stack) -> Iterator[str]:
    if of.given.has("permissionsBoundary"):
        return
    if any(other.given.has("permissionsBoundary") for other in stack.of(ROLE)):
        yield "it has no permissionsBoundary"


@rule(
    "No policy of AWS's own is attached.",
    "Write out the actions that are needed: AWS's policies reach every resource of the account.",
    [ATTACHMENT, ROLE],
)
def no_broad_policy(of: Resource) -> Iterator[str]:
    attached = [of.given.get("policyArn"), *of.given.texts("managedPolicyArns")]
    for arn in attached:
        if str(arn).startswith(_AWS_MANAGED):
            yield f"it attaches {arn}"


@rule(
    "Roles are for services of AWS, and for nobody else.",
    'Name the service in Principal, as {"Service": "ec2.amazonaws.com"}.',
    [ROLE],
)
def roles_trust_services(of: Resource) -> Iterator[str]:
    for statement in of.given.document("assumeRolePolicy"):
        principal = statement.get("Principal")
        if not isinstance(principal, dict) or set(principal) != {"Service"}:
            yield f"it may be taken by {principal}"


def _allowing(of: Resource) -> list[Values]:
    found = of.given.document("policy")
    for inline in of.given.each("inlinePolicies"):
        found += inline.document("policy")
    return [statement for statement in found if statement.get("Effect") == "Allow"]


RULES = (
    actions_named,
    resources_named,
    changes_within_stack,
    boundary_everywhere,
    no_broad_policy,
    roles_trust_services,
)
