"""Word that a node will go, from the account: EventBridge rules -> one queue, read by the control handler.

Times of the queue and of the function that reads it hang together (Lambda guide, "Configuring a queue to use
with Lambda"): a message is hidden for at least six times as long as the function may take, and its window.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_aws as aws

from fleet.stack.naming import resource_name

# Longer than any hook waits: boot.graceSeconds may be two hours. What could not be handled is kept for a
# person to read.
_NOTICE_KEPT_SECONDS = 3 * 3600
_DEAD_LETTER_KEPT_SECONDS = 14 * 24 * 3600

# The handler looks at one drain up to sixty times, and again after each call that AWS refused.
_RECEIVES_BEFORE_DEAD_LETTER = 100

HANDLER_SECONDS = 15
"""That the handler may take for a batch: most take less than one, and nodes that hang cost three."""

WINDOW_SECONDS = 1
"""That Lambda gathers a batch for."""

_HIDDEN_SECONDS = 6 * HANDLER_SECONDS + WINDOW_SECONDS
_ENDS = ["stopping", "stopped", "shutting-down", "terminated"]


def patterns(
    stack: str, tiers: Sequence[str], waiting: Sequence[str] = ()
) -> dict[str, Mapping[str, object]]:
    """Rule -> event pattern. EC2's events cannot be filtered by tag: the handler drops other fleets'.

    `waiting` are the tiers with a warm pool, whose launches are noticed too.
    """
    groups, pools = (
        [{"prefix": f"{resource_name(stack, tier)}-"} for tier in named] for named in (tiers, waiting)
    )
    launches = {
        "source": ["aws.autoscaling"],
        "detail-type": ["EC2 Instance-launch Lifecycle Action"],
        "detail": {"AutoScalingGroupName": pools},
    }
    return {
        "interruption": {
            "source": ["aws.ec2"],
            "detail-type": ["EC2 Spot Instance Interruption Warning"],
        },
        "rebalance": {
            "source": ["aws.ec2"],
            "detail-type": ["EC2 Instance Rebalance Recommendation"],
        },
        "maintenance": {
            "source": ["aws.health"],
            "detail-type": ["AWS Health Event"],
            "detail": {"service": ["EC2"], "eventTypeCategory": ["scheduledChange"]},
        },
        "state": {
            "source": ["aws.ec2"],
            "detail-type": ["EC2 Instance State-change Notification"],
            "detail": {"state": _ENDS},
        },
        "termination": {
            "source": ["aws.autoscaling"],
            "detail-type": ["EC2 Instance-terminate Lifecycle Action"],
            "detail": {"AutoScalingGroupName": groups},
        },
        **({"launch": launches} if waiting else {}),
    }


class Notices(pulumi.ComponentResource):
    """Depend on it where nodes boot: an event that comes before its rule is lost."""

    def __init__(
        self,
        stack: str,
        tiers: Sequence[str],
        key_arn: pulumi.Input[str] | None = None,
        waiting: Sequence[str] = (),
    ) -> None:
        """`key_arn` is of the key that encrypts messages; None is SQS's own.

        `waiting` are the tiers with a warm pool.
        """
        self._name = resource_name(stack, "notices")
        super().__init__("goldenfleet:stack:Notices", self._name)
        self._child = pulumi.ResourceOptions(parent=self)
        self._encryption: dict[str, Any] = (
            {"sqs_managed_sse_enabled": True} if key_arn is None else {"kms_master_key_id": key_arn}
        )
        self.dead_letters = aws.sqs.Queue(
            f"{self._name}-dead",
            message_retention_seconds=_DEAD_LETTER_KEPT_SECONDS,
            **self._encryption,
            opts=self._child,
        )
        self.queue = self._queue()
        wanted = patterns(stack, tiers, waiting)
        self.rules = {part: self._rule(part, pattern) for part, pattern in wanted.items()}
        self._accept_from([rule.arn for rule in self.rules.values()])
        self.register_outputs({"queueUrl": self.queue.url})

    def _queue(self) -> aws.sqs.Queue:
        redrive = pulumi.Output.json_dumps(
            {"deadLetterTargetArn": self.dead_letters.arn, "maxReceiveCount": _RECEIVES_BEFORE_DEAD_LETTER}
        )
        return aws.sqs.Queue(
            self._name,
            message_retention_seconds=_NOTICE_KEPT_SECONDS,
            visibility_timeout_seconds=_HIDDEN_SECONDS,
            receive_wait_time_seconds=20,
            **self._encryption,
            redrive_policy=redrive,
            opts=self._child,
        )

    def _rule(self, part: str, pattern: Mapping[str, object]) -> aws.cloudwatch.EventRule:
        name = f"{self._name}-{part}"
        rule = aws.cloudwatch.EventRule(name, event_pattern=json.dumps(pattern), opts=self._child)
        aws.cloudwatch.EventTarget(name, rule=rule.name, arn=self.queue.arn, opts=self._child)
        return rule

    def _accept_from(self, rules: list[pulumi.Output[str]]) -> None:
        sending = {
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": self.queue.arn,
            "Condition": {"ArnEquals": {"aws:SourceArn": rules}},
        }
        self._policy(self._name, self.queue, [sending, _tls_only(self.queue)])
        self._policy(f"{self._name}-dead", self.dead_letters, [_tls_only(self.dead_letters)])

    def _policy(self, name: str, queue: aws.sqs.Queue, statements: Sequence[Mapping[str, Any]]) -> None:
        document = pulumi.Output.json_dumps({"Version": "2012-10-17", "Statement": statements})
        aws.sqs.QueuePolicy(name, queue_url=queue.url, policy=document, opts=self._child)


def _tls_only(queue: aws.sqs.Queue) -> dict[str, Any]:
    """AWS's interfaces answer without TLS too, unless they are told not to."""
    return {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "sqs:*",
        "Resource": queue.arn,
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
