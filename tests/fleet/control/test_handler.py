"""The handler against the emulated cloud, with a real admin API on the instance's address."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest

from fleet.control.aws import Account
from fleet.control.drain import Rules
from fleet.control.handler import Handler, Message
from fleet.control.log import Log
from fleet.control.perform import Again, Done


def test_an_interruption(fleet: Any) -> None:
    """The instance leaves balancer and group, its replacement launches, and the node hears the deadline."""
    victim = fleet.members()[0]
    node = fleet.listen(victim)
    fleet.cloud.interrupt(victim.instance_id)
    noticed = fleet.clock.now
    fleet.clock.now += 3
    fleet.control()
    assert fleet.target_states()[victim.instance_id] != "healthy"
    assert fleet.waiting() == 0
    assert [order["reason"] for order in node.orders] == ["spot-interruption"]
    assert node.orders[0]["deadline_s"] == pytest.approx(117, abs=1)
    assert fleet.logged("notice.seen")[0]["deadline"] == pytest.approx(noticed + 120, abs=1)
    fleet.settle()
    members = fleet.members()
    assert len(members) == 2
    assert victim.instance_id not in {member.instance_id for member in members}
    assert fleet.cloud.groups()[0].desired == 2


def test_order_of_an_interruption(fleet: Any) -> None:
    """Deregister, detach, tell: in that order."""
    victim = fleet.members()[0]
    fleet.listen(victim)
    fleet.cloud.interrupt(victim.instance_id)
    fleet.control()
    lines = [json.loads(line)["event"] for line in fleet.out.getvalue().splitlines()]
    assert lines == ["notice.seen", "target.deregistered", "instance.detached", "drain.requested"]


def test_an_interruption_twice(fleet: Any) -> None:
    """The same event again changes nothing: no second detach, no second replacement."""
    victim = fleet.members()[0]
    node = fleet.listen(victim)
    fleet.cloud.interrupt(victim.instance_id)
    fleet.control()
    _send(fleet, "EC2 Spot Instance Interruption Warning", {"instance-id": victim.instance_id})
    fleet.control()
    fleet.cloud.tick()
    assert len(node.orders) == 1
    assert len(fleet.logged("instance.detached")) == 1
    assert len(fleet.cloud.instances()) == 3
    assert fleet.waiting() == 0


def test_two_handlers_detach_the_same_instance(fleet: Any) -> None:
    """Whoever comes second finds done what it wanted, and the desired capacity as it was."""
    group = fleet.cloud.groups()[0]
    victim = fleet.members()[0]
    for _ in range(2):
        Account().detach(group.name, [victim.instance_id])
    assert victim.instance_id not in {member.instance_id for member in fleet.members()}
    assert fleet.cloud.groups()[0].desired == group.desired


def test_an_interruption_of_a_dead_node(fleet: Any) -> None:
    """Where nothing listens there is nobody to tell, and the rest is still done."""
    victim = fleet.members()[0]
    fleet.cloud.interrupt(victim.instance_id)
    fleet.control()
    assert len(fleet.logged("instance.detached")) == 1
    assert fleet.logged("drain.requested") == []
    assert fleet.waiting() == 0


def test_an_interruption_that_comes_late(fleet: Any) -> None:
    """An instance that nobody knows any more is dropped with a line, not an error."""
    gone = {"instance-id": "i-0123456789abcdef0"}
    _send(fleet, "EC2 Spot Instance Interruption Warning", gone)
    fleet.control()
    assert fleet.logged("notice.dropped")[0]["reason"] == "the instance is gone"
    assert fleet.waiting() == 0


def test_other_fleets(fleet: Any) -> None:
    """An instance of another stack is not touched, nor asked."""
    victim = fleet.members()[0]
    node = fleet.listen(victim)
    tags = [{"Key": "goldenfleet:stack", "Value": "other"}]
    fleet.client("ec2").create_tags(Resources=[victim.instance_id], Tags=tags)
    fleet.cloud.interrupt(victim.instance_id)
    fleet.control()
    assert fleet.logged("notice.dropped")[0]["reason"] == "another fleet's instance"
    assert len(fleet.members()) == 2
    assert node.orders == []


def test_a_recommendation(fleet: Any) -> None:
    """It is logged, and nothing moves."""
    fleet.cloud.recommend_rebalance(fleet.members()[0].instance_id)
    fleet.control()
    assert fleet.logged("notice.seen")[0]["kind"] == "rebalance"
    assert len(fleet.members()) == 2
    assert fleet.waiting() == 0


def test_junk(fleet: Any) -> None:
    """What is no notice is dropped with a line each, and does not come back."""
    sqs = fleet.client("sqs")
    for body in ("junk", "[]", '{"Event": "autoscaling:TEST_NOTIFICATION"}'):
        sqs.send_message(QueueUrl=fleet.queue_url, MessageBody=body)
    fleet.control()
    assert len(fleet.logged("notice.dropped")) == 3
    assert fleet.waiting() == 0


def test_a_scale_in_waits_until_empty(fleet: Any) -> None:
    """The hook is held while the node has work, and completed when it says that it is empty."""
    victim, node = _scale_in(fleet)
    fleet.control()
    assert [order["reason"] for order in node.orders] == ["terminate"]
    assert node.orders[0]["deadline_s"] == pytest.approx(120, abs=1)
    fleet.show_again()
    fleet.control()
    assert fleet.logged("hook.completed") == []
    assert len(node.orders) == 1
    assert fleet.waiting() == 1
    node.phase = "empty"
    fleet.show_again()
    fleet.control()
    assert fleet.logged("hook.completed")[0]["reason"] == "empty"
    assert fleet.waiting() == 0
    fleet.cloud.tick()
    assert _state(fleet, victim) in ("shutting-down", "terminated")


def test_a_scale_in_of_a_dead_node(fleet: Any) -> None:
    """Where nothing listens the hook is completed at once."""
    victim, node = _scale_in(fleet)
    node.close()
    fleet.nodes.remove(node)
    fleet.control()
    assert fleet.logged("hook.completed")[0]["reason"] == "dead"
    fleet.cloud.tick()
    assert _state(fleet, victim) in ("shutting-down", "terminated")


def test_a_scale_in_at_its_deadline(fleet: Any) -> None:
    """A node that is never empty is let go before the hook runs out."""
    _, node = _scale_in(fleet)
    fleet.control()
    fleet.clock.now += 111
    fleet.show_again()
    fleet.control()
    assert node.phase == "accepting"
    assert fleet.logged("hook.completed")[0]["reason"] == "deadline"


def test_a_hook_of_somebody_else(fleet: Any) -> None:
    """Whoever added it to our group has something to do before it is completed."""
    victim = fleet.members()[0]
    fleet.client("autoscaling").put_lifecycle_hook(
        AutoScalingGroupName=fleet.group,
        LifecycleHookName="collect-logs",
        LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING",
    )
    action = {"AutoScalingGroupName": fleet.group, "EC2InstanceId": victim.instance_id}
    fleet.client("sqs").send_message(
        QueueUrl=fleet.queue_url,
        MessageBody=json.dumps(
            {
                "Time": "2026-01-01T12:00:00Z",
                "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
                "LifecycleHookName": "collect-logs",
                **action,
            }
        ),
    )
    fleet.control()
    assert fleet.logged("notice.dropped")[0]["reason"] == "no hook of ours waits"
    assert fleet.logged("hook.completed") == []


def test_a_hook_that_was_completed_before(fleet: Any) -> None:
    """Somebody else let it go: the message ends all the same."""
    victim, node = _scale_in(fleet)
    node.phase = "empty"
    fleet.client("autoscaling").complete_lifecycle_action(
        AutoScalingGroupName=fleet.group,
        LifecycleHookName="drain",
        InstanceId=victim.instance_id,
        LifecycleActionResult="CONTINUE",
    )
    fleet.control()
    assert fleet.waiting() == 0
    assert fleet.logged("notice.failed") == []


def test_an_interruption_during_a_scale_in(fleet: Any) -> None:
    """A member that is already leaving is not detached; its node hears both, the hook is completed."""
    victim, node = _scale_in(fleet)
    _send(fleet, "EC2 Spot Instance Interruption Warning", {"instance-id": victim.instance_id})
    fleet.control()
    assert fleet.logged("instance.detached") == []
    assert node.orders
    node.phase = "empty"
    fleet.show_again()
    fleet.control()
    assert len(fleet.logged("hook.completed")) == 1
    assert fleet.waiting() == 0


@pytest.mark.parametrize("action", ["DeregisterTargets", "DetachInstances", "DescribeInstances"])
def test_a_throttled_account(fleet: Any, monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    """A call that AWS throttles puts the notice back; when it is let through the notice is followed. Once the
    instance is known all else is done at once, for AWS takes it whatever fails here; each thing once.
    """
    victim = fleet.members()[0]
    node = fleet.listen(victim)
    fleet.cloud.interrupt(victim.instance_id)
    with _Throttling(fleet.cloud.endpoint_url, action) as throttling:
        monkeypatch.setenv("AWS_ENDPOINT_URL", throttling.url)
        fleet.control()
        assert throttling.refused >= 1
        assert fleet.waiting() == 1
        assert len(node.orders) == (action != "DescribeInstances")
        assert len(fleet.logged("instance.detached")) == (action == "DeregisterTargets")
        assert "Throttling" in fleet.logged("notice.failed")[0]["error"]
        throttling.action = None
        monkeypatch.setenv("AWS_ENDPOINT_URL", fleet.cloud.endpoint_url)
    fleet.show_again()
    fleet.control()
    assert len(fleet.logged("instance.detached")) == 1
    assert len(node.orders) == 1
    assert [seen["kind"] for seen in fleet.logged("notice.seen")] == ["spot-interruption"]
    assert fleet.waiting() == 0


def test_notices_of_one_instance_take_no_more_time_than_there_is(fleet: Any) -> None:
    """Each waits for the one before: what has not begun when time grows short comes back."""
    at = datetime.fromtimestamp(fleet.clock(), UTC)
    event = {"source": "aws.ec2", "detail-type": "EC2 Spot Instance Interruption Warning"}
    bodies = [
        json.dumps(
            {**event, "time": (at + timedelta(seconds=n)).isoformat(), "detail": {"instance-id": "i-1"}}
        )
        for n in range(3)
    ]
    seconds = itertools.count(fleet.clock(), 1.0)
    handler = Handler(Rules("lab"), Account(), Log(fleet.out, fleet.clock), lambda: next(seconds))
    first, *_, last = handler.handle([Message(body) for body in bodies])
    assert (first, last) == (Done(), Again(1.0))


def test_an_unreachable_account(fleet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With AWS away the loop logs and goes on; nothing is raised."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    fleet.control()
    assert len(fleet.logged("queue.failed")) == 1


def test_a_storm(fleet: Any) -> None:
    """Ten notices are followed at the same time: one node that answers late does not hold up the others."""
    victim = fleet.members()[0]
    node = fleet.listen(victim)
    for _ in range(9):
        _send(fleet, "EC2 Spot Instance Interruption Warning", {"instance-id": "i-0123456789abcdef0"})
    with socket.create_server((fleet.members()[1].address, 9090)):  # accepts, and never answers
        fleet.cloud.interrupt(fleet.members()[1].instance_id)
        fleet.cloud.interrupt(victim.instance_id)
        fleet.control()
        fleet.control()
    assert len(node.orders) == 1
    assert len(fleet.logged("instance.detached")) == 2
    assert fleet.waiting() == 1  # the silent node's: it may not have heard


def test_five_hundred_at_once(fleet: Any) -> None:
    """Ours among hundreds that nobody knows, all twice over, and junk: each of ours is followed once, every
    message is done with, and the account is asked a few times, not five hundred.
    """
    victims = fleet.members()
    nodes = [fleet.listen(victim) for victim in victims]
    ids = [*(victim.instance_id for victim in victims), *(f"i-{n:017x}" for n in range(247))]
    at = datetime.fromtimestamp(fleet.clock(), UTC).isoformat()
    event = {"source": "aws.ec2", "detail-type": "EC2 Spot Instance Interruption Warning", "time": at}
    bodies = [json.dumps({**event, "detail": {"instance-id": one}}) for one in ids] * 2 + ["junk"] * 2
    fleet.cloud.traffic.forget()
    handler = Handler(Rules("lab"), Account(), Log(fleet.out, fleet.clock), fleet.clock)
    assert handler.handle([Message(body) for body in bodies]) == [Done()] * 500
    assert [len(node.orders) for node in nodes] == [1, 1]
    assert len(fleet.logged("instance.detached")) == 2
    assert sum(fleet.cloud.traffic.calls.values()) <= 6


def test_the_process(fleet: Any, until: Callable[[Callable[[], bool]], None], tmp_path: Any) -> None:
    """`python -m fleet.control` follows a notice, and ends cleanly on SIGTERM inside a long poll."""
    victim = fleet.members()[0]
    node = fleet.listen(victim)
    out = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "fleet.control", "--queue-url", fleet.queue_url, "--stack", "lab"]
    with out.open("w") as stdout, subprocess.Popen(command, stdout=stdout, env=dict(os.environ)) as process:
        until(lambda: "control.started" in out.read_text())
        fleet.cloud.interrupt(victim.instance_id)
        until(lambda: "drain.requested" in out.read_text() or process.poll() is not None)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    events = [json.loads(line) for line in out.read_text().splitlines()]
    assert next(e["event"] for e in events if e.get("instance_id")) == "notice.seen"
    assert events[-1]["event"] == "control.stopped"
    assert all(isinstance(event["ts"], float) for event in events)
    assert len(node.orders) == 1


def _scale_in(fleet: Any) -> tuple[Any, Any]:
    """Desired one less; the member that leaves, and its node."""
    fleet.client("autoscaling").update_auto_scaling_group(AutoScalingGroupName=fleet.group, MinSize=1)
    nodes = {member.instance_id: fleet.listen(member) for member in fleet.members()}
    fleet.cloud.set_desired(fleet.group, 1)
    fleet.cloud.tick()
    fleet.clock.now += 11  # the hook begins when the balancer has let go
    fleet.cloud.tick()
    left = {member.instance_id for member in fleet.members()}
    victim = next(i for i in fleet.cloud.instances() if i.instance_id in nodes.keys() - left)
    return victim, nodes[victim.instance_id]


def _state(fleet: Any, victim: Any) -> str:
    found = fleet.cloud.instances(terminated=True)
    return next(i.state for i in found if i.instance_id == victim.instance_id)


def _send(fleet: Any, kind: str, detail: dict[str, str]) -> None:
    boto3.client("events").put_events(
        Entries=[{"Source": "aws.ec2", "DetailType": kind, "Detail": json.dumps(detail)}]
    )


class _Throttling:
    """An endpoint before the cloud that refuses one action, as AWS throttles."""

    def __init__(self, upstream: str, action: str) -> None:
        self.action: str | None = action
        self.refused = 0
        outer = self

        class Relay(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if outer.action and f"Action={outer.action}&".encode() in body + b"&":
                    outer.refused += 1
                    error = b"<Error><Code>Throttling</Code><Message>Rate exceeded</Message></Error>"
                    self._say(400, b"<ErrorResponse>" + error + b"</ErrorResponse>")
                    return
                kept = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
                with urlopen(Request(upstream + self.path, body, kept)) as answer:  # moto answers 200 here
                    self._say(answer.status, answer.read())

            def _say(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Relay)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> _Throttling:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
