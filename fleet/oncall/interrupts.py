"""A real spot interruption, for a test, through AWS Fault Injection Service.

The action `aws:ec2:send-spot-instance-interruptions` gives the instance a rebalance recommendation and, two
minutes before it is taken, its interruption notice ("AWS FIS actions reference"; the time before the
interruption is 2 to 15 minutes, in ISO 8601). The experiment's role must let fis.amazonaws.com assume it, and
allow ec2:DescribeInstances and ec2:SendSpotInstanceInterruptions ("IAM roles for AWS FIS experiments"): the
stack makes it where its settings ask for it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from fleet.oncall.aws import STACK_TAG, Aws
from fleet.oncall.errors import AwsFailed, Impossible, OnCallError
from fleet.oncall.snapshot import NodeView
from fleet.stack.naming import interrupting_role

MOST: Final = 5
"""Resources that one target may name ("Quotas and limitations for AWS FIS")."""
_ACTION: Final = "aws:ec2:send-spot-instance-interruptions"
_TARGET: Final = "aws:ec2:spot-instance"
_EVERY_S = 1.0
_STARTS_S = 60.0
_ON_ITS_WAY: Final = ("running", "completed")
_FAILED: Final = ("failed", "stopped", "stopping", "cancelled")


def check(nodes: Sequence[NodeView]) -> None:
    """Raises Impossible for what no interruption can be sent to."""
    if len(nodes) > MOST:
        raise Impossible(f"{len(nodes)} nodes are more than the {MOST} of one experiment", "Name fewer.")
    for node in nodes:
        if node.purchase_option != "spot":
            raise Impossible(
                f"{node.instance_id} is on demand, and only spot instances are interrupted",
                f"Name a spot node, or drain this one: goldenfleet drain {node.instance_id} -m test",
            )
        if node.binding or node.lifecycle_state.startswith("Terminat"):
            raise Impossible(f"{node.instance_id} is being taken away already", "Name another node.")


def interrupt(
    aws: Aws,
    nodes: Sequence[NodeView],
    role_arn: str | None,
    pause: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.time,
) -> str:
    """Start the experiment; gives its id once the notices are sent. Raises OnCallError."""
    account = str(aws.call("sts.get_caller_identity")["Account"])
    with _template(aws, nodes, account, role_arn or own_role(aws, account)) as template_id:
        started = aws.call("fis.start_experiment", experimentTemplateId=template_id, clientToken=_token())
        experiment_id = str(started["experiment"]["id"])
        _await_sent(aws, experiment_id, pause, clock)
    return experiment_id


def own_role(aws: Aws, account: str) -> str:
    """ARN of the role that the stack makes."""
    return f"arn:{aws.partition}:iam::{account}:role/{interrupting_role(aws.stack)}"


@contextmanager
def _template(aws: Aws, nodes: Sequence[NodeView], account: str, role_arn: str) -> Iterator[str]:
    """For one experiment: an experiment that runs needs its template no more."""
    made = aws.call("fis.create_experiment_template", **template(aws, nodes, account, role_arn))
    template_id = str(made["experimentTemplate"]["id"])
    try:
        yield template_id
    finally:
        aws.call("fis.delete_experiment_template", id=template_id)


def template(aws: Aws, nodes: Sequence[NodeView], account: str, role_arn: str) -> dict[str, Any]:
    """Arguments of CreateExperimentTemplate."""
    arns = [f"arn:{aws.partition}:ec2:{aws.region}:{account}:instance/{node.instance_id}" for node in nodes]
    return {
        "clientToken": _token(),
        "description": f"Goldenfleet: interrupt nodes of stack {aws.stack}, once",
        "targets": {"nodes": {"resourceType": _TARGET, "resourceArns": arns, "selectionMode": "ALL"}},
        "actions": {
            "interrupt": {
                "actionId": _ACTION,
                "parameters": {"durationBeforeInterruption": "PT2M"},
                "targets": {"SpotInstances": "nodes"},
            }
        },
        "stopConditions": [{"source": "none"}],
        "roleArn": role_arn,
        "tags": {STACK_TAG: aws.stack},
    }


def _await_sent(
    aws: Aws, experiment_id: str, pause: Callable[[float], object], clock: Callable[[], float]
) -> None:
    until = clock() + _STARTS_S
    while True:
        state = aws.call("fis.get_experiment", id=experiment_id)["experiment"]["state"]
        if state["status"] in _ON_ITS_WAY:
            return
        if state["status"] in _FAILED:
            raise _refused(aws.stack, experiment_id, str(state.get("reason", "")))
        if clock() >= until:
            raise AwsFailed(
                f"experiment {experiment_id} is still {state['status']}",
                f"See how it goes on: aws fis get-experiment --id {experiment_id}",
            )
        pause(_EVERY_S)


def _refused(stack: str, experiment_id: str, reason: str) -> OnCallError:
    return AwsFailed(
        f"experiment {experiment_id} failed: {reason}",
        f"Its role must be assumable by fis.amazonaws.com and allow ec2:DescribeInstances and "
        f"ec2:SendSpotInstanceInterruptions: set goldenfleet:security.interruptions of {stack} to true, or "
        "name another role by --role-arn.",
    )


def _token() -> str:
    return str(uuid.uuid4())
