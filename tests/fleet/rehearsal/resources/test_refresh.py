"""Instance refresh on the emulated cloud: started when what a group launches has changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fleet.rehearsal.cloud import Cloud, InstanceView
from fleet.rehearsal.resources import Aws, Want, handler_of
from fleet.rehearsal.resources.errors import ArgumentUnmappedError
from fleet.rehearsal.resources.refresh import refresh_request

GROUP = "autoscaling/group:Group"
ROLLING = {"strategy": "Rolling", "preferences": {"minHealthyPercentage": 50, "instanceWarmup": "0"}}


class Nobody:
    """Instances without nodes."""

    def launched(self, instance: InstanceView) -> None:
        pass

    def killed(self, instance_id: str) -> None:
        pass


@pytest.fixture
def fleet(make_bench) -> Iterator[Any]:
    """A bench on the emulated cloud, with a group of two instances that refreshes itself."""
    with Cloud(time_scale=0.01, seed=1, listener=Nobody()) as cloud:
        cloud.register_image("model", "test", "dev")
        bench = make_bench(Aws(cloud.endpoint_url, "us-east-1"))
        bench.group(desiredCapacity=2, instanceRefresh=ROLLING)
        yield bench


def refreshes(bench: Any) -> list[dict[str, Any]]:
    name = bench.wants["fleet"][0]
    found = bench.call("autoscaling.DescribeInstanceRefreshes", AutoScalingGroupName=name)
    return list(found["InstanceRefreshes"])


def new_version(bench: Any) -> dict[str, str]:
    bench.change("ec2/launchTemplate:LaunchTemplate", "lt", userData="dGV4dA==")
    version = str(bench.outputs("ec2/launchTemplate:LaunchTemplate", "lt")["latestVersion"])
    return {"id": bench.wants["lt"][0], "version": version}


def test_a_new_template_version_starts_a_refresh_as_the_program_prefers(fleet) -> None:
    """The group's own preferences reach AWS."""
    fleet.change(GROUP, "fleet", launchTemplate=new_version(fleet))
    (started,) = refreshes(fleet)
    assert started["Preferences"]["MinHealthyPercentage"] == 50


MIXED = {"launchTemplate": {"launchTemplateSpecification": {"launchTemplateId": "lt-1", "version": "2"}}}
LAUNCHED = {
    "template": (
        {"launchTemplate": {"id": "lt-1", "version": "2"}},
        {"LaunchTemplate": {"LaunchTemplateId": "lt-1", "Version": "2"}},
    ),
    "mixed policy": (
        {"mixedInstancesPolicy": MIXED},
        {
            "MixedInstancesPolicy": {
                "LaunchTemplate": {
                    "LaunchTemplateSpecification": {"LaunchTemplateId": "lt-1", "Version": "2"}
                }
            }
        },
    ),
}


@pytest.mark.parametrize("case", LAUNCHED)
def test_automatic_rollback_is_told_what_it_rolls_out(case, aws) -> None:
    """AWS refuses AutoRollback without a DesiredConfiguration."""
    inputs, configuration = LAUNCHED[case]
    refresh = {"strategy": "Rolling", "preferences": {"autoRollback": True}}
    request = refresh_request(aws, "g", Want("g", "g", "", {**inputs, "instanceRefresh": refresh}))
    assert request["Preferences"] == {"AutoRollback": True}
    assert request["DesiredConfiguration"] == configuration


def test_other_changes_start_none_unless_they_are_triggers(fleet) -> None:
    """A size is no reason to replace nodes; a tag is one if the program says so."""
    fleet.change(GROUP, "fleet", maxSize=5)
    assert refreshes(fleet) == []
    tags = [{"key": "a", "value": "b", "propagateAtLaunch": True}]
    fleet.change(GROUP, "fleet", tags=tags, instanceRefresh={**ROLLING, "triggers": ["tags"]})
    assert len(refreshes(fleet)) == 1


def test_a_refresh_that_still_runs_is_cancelled_for_a_newer_one(fleet) -> None:
    """Rolling out what is not wanted any more would only delay what is."""
    fleet.change(GROUP, "fleet", launchTemplate=new_version(fleet))
    fleet.change(GROUP, "fleet", launchTemplate=new_version(fleet))
    statuses = [refresh["Status"] for refresh in refreshes(fleet)]
    assert len(statuses) == 2
    assert statuses.count("Cancelled") + statuses.count("Successful") >= 1


def test_a_preference_that_aws_does_not_know_is_refused(fleet) -> None:
    """Also inside the block that only a later change sends."""
    with pytest.raises(ArgumentUnmappedError, match=r"instanceRefresh\.preferences\.mood"):
        handler_of(f"aws:{GROUP}").check(fleet.aws, {"instanceRefresh": {"preferences": {"mood": "good"}}})
