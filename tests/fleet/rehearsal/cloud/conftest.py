"""One small AWS, twice: plain moto, and the emulated cloud with a fake clock and real HTTP nodes."""

from __future__ import annotations

import base64
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import boto3
import pytest
from moto import mock_aws

from fleet.rehearsal.cloud import Cloud, CloudEvent, InstanceView

USER_DATA = "#!/bin/sh\nexec goldenfleet-boot --role model --stack rehearsal\n"
START = 1_700_000_000.0


class Aws:
    """Clients of one AWS and a few calls that tests share."""

    hook: ClassVar[dict[str, Any]] = {
        "LifecycleHookName": "drain",
        "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
        "HeartbeatTimeout": 60,
        "DefaultResult": "CONTINUE",
        "NotificationMetadata": "for the drain",
    }

    def __init__(self, client: Callable[[str], Any]) -> None:
        self.ec2, self.asg, self.elb = client("ec2"), client("autoscaling"), client("elbv2")
        self.sqs, self.events, self.ssm = client("sqs"), client("events"), client("ssm")
        self.iam, self.cloudwatch, self.logs = client("iam"), client("cloudwatch"), client("logs")
        self.image = self.ec2.register_image(Name="image", RootDeviceName="/dev/xvda")["ImageId"]
        self.vpc = self.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        self.subnets = [self._subnet(number, zone) for number, zone in enumerate("abc")]
        self.template = self.make_template("template")

    def _subnet(self, number: int, zone: str) -> str:
        found = self.ec2.create_subnet(
            VpcId=self.vpc, CidrBlock=f"10.0.{240 + number}.0/24", AvailabilityZone=f"us-east-1{zone}"
        )
        return str(found["Subnet"]["SubnetId"])

    def make_template(self, name: str, **data: Any) -> str:
        found = self.ec2.create_launch_template(
            LaunchTemplateName=name,
            LaunchTemplateData={
                "ImageId": self.image,
                "InstanceType": "g5.xlarge",
                "UserData": base64.b64encode(USER_DATA.encode()).decode(),
                "MetadataOptions": {"HttpTokens": "required", "InstanceMetadataTags": "enabled"},
                "TagSpecifications": [
                    {"ResourceType": "instance", "Tags": [{"Key": "goldenfleet:tier", "Value": "model"}]}
                ],
                **data,
            },
        )
        return str(found["LaunchTemplate"]["LaunchTemplateId"])

    def make_group(self, name: str = "group", **fields: Any) -> str:
        """A group of on-demand instances unless `fields` say otherwise; None leaves a field out."""
        shape: dict[str, Any] = {
            "AutoScalingGroupName": name,
            "MinSize": 0,
            "MaxSize": 8,
            "DesiredCapacity": 1,
            "VPCZoneIdentifier": ",".join(self.subnets),
            **fields,
        }
        if "MixedInstancesPolicy" not in shape and "LaunchTemplate" not in shape:
            shape["LaunchTemplate"] = {"LaunchTemplateId": self.template, "Version": "1"}
        self.asg.create_auto_scaling_group(**{k: v for k, v in shape.items() if v is not None})
        return name

    def mixed(self, base: int = 1, percentage: int = 0, types: tuple[str, ...] = ("g5.xlarge",)) -> Any:
        return {
            "LaunchTemplate": {
                "LaunchTemplateSpecification": {"LaunchTemplateId": self.template, "Version": "1"},
                "Overrides": [{"InstanceType": kind} for kind in types],
            },
            "InstancesDistribution": {
                "OnDemandBaseCapacity": base,
                "OnDemandPercentageAboveBaseCapacity": percentage,
                "SpotAllocationStrategy": "price-capacity-optimized",
                "OnDemandAllocationStrategy": "prioritized",
            },
        }

    def make_target_group(self, *, listener: bool = True) -> str:
        arn = self.elb.create_target_group(
            Name="targets",
            Protocol="HTTP",
            Port=8080,
            VpcId=self.vpc,
            HealthCheckPath="/ready",
            HealthCheckIntervalSeconds=10,
            HealthCheckTimeoutSeconds=5,
            HealthyThresholdCount=2,
            UnhealthyThresholdCount=2,
        )["TargetGroups"][0]["TargetGroupArn"]
        self.elb.modify_target_group_attributes(
            TargetGroupArn=arn, Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "60"}]
        )
        if listener:
            self.make_listener(arn)
        return str(arn)

    def make_listener(self, arn: str) -> None:
        balancer = self.elb.create_load_balancer(Name="balancer", Subnets=self.subnets)["LoadBalancers"][0]
        self.elb.create_listener(
            LoadBalancerArn=balancer["LoadBalancerArn"],
            Protocol="HTTP",
            Port=80,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": arn}],
        )

    def make_queue(self, pattern: dict[str, Any]) -> str:
        """A queue that a rule with this pattern feeds."""
        url = self.sqs.create_queue(QueueName="notices")["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
        self.events.put_rule(Name="rule", EventPattern=json.dumps(pattern))
        self.events.put_targets(Rule="rule", Targets=[{"Id": "queue", "Arn": arn["QueueArn"]}])
        return str(url)

    def received(self, url: str) -> list[dict[str, Any]]:
        found = []
        while messages := self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                found.append(json.loads(message["Body"]))
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return found

    def group(self, name: str = "group") -> dict[str, Any]:
        found = self.asg.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
        return dict(found[0])

    def members(self, name: str = "group") -> dict[str, str]:
        """Lifecycle states by instance id."""
        return {one["InstanceId"]: one["LifecycleState"] for one in self.group(name)["Instances"]}

    def instance(self, instance_id: str) -> dict[str, Any]:
        found = self.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"]
        return dict(found[0])

    def health(self, arn: str, *instance_ids: str) -> dict[str, str]:
        wanted = {"Targets": [{"Id": one} for one in instance_ids]} if instance_ids else {}
        found = self.elb.describe_target_health(TargetGroupArn=arn, **wanted)["TargetHealthDescriptions"]
        return {one["Target"]["Id"]: one["TargetHealth"]["State"] for one in found}

    def activities(self, name: str = "group") -> list[dict[str, Any]]:
        return list(self.asg.describe_scaling_activities(AutoScalingGroupName=name)["Activities"])


@dataclass
class Clock:
    now: float = START

    def __call__(self) -> float:
        return self.now


class Node:
    """A real HTTP server on an instance's address; `status` is what /ready answers."""

    def __init__(self, address: str) -> None:
        node = self
        self.status = 200

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(node.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                del args

        self._server = ThreadingHTTPServer((address, 8080), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@dataclass
class Nodes:
    """The listener: every launched instance gets a node while `serving`."""

    serving: bool = True
    launched_views: list[InstanceView] = field(default_factory=list)
    killed_ids: list[str] = field(default_factory=list)
    running: dict[str, Node] = field(default_factory=dict)

    def launched(self, instance: InstanceView) -> None:
        self.launched_views.append(instance)
        if self.serving:
            self.running[instance.instance_id] = Node(instance.address)

    def killed(self, instance_id: str) -> None:
        self.killed_ids.append(instance_id)
        node = self.running.pop(instance_id, None)
        if node is not None:
            node.stop()


class Emulated(Aws):
    """The emulated cloud at time scale 0.1, moved on by hand."""

    def __init__(self, cloud: Cloud, clock: Clock, nodes: Nodes, told: list[CloudEvent], client: Any) -> None:
        super().__init__(client)
        self.cloud, self.clock, self.nodes, self.told = cloud, clock, nodes, told

    def tick(self, seconds: float = 0.0, times: int = 1) -> None:
        """Move the clock on, then let what is due happen; so many times."""
        for _ in range(times):
            self.clock.now += seconds
            self.cloud.tick()

    def settle(self) -> None:
        """Enough small steps for launches, hooks that nobody waits for, and one health check."""
        self.tick(0.5, 4)

    def kinds(self, instance_id: str | None = None) -> list[str]:
        return [one.kind for one in self.told if instance_id in (None, one.instance_id)]

    def one(self, option: str) -> str:
        """An instance bought so, in service."""
        return next(
            one.instance_id
            for one in self.cloud.instances()
            if one.purchase_option == option and one.lifecycle_state == "InService"
        )

    def service_options(self) -> list[str]:
        """How the members in service were bought, sorted."""
        return sorted(
            one.purchase_option for one in self.cloud.instances() if one.lifecycle_state == "InService"
        )


@pytest.fixture(scope="session", autouse=True)
def _no_public_images() -> Iterator[None]:
    """Moto makes some 1300 public images with every EC2; no test here wants one, and they take long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
        yield


@pytest.fixture(scope="session")
def port() -> int:
    """One port for every cloud of this process, so that clients are made once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="session")
def client(port: int) -> Callable[[str], Any]:
    return _cached_clients(endpoint_url=f"http://127.0.0.1:{port}")


@pytest.fixture(scope="session")
def plain_client() -> Callable[[str], Any]:
    return _cached_clients()


def _cached_clients(**arguments: Any) -> Callable[[str], Any]:
    session = boto3.Session("rehearsal", "rehearsal", region_name="us-east-1")
    made: dict[str, Any] = {}

    def get(service: str) -> Any:
        if service not in made:
            made[service] = session.client(service, **arguments)  # type: ignore[call-overload]
        return made[service]

    return get


Plain = Callable[[], AbstractContextManager[Aws]]
Emulate = Callable[[], AbstractContextManager[Emulated]]


@pytest.fixture
def plain(plain_client: Callable[[str], Any]) -> Plain:
    """Plain moto, as released."""

    @contextmanager
    def run() -> Iterator[Aws]:
        with mock_aws():
            yield Aws(plain_client)

    return run


@pytest.fixture
def emulate(port: int, client: Callable[[str], Any], caplog: pytest.LogCaptureFixture) -> Emulate:
    """The emulated cloud; a failing tick or callback fails the test."""

    @contextmanager
    def run() -> Iterator[Emulated]:
        clock, nodes, told = Clock(), Nodes(), list[CloudEvent]()
        with Cloud(
            time_scale=0.1,
            seed=1,
            clock=clock,
            listener=nodes,
            port=port,
            on_event=told.append,
            ticking=False,
        ) as cloud:
            try:
                yield Emulated(cloud, clock, nodes, told, client)
            finally:
                for node in nodes.running.values():
                    node.stop()
        assert [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR] == []

    return run


@pytest.fixture
def aws(emulate: Emulate) -> Iterator[Emulated]:
    with emulate() as found:
        yield found
