"""How a tier is rolled out: settings that cannot work, what the program asks for, and Pulumi's side of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import grpc
import pytest
from google.protobuf import struct_pb2
from google.protobuf.json_format import MessageToDict
from pulumi.dynamic.dynamic import serialize_provider
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from fleet.errors import SettingsError
from fleet.rehearsal.cloud import Cloud, InstanceView
from fleet.stack.rollout import RolloutProvider, check_credentials
from fleet.stack.settings_rollout import Rollout, room_problem

if TYPE_CHECKING:
    from tests.fleet.stack.conftest import Registered

PROJECT = Path(__file__).parents[3]
KIND = "pulumi-python:dynamic/goldenfleet:Rollout"
GROUP = "gf-test-model-0123456"


REFUSED = {
    "not to the end": ({"checkpointPercents": [20, 50]}, "end with 100"),
    "twice": ({"checkpointPercents": [20, 20, 100]}, "name each share once"),
    "backwards": ({"checkpointPercents": [50, 20, 100]}, "ascending"),
    "none": ({"checkpointPercents": []}, "end with 100"),
    "too far apart": ({"minHealthyPercent": 90, "maxHealthyPercent": 190}, None),
    "below what is promised": ({"minHealthyPercent": 80}, "greater than or equal to 90"),
    "beyond AWS": ({"bakeSeconds": 200_000}, "less than or equal to 172800"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_aws_would_refuse_is_refused_here(case: str) -> None:
    """With the number to change; the widest range that AWS takes passes."""
    given, message = REFUSED[case]
    if message is None:
        Rollout.model_validate(given)
        return
    with pytest.raises(ValueError, match=message):
        Rollout.model_validate(given)


@pytest.mark.parametrize(
    ("nodes", "least", "most", "advice"),
    [
        (1, 100, 100, "raise maxHealthyPercent to 110"),
        (1, 90, 100, "raise maxHealthyPercent to 110"),
        (9, 90, 100, "raise maxHealthyPercent to 110"),
        (12, 95, 100, "or lower minHealthyPercent to 91"),
        (10, 90, 100, None),
        (1, 100, 101, None),
        (0, 100, 100, "raise maxHealthyPercent to 110"),
    ],
)
def test_a_tier_too_small_for_its_percentages_is_refused(
    nodes: int, least: int, most: int, advice: str | None
) -> None:
    """Where no node could go and none may come first, AWS would break the maximum."""
    asked = Rollout.model_validate({"minHealthyPercent": least, "maxHealthyPercent": most})
    problem = room_problem(asked, nodes)
    if advice is None:
        assert problem is None
    else:
        assert problem is not None
        assert advice in problem
        assert f"of {max(1, nodes)} nodes" in problem


def test_every_tier_is_rolled_out_to_its_templates_number(registered: Registered) -> None:
    """With all that AWS can do about it, watching alarms of the tier and of what clients notice."""
    groups = {r.urn: r for r in registered.resources if r.type == "aws:autoscaling/group:Group"}
    rollouts = [r for r in registered.resources if r.type == KIND]
    assert sorted(urn for r in rollouts for urn in r.refs["group"]) == sorted(groups)
    for rollout in rollouts:
        asked = rollout.inputs["preferences"]
        assert asked["autoRollback"]
        assert asked["skipMatching"]
        assert asked["minHealthyPercentage"] >= 90
        assert asked["maxHealthyPercentage"] >= 100
        assert asked["checkpointPercentages"][-1] == 100
        policy = rollout.inputs["configuration"]["mixedInstancesPolicy"]
        (urn,) = rollout.refs["group"]
        assert policy == groups[urn].inputs["mixedInstancesPolicy"]
        assert policy["launchTemplate"]["launchTemplateSpecification"]["version"] == "7"
        alarms = asked["alarmSpecification"]["alarms"]
        assert 0 < len(alarms) <= 10
        tier = groups[urn].name.rpartition("-")[2]
        assert any(f"-{tier}-unhealthy" in alarm for alarm in alarms)
        assert any("-gateway-lost" in alarm for alarm in alarms)


def test_no_group_refreshes_itself(registered: Registered) -> None:
    """pulumi-aws's instanceRefresh changes the group before it begins, and nothing could go back."""
    groups = [r for r in registered.resources if r.type == "aws:autoscaling/group:Group"]
    assert groups
    for group in groups:
        assert "instanceRefresh" not in group.inputs
        assert "mixedInstancesPolicy" in group.ignore_changes


# ---- Pulumi's own process for such resources, as its CLI runs it


class Nobody:
    def launched(self, instance: InstanceView) -> None:
        pass

    def killed(self, instance_id: str) -> None:
        pass


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with Cloud(time_scale=0.01, seed=1, listener=Nobody()) as cloud:
        yield cloud


class Provider:
    """Speaks to `python -m pulumi.dynamic`."""

    def __init__(self, address: str) -> None:
        self.stub = provider_pb2_grpc.ResourceProviderStub(grpc.insecure_channel(address))
        self.stub.Configure(provider_pb2.ConfigureRequest(args=struct({})))
        self.id = ""
        self.props: dict[str, Any] = {}

    def create(self, props: dict[str, Any]) -> None:
        answer = self.stub.Create(provider_pb2.CreateRequest(properties=struct(props)))
        self.id, self.props = answer.id, plain(answer.properties)

    def change(self, props: dict[str, Any]) -> bool:
        """Whether there is anything to do; it is done then."""
        olds, news = struct(self.props), struct(props)
        diff = self.stub.Diff(provider_pb2.DiffRequest(id=self.id, olds=olds, news=news))
        if diff.changes != provider_pb2.DiffResponse.DIFF_SOME:
            return False
        answer = self.stub.Update(provider_pb2.UpdateRequest(id=self.id, olds=olds, news=news))
        self.props = plain(answer.properties)
        return True


def struct(values: Mapping[str, Any]) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update(values)
    return made


def plain(values: struct_pb2.Struct) -> dict[str, Any]:
    return dict(MessageToDict(values))


@pytest.fixture
def provider(cloud: Cloud) -> Iterator[Provider]:
    environment = {
        "PATH": "/usr/bin:/bin",
        "AWS_ENDPOINT_URL": cloud.endpoint_url,
        "AWS_ACCESS_KEY_ID": "rehearsal",
        "AWS_SECRET_ACCESS_KEY": "rehearsal",
        "PULUMI_PROJECT": "goldenfleet",
    }
    command = [sys.executable, "-u", "-m", "pulumi.dynamic"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, cwd=PROJECT
    ) as process:
        try:
            assert process.stdout is not None
            yield Provider(f"127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.kill()


def test_pulumis_own_process_rolls_out_what_changed_and_nothing_else(
    cloud: Cloud, provider: Provider
) -> None:
    """It loads the provider by its names, and asks AWS as the rehearsal does."""
    aws = _Account(cloud)
    props = aws.props("1")
    provider.create(props)
    assert provider.id == GROUP
    assert aws.refreshes() == []
    assert not provider.change(props)
    other_pace = {**props, "preferences": {**props["preferences"], "bakeTime": 5}}
    assert provider.change(other_pace)
    assert aws.refreshes() == []
    assert provider.change(aws.props(aws.version()))
    (refresh,) = aws.refreshes()
    assert provider.props["refresh"] == refresh["InstanceRefreshId"]
    assert refresh["Preferences"]["AutoRollback"]


def test_the_provider_is_kept_as_two_names() -> None:
    """No code lies in the state: another release reads it, and a change of code changes no resource."""
    kept = serialize_provider(RolloutProvider())
    assert kept == serialize_provider(RolloutProvider())
    assert len(kept) < 300


class _Account:
    """A group without instances, and its template."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._session = boto3.Session("rehearsal", "rehearsal", region_name="us-east-1")
        ec2 = self._client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.240.0/20")["Subnet"]["SubnetId"]
        data = {"ImageId": cloud.register_image("model", "test", "dev"), "InstanceType": "c7i.large"}
        made = ec2.create_launch_template(LaunchTemplateName="t", LaunchTemplateData=data)
        self._template = made["LaunchTemplate"]["LaunchTemplateId"]
        specification = {"LaunchTemplateId": self._template, "Version": "1"}
        self._client("autoscaling").create_auto_scaling_group(
            AutoScalingGroupName=GROUP,
            MinSize=0,
            MaxSize=3,
            DesiredCapacity=1,
            VPCZoneIdentifier=subnet,
            MixedInstancesPolicy={
                "LaunchTemplate": {
                    "LaunchTemplateSpecification": specification,
                    "Overrides": [{"InstanceType": "c7i.large"}],
                }
            },
        )

    def props(self, version: str) -> dict[str, Any]:
        template = {"launchTemplateId": self._template, "version": version}
        overrides = [{"instanceType": "c7i.large"}]
        policy = {"launchTemplate": {"launchTemplateSpecification": template, "overrides": overrides}}
        return {
            "group": GROUP,
            "region": "us-east-1",
            "configuration": {"mixedInstancesPolicy": policy},
            "preferences": {"minHealthyPercentage": 100, "maxHealthyPercentage": 110, "autoRollback": True},
            "__provider": serialize_provider(RolloutProvider()),
        }

    def version(self) -> str:
        data = {"ImageId": self._cloud.register_image("model", "test", "dev"), "InstanceType": "c7i.large"}
        made = self._client("ec2").create_launch_template_version(
            LaunchTemplateId=self._template, LaunchTemplateData=data
        )
        return str(made["LaunchTemplateVersion"]["VersionNumber"])

    def refreshes(self) -> list[dict[str, Any]]:
        found = self._client("autoscaling").describe_instance_refreshes(AutoScalingGroupName=GROUP)
        return list(found["InstanceRefreshes"])

    def _client(self, service: str) -> Any:
        return self._session.client(service, endpoint_url=self._cloud.endpoint_url)  # type: ignore[call-overload]


@pytest.mark.parametrize("key", ["aws:assumeRoles", "aws:accessKey"])
def test_credentials_that_rollouts_would_not_use_are_refused(key) -> None:
    """Else the stack would live in one account, and its rollouts act in another."""
    with pytest.raises(SettingsError, match=f"{key} is set"):
        check_credentials({key: "something", "aws:region": "us-east-1"})
    check_credentials({"aws:profile": "prod", "aws:region": "us-east-1"})
