"""The program's own rollouts, as the rehearsal's engine makes and changes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fleet.rehearsal.cloud import Cloud, InstanceView
from fleet.rehearsal.resources import Aws, Want, handler_of
from fleet.rehearsal.resources.errors import ArgumentRefusedError, ArgumentUnmappedError

KIND = "pulumi-python:dynamic/goldenfleet:Rollout"
CAREFUL = {"minHealthyPercentage": 100, "maxHealthyPercentage": 110, "autoRollback": True}


class Nobody:
    def launched(self, instance: InstanceView) -> None:
        pass

    def killed(self, instance_id: str) -> None:
        pass


@pytest.fixture
def fleet(make_bench) -> Iterator[Any]:
    """A bench with a group without instances."""
    with Cloud(time_scale=0.01, seed=1, listener=Nobody()) as cloud:
        cloud.register_image("model", "test", "dev")
        bench = make_bench(Aws(cloud.endpoint_url, "us-east-1"))
        bench.template()
        _, subnets = bench.network()
        sizes = {"minSize": 0, "maxSize": 2, "desiredCapacity": 0}
        policy = {"mixedInstancesPolicy": mixed(bench, "1")["mixedInstancesPolicy"]}
        bench.make("autoscaling/group:Group", "fleet", vpcZoneIdentifiers=subnets, **sizes, **policy)
        yield bench


def mixed(bench: Any, version: str) -> dict[str, Any]:
    template = {"launchTemplateId": bench.wants["lt"][0], "version": version}
    overrides = [{"instanceType": "c7i.large", "weightedCapacity": None}]
    return {
        "mixedInstancesPolicy": {
            "launchTemplate": {"launchTemplateSpecification": template, "overrides": overrides}
        }
    }


def rollout(bench: Any, version: str, **more: Any) -> Want:
    group = bench.wants["fleet"][0]
    inputs = {"group": group, "configuration": mixed(bench, version), "preferences": CAREFUL, **more}
    return Want("rollout", "", "mark", inputs)


def refreshes(bench: Any) -> int:
    name = bench.wants["fleet"][0]
    found = bench.call("autoscaling.DescribeInstanceRefreshes", AutoScalingGroupName=name)
    return len(found["InstanceRefreshes"])


def test_what_aws_has_no_place_for_is_refused_before_anything_is_made(fleet) -> None:
    """In the configuration as in the preferences."""
    handler = handler_of(KIND)
    for more in ({"preferences": {"mood": "good"}}, {"configuration": {"launchConfiguration": "old"}}):
        with pytest.raises(ArgumentUnmappedError):
            handler.check(fleet.aws, rollout(fleet, "1", **more).inputs)


def test_what_aws_refuses_names_the_group_and_what_to_do(fleet) -> None:
    """As an error of the resource."""
    with pytest.raises(ArgumentRefusedError, match=fleet.wants["fleet"][0]):
        handler_of(KIND).make(fleet.aws, rollout(fleet, "9"))


def test_only_another_configuration_begins_a_refresh(fleet) -> None:
    """Neither the first look at a group that launches it, nor other preferences."""
    handler, first = handler_of(KIND), rollout(fleet, "1")
    identity = handler.make(fleet.aws, first)
    assert (identity, refreshes(fleet)) == (fleet.wants["fleet"][0], 0)
    fleet.change("ec2/launchTemplate:LaunchTemplate", "lt", userData="dGV4dA==")
    second = rollout(fleet, "2")
    want = Want("rollout", "", "mark", second.inputs, first.inputs)
    handler.settle(fleet.aws, identity, want, {"preferences"})
    assert refreshes(fleet) == 0
    handler.settle(fleet.aws, identity, want, {"configuration"})
    assert refreshes(fleet) == 1
    handler.delete(fleet.aws, identity, want)
    assert refreshes(fleet) == 1
