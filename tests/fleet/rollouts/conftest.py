"""Groups of a stack on the emulated cloud, whose clock tests move; no instance has a node."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest

from fleet.rehearsal.cloud import Cloud, InstanceView

STACK = "test"
START = 1_700_000_000.0


class Nobody:
    def launched(self, instance: InstanceView) -> None:
        pass

    def killed(self, instance_id: str) -> None:
        pass


@dataclass
class Clock:
    now: float = START

    def __call__(self) -> float:
        return self.now


@dataclass
class Fleet:
    """One group a tier, each of a template of its own; at time scale 0.1."""

    cloud: Cloud
    clock: Clock
    client: Callable[[str], Any]
    templates: dict[str, str] = field(default_factory=dict)

    def tier(self, name: str = "model", desired: int = 3) -> str:
        """The name of the tier's group, all of it in service."""
        asg, ec2 = self.client("autoscaling"), self.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.240.0/20")["Subnet"]["SubnetId"]
        template = ec2.create_launch_template(
            LaunchTemplateName=name, LaunchTemplateData={"ImageId": self.image(), "InstanceType": "g6.xlarge"}
        )
        self.templates[name] = template["LaunchTemplate"]["LaunchTemplateId"]
        tags = {"goldenfleet:stack": STACK, "goldenfleet:tier": name, "goldenfleet:channel": "gpu/prod"}
        asg.create_auto_scaling_group(
            AutoScalingGroupName=name,
            MinSize=0,
            MaxSize=9,
            DesiredCapacity=desired,
            VPCZoneIdentifier=subnet,
            MixedInstancesPolicy=self.policy(name),
            DefaultInstanceWarmup=0,
            Tags=[{"Key": k, "Value": v, "PropagateAtLaunch": True} for k, v in tags.items()],
        )
        self.tick(10)
        return name

    def policy(self, tier: str = "model", version: str = "1") -> dict[str, Any]:
        specification = {"LaunchTemplateId": self.templates[tier], "Version": version}
        return {
            "LaunchTemplate": {
                "LaunchTemplateSpecification": specification,
                "Overrides": [{"InstanceType": "g6.xlarge"}],
            },
            "InstancesDistribution": {
                "OnDemandBaseCapacity": 1,
                "OnDemandPercentageAboveBaseCapacity": 0,
                "SpotAllocationStrategy": "price-capacity-optimized",
            },
        }

    def image(self) -> str:
        return self.cloud.register_image("gpu", STACK, "prod")

    def version(self, tier: str = "model", image: str | None = None) -> str:
        """The number of a new version of the tier's template."""
        made = self.client("ec2").create_launch_template_version(
            LaunchTemplateId=self.templates[tier],
            LaunchTemplateData={"ImageId": image or self.image(), "InstanceType": "g6.xlarge"},
        )
        return str(made["LaunchTemplateVersion"]["VersionNumber"])

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.clock.now += 0.5
            self.cloud.tick()

    def refreshes(self, group: str = "model") -> list[dict[str, Any]]:
        found = self.client("autoscaling").describe_instance_refreshes(AutoScalingGroupName=group)
        return list(found["InstanceRefreshes"])

    def statuses(self, group: str = "model") -> list[str]:
        return [one["Status"] for one in self.refreshes(group)]

    def group(self, name: str = "model") -> dict[str, Any]:
        found = self.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[name])
        return dict(found["AutoScalingGroups"][0])

    def versions(self, group: str = "model") -> list[str]:
        living = [one for one in self.group(group)["Instances"] if one["LifecycleState"] == "InService"]
        return sorted(one["LaunchTemplate"]["Version"] for one in living)


@pytest.fixture(scope="module")
def port() -> int:
    """One for all clouds of a module, so that clients, which take long to make, are made once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def client(port: int) -> Callable[[str], Any]:
    session = boto3.Session("rehearsal", "rehearsal", region_name="us-east-1")
    made: dict[str, Any] = {}

    def get(service: str) -> Any:
        if service not in made:
            url = f"http://127.0.0.1:{port}"
            made[service] = session.client(service, endpoint_url=url)  # type: ignore[call-overload]
        return made[service]

    return get


@pytest.fixture
def fleet(port: int, client: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """Commands find it by the environment."""
    for key, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "rehearsal",
        "AWS_SECRET_ACCESS_KEY": "rehearsal",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(key, value)
    for key in ("GOLDENFLEET_STACK", "GOLDENFLEET_REHEARSAL", "AWS_PROFILE"):
        monkeypatch.delenv(key, raising=False)
    clock = Clock()
    with Cloud(time_scale=0.1, seed=1, clock=clock, listener=Nobody(), port=port, ticking=False) as cloud:
        yield Fleet(cloud, clock, client)
