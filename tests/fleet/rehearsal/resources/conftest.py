"""Handlers on moto, in process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from moto import mock_aws

from fleet.rehearsal.resources import Aws, Want, handler_of


class Bench:
    """Makes, changes and deletes resources as a run of the program does."""

    def __init__(self, aws: Aws) -> None:
        self.aws = aws
        self.wants: dict[str, tuple[str, Want]] = {}

    def make(self, kind: str, name: str, /, **inputs: Any) -> str:
        handler = handler_of(f"aws:{kind}")
        given = inputs.get(handler.name_argument) if handler.name_argument else None
        physical = "" if handler.name_argument is None else str(given or f"{name}-0123456")
        want = Want(name, physical, f"mark-{name}", inputs)
        handler.check(self.aws, inputs)
        assert handler.find(self.aws, want) is None
        identity = handler.make(self.aws, want)
        handler.settle(self.aws, identity, want, handler.settled & set(inputs))
        self.wants[name] = (identity, want)
        return identity

    def find(self, kind: str, name: str) -> str | None:
        return handler_of(f"aws:{kind}").find(self.aws, self.wants[name][1])

    def outputs(self, kind: str, name: str) -> dict[str, Any]:
        identity, want = self.wants[name]
        return handler_of(f"aws:{kind}").outputs(self.aws, identity, want)

    def change(self, kind: str, name: str, /, **inputs: Any) -> None:
        """Put other arguments into force; None takes one away."""
        identity, old = self.wants[name]
        now = {key: value for key, value in {**old.inputs, **inputs}.items() if value is not None}
        want = Want(old.name, old.physical, old.mark, now, old.inputs)
        handler_of(f"aws:{kind}").settle(self.aws, identity, want, set(inputs))
        self.wants[name] = (identity, want)

    def delete(self, kind: str, name: str) -> None:
        identity, want = self.wants[name]
        handler_of(f"aws:{kind}").delete(self.aws, identity, want)

    def call(self, operation: str, **request: Any) -> dict[str, Any]:
        return self.aws.call(operation, **request)

    def image(self) -> str:
        return str(self.call("ec2.RegisterImage", Name="image", RootDeviceName="/dev/xvda")["ImageId"])

    def network(self) -> tuple[str, list[str]]:
        if "net" in self.wants:
            return self.wants["net"][0], [self.wants[f"subnet-{zone}"][0] for zone in "ab"]
        vpc = self.make("ec2/vpc:Vpc", "net", cidrBlock="10.0.0.0/16")
        subnets = [
            self.make(
                "ec2/subnet:Subnet",
                f"subnet-{zone}",
                vpcId=vpc,
                cidrBlock=f"10.0.{number}.0/24",
                availabilityZone=f"us-east-1{zone}",
            )
            for number, zone in enumerate("ab")
        ]
        return vpc, subnets

    def balancer(self) -> tuple[str, str]:
        """ARNs of a load balancer and a target group."""
        vpc, subnets = self.network()
        group = self.make("ec2/securityGroup:SecurityGroup", "web", vpcId=vpc, description="web")
        arn = self.make(
            "lb/loadBalancer:LoadBalancer", "lb", subnets=subnets, securityGroups=[group], idleTimeout=30
        )
        target = self.make("lb/targetGroup:TargetGroup", "tg", vpcId=vpc, port=8080, protocol="HTTP")
        return arn, target

    def template(self, **inputs: Any) -> str:
        given: Mapping[str, Any] = {"imageId": self.image(), "instanceType": "c7i.large", **inputs}
        return self.make("ec2/launchTemplate:LaunchTemplate", "lt", **given)

    def group(self, **inputs: Any) -> str:
        """The name of an Auto Scaling group, without instances unless it is told."""
        _, subnets = self.network()
        template = {"id": self.template(), "version": "1"}
        sizes = {"minSize": 0, "maxSize": 2, "desiredCapacity": 0}
        given = {**sizes, "launchTemplate": template, "vpcZoneIdentifiers": subnets, **inputs}
        return self.make("autoscaling/group:Group", "fleet", **given)


@pytest.fixture(scope="session")
def aws() -> Aws:
    """One for all tests: clients take long to make."""
    return Aws(None, "us-east-1")


@pytest.fixture
def bench(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    # Every reset would load some five hundred images that nobody asks for.
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
    with mock_aws():
        yield Bench(aws)


@pytest.fixture(scope="session")
def make_bench() -> type[Bench]:
    return Bench
