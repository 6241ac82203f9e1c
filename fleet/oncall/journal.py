"""A node's journal, by a command that Systems Manager runs there.

AWS-RunShellScript gives back the first 24,000 characters of what was written (GetCommandInvocation, API
reference), so the newest lines are asked for, and as many as fit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from fleet.oncall.aws import Aws
from fleet.oncall.errors import AwsFailed
from fleet.oncall.lines import Line, lines
from fleet.oncall.snapshot import NodeView

_DOCUMENT: Final = "AWS-RunShellScript"
_CHARACTERS: Final = 23_000
_EVERY_S: Final = 0.5
_WAIT_S: Final = 30.0
_RUNNING: Final = ("Pending", "InProgress", "Delayed")
_NOT_THERE: Final = "InvalidInstanceId"


def read(
    aws: Aws,
    node: NodeView,
    since: float,
    pause: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.time,
) -> list[Line]:
    """Raises OnCallError."""
    try:
        sent = aws.call(
            "ssm.send_command",
            InstanceIds=[node.instance_id],
            DocumentName=_DOCUMENT,
            Parameters={"commands": [command(since)]},
            TimeoutSeconds=30,
        )
    except AwsFailed as exc:
        if exc.code != _NOT_THERE:
            raise
        raise AwsFailed(
            f"Systems Manager does not reach {node.instance_id}: it is gone, or boots",
            f"Look at its console: aws ec2 get-console-output --latest --instance-id {node.instance_id}",
            exc.code,
        ) from exc
    answer = _await(aws, node, str(sent["Command"]["CommandId"]), clock() + _WAIT_S, pause, clock)
    if answer["Status"] != "Success":
        error = str(answer.get("StandardErrorContent", "")).strip()
        raise AwsFailed(f"the journal of {node.instance_id} cannot be read: {answer['Status']}: {error}")
    found = list(lines(str(answer["StandardOutputContent"]).splitlines()))
    # What has no time before all that has one is the rest of a line that was cut, or of an older trace.
    return [line for line in found if line.at] or found


def command(since: float) -> str:
    return f"journalctl -u goldenfleet-server --since @{since:.0f} -o cat --no-pager | tail -c {_CHARACTERS}"


def _await(
    aws: Aws,
    node: NodeView,
    command_id: str,
    until: float,
    pause: Callable[[float], object],
    clock: Callable[[], float],
) -> dict[str, Any]:
    while True:
        pause(_EVERY_S)
        try:
            answer = aws.call("ssm.get_command_invocation", CommandId=command_id, InstanceId=node.instance_id)
        except AwsFailed as exc:
            # It is not there at once.
            if exc.code != "InvocationDoesNotExist" or clock() >= until:
                raise
            continue
        if answer["Status"] not in _RUNNING:
            return answer
        if clock() >= until:
            raise AwsFailed(f"the journal of {node.instance_id} did not come in {_WAIT_S:g} s", "Try again.")
