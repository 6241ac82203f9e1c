"""The control handler in the account: a function that reads the queue of notices, and its log.

It is `fleet/control` and nothing else; boto3 comes with Lambda's runtime. It lives in the nodes' subnets, for
it asks nodes on their admin port. Sources: Lambda guide, "Using Lambda with Amazon SQS", "Configuring maximum
concurrency for Amazon SQS event sources", "Giving Lambda functions access to resources in an Amazon VPC".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pulumi
import pulumi_aws as aws

from fleet.stack.control_identity import ControlIdentity
from fleet.stack.encryption import Account
from fleet.stack.identity import Statement, allow, of_stack, policy
from fleet.stack.naming import log_group, resource_name
from fleet.stack.notices import HANDLER_SECONDS, WINDOW_SECONDS, Notices
from fleet.stack.tags import STACK

PART = "control"
ENTRY = "fleet.control.lambda_entry.handle"

_RUNTIME = "python3.13"
_FLEET = Path(__file__).resolve().parent.parent
# What is above the package: the package itself, and the tree of errors that its own hang on.
_ABOVE = ("__init__.py", "errors.py")
# The loop, which has a command line.
_LEFT_OUT = frozenset({"__main__.py"})

# Memory buys processor time: half a core, for fifty nodes are asked at once.
_MEMORY_MIB = 1024
_BATCH = 50
# Five times fifty notices at once. Above that Auto Scaling's own limits on calls are what holds up.
_MOST_AT_ONCE = 5

# "Giving Lambda functions access to resources in an Amazon VPC": EC2 knows no narrower resource for them.
_INTERFACES = (
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
)


def code() -> dict[str, Path]:
    """Path in the archive -> file. Compiled files are left out: the archive depends on the sources alone."""
    own = [path for path in sorted((_FLEET / "control").glob("*.py")) if path.name not in _LEFT_OUT]
    return {
        str(path.relative_to(_FLEET.parent)): path for path in [*(_FLEET / name for name in _ABOVE), *own]
    }


@dataclass(frozen=True)
class Place:
    """Where the function lives, and as whom."""

    subnet_ids: Sequence[pulumi.Input[str]]
    security_group_id: pulumi.Input[str]
    identity: ControlIdentity


class ControlLogs(pulumi.ComponentResource):
    """Its log is the history of notices and drains: `/goldenfleet/STACK/control`."""

    def __init__(self, stack: str, retention_days: int, key_arn: pulumi.Input[str] | None = None) -> None:
        name = resource_name(stack, f"{PART}-logs")
        super().__init__("goldenfleet:stack:ControlLogs", name)
        self.group = aws.cloudwatch.LogGroup(
            name,
            name=log_group(stack, PART),
            retention_in_days=retention_days,
            kms_key_id=key_arn,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})


class Control(pulumi.ComponentResource):
    """The function `gf-STACK-control`, by which people may also ask for nodes' states."""

    def __init__(self, stack: str, notices: Notices, logs: ControlLogs, place: Place) -> None:
        self._stack = stack
        self._name = resource_name(stack, PART)
        super().__init__("goldenfleet:stack:Control", self._name)
        self._child = pulumi.ResourceOptions(parent=self)
        may = aws.iam.RolePolicy(
            f"{self._name}-function",
            role=place.identity.role.name,
            policy=policy(self._statements(notices, logs)),
            opts=self._child,
        )
        self.function = self._function(notices, logs, place, may)
        aws.lambda_.EventSourceMapping(
            self._name,
            event_source_arn=notices.queue.arn,
            function_name=self.function.arn,
            batch_size=_BATCH,
            maximum_batching_window_in_seconds=WINDOW_SECONDS,
            function_response_types=["ReportBatchItemFailures"],
            scaling_config=aws.lambda_.EventSourceMappingScalingConfigArgs(maximum_concurrency=_MOST_AT_ONCE),
            opts=self._child,
        )
        self.register_outputs({"functionArn": self.function.arn})

    def _function(
        self, notices: Notices, logs: ControlLogs, place: Place, may: pulumi.Resource
    ) -> aws.lambda_.Function:
        """Nothing is reserved for it: that would take from the account's own, and new accounts have ten."""
        return aws.lambda_.Function(
            self._name,
            name=self._name,
            description=f"Goldenfleet {self._stack}: follows notices, and falls back",
            role=place.identity.role.arn,
            runtime=_RUNTIME,
            architectures=["arm64"],
            handler=ENTRY,
            code=pulumi.AssetArchive({path: pulumi.FileAsset(str(file)) for path, file in code().items()}),
            memory_size=_MEMORY_MIB,
            timeout=HANDLER_SECONDS,
            environment=aws.lambda_.FunctionEnvironmentArgs(
                variables={"GOLDENFLEET_STACK": self._stack, "GOLDENFLEET_QUEUE_URL": notices.queue.url}
            ),
            vpc_config=aws.lambda_.FunctionVpcConfigArgs(
                subnet_ids=list(place.subnet_ids), security_group_ids=[place.security_group_id]
            ),
            # As text, for in Lambda's own JSON our lines would be text inside an envelope.
            logging_config=aws.lambda_.FunctionLoggingConfigArgs(
                log_format="Text", log_group=logs.group.name
            ),
            # All that the role may: Lambda refuses a mapping to a queue that it cannot read.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[may, place.identity]),
        )

    def _statements(self, notices: Notices, logs: ControlLogs) -> list[Statement]:
        """What the function needs beside ControlIdentity's: docs/control.md says why."""
        instances = Account.here().arn("ec2", "instance/*")
        tagged = {"StringEquals": {f"aws:ResourceTag/{STACK}": self._stack}}
        marks = {"ForAllValues:StringEquals": {"aws:TagKeys": ["goldenfleet:undrained"]}}
        return [
            of_stack(self._stack, allow(["sqs:GetQueueAttributes"], [notices.queue.arn])),
            allow(["ec2:CreateTags"], [instances]) | {"Condition": tagged | marks},
            allow(
                ["logs:CreateLogStream", "logs:PutLogEvents"], [pulumi.Output.concat(logs.group.arn, ":*")]
            ),
            allow(_INTERFACES, ["*"]),
        ]
