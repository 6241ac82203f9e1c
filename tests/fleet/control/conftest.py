"""A small fleet in the emulated cloud, and a node's admin API on the instance's own address."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest

from fleet.control.aws import Account
from fleet.control.drain import Rules
from fleet.control.handler import Handler
from fleet.control.log import Log
from fleet.control.queue import Queue
from fleet.rehearsal.cloud import Cloud, InstanceView

STACK = "lab"
PATTERNS = {
    "interruption": {"source": ["aws.ec2"], "detail-type": ["EC2 Spot Instance Interruption Warning"]},
    "rebalance": {"source": ["aws.ec2"], "detail-type": ["EC2 Instance Rebalance Recommendation"]},
    "termination": {
        "source": ["aws.autoscaling"],
        "detail-type": ["EC2 Instance-terminate Lifecycle Action"],
    },
    "state": {
        "source": ["aws.ec2"],
        "detail-type": ["EC2 Instance State-change Notification"],
        "detail": {"state": ["stopping", "stopped", "shutting-down", "terminated"]},
    },
}


class Clock:
    def __init__(self) -> None:
        self.now = time.time() - 160.0  # now, once the fleet is built: a real process shares it

    def __call__(self) -> float:
        return self.now


class Node:
    """What listens on an instance's admin port."""

    def __init__(self, address: str, clock: Clock) -> None:
        self.phase = "serving"
        self.deadline: float | None = None
        self.bound = False
        self.orders: list[dict[str, Any]] = []
        node = self

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                assert self.path == "/state"
                self._say(200)

            def do_POST(self) -> None:
                if self.path == "/undrain":
                    if not node.bound:
                        node.phase, node.deadline = "serving", None
                    self._say(409 if node.bound else 200)
                    return
                assert self.path == "/drain"
                order = json.loads(self.rfile.read(int(self.headers["content-length"])))
                node.orders.append(order)
                node.phase = "accepting" if node.phase == "serving" else node.phase
                node.deadline = clock() + order["deadline_s"]
                self._say(202)

            def _say(self, status: int) -> None:
                raw = json.dumps({"phase": node.phase, "deadline": node.deadline, "in_flight": 1}).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: object) -> None:
                return None

        self._server = ThreadingHTTPServer((address, 9090), Answers)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class NoListener:
    def launched(self, instance: InstanceView) -> None:
        return None

    def killed(self, instance_id: str) -> None:
        return None


@dataclass
class Fleet:
    """Two spot instances of one group behind one target group, and the queue of its notices."""

    cloud: Cloud
    clock: Clock
    queue_url: str
    target_group: str
    group: str = "gf-lab-model"
    out: io.StringIO = field(default_factory=io.StringIO)
    nodes: list[Node] = field(default_factory=list)

    def client(self, service: Any) -> Any:
        return boto3.client(service)

    def settle(self) -> None:
        """Let everything that is due happen, launches included."""
        for _ in range(4):
            self.clock.now += 40
            self.cloud.tick()

    def members(self) -> list[InstanceView]:
        return [i for i in self.cloud.instances() if i.lifecycle_state == "InService"]

    def listen(self, instance: InstanceView) -> Node:
        self.nodes.append(Node(instance.address, self.clock))
        return self.nodes[-1]

    def control(self, **rules: Any) -> None:
        """One round of the handler over the queue, as `--once` does."""
        log = Log(self.out, self.clock)
        handler = Handler(Rules(STACK, **{"recheck_s": 1.0, **rules}), Account(), log, self.clock)
        Queue(self.queue_url, handler, log).run(once=True, stopped=threading.Event())

    def ask(self, kind: str, instance_id: str, **detail: Any) -> None:
        """What a person asks of the stack's queue: Drain or Undrain."""
        told = {"instance-id": instance_id, "reason": "bad disk", "by": "ann", "request": "r-1", **detail}
        at = datetime.fromtimestamp(self.clock(), UTC).isoformat()
        message = {"source": "goldenfleet", "detail-type": f"Goldenfleet {kind} Request", "time": at}
        body = json.dumps({**message, "detail": told})
        self.client("sqs").send_message(QueueUrl=self.queue_url, MessageBody=body)

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.out.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]

    def waiting(self) -> int:
        """Messages in the queue, hidden ones included."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.client("sqs").get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=names)
        return sum(int(value) for value in found["Attributes"].values())

    def show_again(self) -> None:
        """Wait, for real, until a message that was put back is visible."""
        names = ["ApproximateNumberOfMessages"]
        tick = threading.Event()
        for _ in range(400):
            found = self.client("sqs").get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=names)
            if int(found["Attributes"]["ApproximateNumberOfMessages"]):
                return
            tick.wait(0.01)
        raise AssertionError("no message came back")

    def target_states(self) -> dict[str, str]:
        health = self.client("elbv2").describe_target_health(TargetGroupArn=self.target_group)
        return {t["Target"]["Id"]: t["TargetHealth"]["State"] for t in health["TargetHealthDescriptions"]}


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    clock = Clock()
    with Cloud(time_scale=1.0, seed=1, clock=clock, listener=NoListener(), ticking=False) as cloud:
        for name, value in {
            "AWS_ENDPOINT_URL": cloud.endpoint_url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }.items():
            monkeypatch.setenv(name, value)
        made = _build(cloud, clock)
        yield made
        for node in made.nodes:
            node.close()


def _build(cloud: Cloud, clock: Clock) -> Fleet:
    ec2, elb, groups = boto3.client("ec2"), boto3.client("elbv2"), boto3.client("autoscaling")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.96.0/20", AvailabilityZone="us-east-1a")
    subnet_id = subnet["Subnet"]["SubnetId"]
    target_group = elb.create_target_group(
        Name="gf-lab-model", Protocol="HTTP", Port=8080, VpcId=vpc, HealthCheckPath="/ready"
    )["TargetGroups"][0]["TargetGroupArn"]
    delay = {"Key": "deregistration_delay.timeout_seconds", "Value": "10"}
    elb.modify_target_group_attributes(TargetGroupArn=target_group, Attributes=[delay])
    other = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.112.0/20", AvailabilityZone="us-east-1b")
    balancer = elb.create_load_balancer(
        Name="gf-lab", Subnets=[subnet_id, other["Subnet"]["SubnetId"]], Scheme="internal"
    )["LoadBalancers"][0]["LoadBalancerArn"]
    elb.create_listener(
        LoadBalancerArn=balancer,
        Protocol="HTTP",
        Port=80,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": target_group}],
    )
    template = ec2.create_launch_template(
        LaunchTemplateName="gf-lab-model",
        LaunchTemplateData={
            "ImageId": cloud.register_image("model-cpu", STACK, "dev"),
            "InstanceType": "c7i.large",
        },
    )["LaunchTemplate"]
    groups.create_auto_scaling_group(
        AutoScalingGroupName="gf-lab-model",
        MinSize=2,
        MaxSize=4,
        DesiredCapacity=2,
        VPCZoneIdentifier=subnet_id,
        TargetGroupARNs=[target_group],
        MixedInstancesPolicy={
            "LaunchTemplate": {
                "LaunchTemplateSpecification": {
                    "LaunchTemplateId": template["LaunchTemplateId"],
                    "Version": "1",
                },
                "Overrides": [{"InstanceType": "c7i.large"}],
            },
            "InstancesDistribution": {
                "OnDemandBaseCapacity": 0,
                "OnDemandPercentageAboveBaseCapacity": 0,
                "SpotAllocationStrategy": "price-capacity-optimized",
            },
        },
        Tags=[
            {
                "ResourceId": "gf-lab-model",
                "ResourceType": "auto-scaling-group",
                "Key": "goldenfleet:stack",
                "Value": STACK,
                "PropagateAtLaunch": True,
            }
        ],
        LifecycleHookSpecificationList=[
            {
                "LifecycleHookName": "drain",
                "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
                "HeartbeatTimeout": 120,
                "DefaultResult": "CONTINUE",
            }
        ],
    )
    fleet = Fleet(cloud, clock, _queue(), target_group)
    fleet.settle()
    return fleet


def _queue() -> str:
    sqs, events = boto3.client("sqs"), boto3.client("events")
    url: str = sqs.create_queue(QueueName="gf-lab-notices")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    for name, pattern in PATTERNS.items():
        events.put_rule(Name=name, EventPattern=json.dumps(pattern))
        events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])
    return url


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Waits for a condition that another process brings about."""

    def wait(condition: Callable[[], bool]) -> None:
        tick = threading.Event()
        for _ in range(2000):
            if condition():
                return
            tick.wait(0.01)
        raise AssertionError("it did not come to that")

    return wait
