"""How notices come to the queue, in every stack of the project."""

from __future__ import annotations

import json

from fleet.stack.settings_tier import Boot
from tests.fleet.stack.conftest import Registered
from tests.fleet.stack.documents import statements

TIERS = ("gateway", "model")


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
