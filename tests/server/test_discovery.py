"""Where a gateway finds its nodes."""

import asyncio
from random import Random
from typing import Any

import boto3
import pytest
from moto import mock_aws

from server.discovery import (
    DnsNodes,
    Found,
    StaticNodes,
    TargetGroupNodes,
    healthy_targets,
    hosts,
    open_source,
    open_sources,
    watch,
)
from server.errors import DiscoveryFailed, SettingsError

REGION = "us-east-1"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield


@pytest.fixture
def target_group(aws: Any) -> str:
    vpc = boto3.client("ec2", REGION).create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    answer = boto3.client("elbv2", REGION).create_target_group(
        Name="model", Protocol="HTTP", Port=8080, VpcId=vpc, TargetType="instance"
    )
    return answer["TargetGroups"][0]["TargetGroupArn"]


def launch(count: int) -> list[str]:
    ec2 = boto3.client("ec2", REGION)
    image = ec2.register_image(Name="node", RootDeviceName="/dev/sda1")["ImageId"]
    answer = ec2.run_instances(ImageId=image, MinCount=count, MaxCount=count)
    return [instance["InstanceId"] for instance in answer["Instances"]]


async def test_a_target_group_gives_its_healthy_instances(target_group: str) -> None:
    """Nodes are the healthy targets, at their private addresses and the target's port."""
    ids = launch(2)
    balancing, ec2 = boto3.client("elbv2", REGION), boto3.client("ec2", REGION)
    balancing.register_targets(
        TargetGroupArn=target_group, Targets=[{"Id": id_, "Port": 8080} for id_ in ids]
    )
    source = TargetGroupNodes(target_group, REGION)
    addresses = {
        instance["InstanceId"]: (instance["PrivateIpAddress"], 8080)
        for reservation in ec2.describe_instances(InstanceIds=ids)["Reservations"]
        for instance in reservation["Instances"]
    }
    assert await source.read() == addresses
    balancing.deregister_targets(TargetGroupArn=target_group, Targets=[{"Id": ids[0]}])
    assert await source.read() == {ids[1]: addresses[ids[1]]}


async def test_a_source_for_each_tier() -> None:
    """Commas part the addresses of a fixed list, and sources where another kind begins."""
    first, group, second = open_sources(
        "static:127.0.0.1:1,127.0.0.2:2,target-group:arn:aws:x:a/b,static:127.0.0.3:3", REGION
    )
    assert await first.read() == {"127.0.0.1:1": ("127.0.0.1", 1), "127.0.0.2:2": ("127.0.0.2", 2)}
    assert await second.read() == {"127.0.0.3:3": ("127.0.0.3", 3)}
    assert isinstance(group, TargetGroupNodes)


async def test_a_target_group_that_is_not_there_is_an_error(target_group: str) -> None:
    """What AWS refuses is ours to handle, and names the group."""
    with pytest.raises(DiscoveryFailed, match="targetgroup/gone"):
        await TargetGroupNodes(target_group.replace("model", "gone"), REGION).read()


def test_only_healthy_targets_count() -> None:
    """A target that drains, fails or has not passed its checks is no node."""
    states = ["healthy", "initial", "unhealthy", "draining", "unused", "unavailable"]
    described = [
        {"Target": {"Id": state, "Port": 8080}, "TargetHealth": {"State": state}} for state in states
    ]
    assert healthy_targets(described) == {"healthy": 8080}


def test_an_instance_without_an_address_is_no_node() -> None:
    """A terminated instance is still described, with no address."""
    pages = [{"Reservations": [{"Instances": [{"InstanceId": "i-1"}]}]}]
    assert hosts(pages) == {}


class Script:
    """A source that gives or raises what it is told, then ends the test's watch."""

    def __init__(self, *answers: Found | Exception) -> None:
        self.answers = list(answers)

    async def read(self) -> Found:
        if not self.answers:
            raise asyncio.CancelledError
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_a_failing_look_leaves_the_last_good_set() -> None:
    """AWS may throttle or be away: the gateway goes on with what it knows, and says so."""
    set_a: Found = {"i-1": ("127.0.0.2", 8080)}
    found: list[Found] = []
    failed: list[DiscoveryFailed] = []
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    source = Script(set_a, DiscoveryFailed("throttled"), set_a)
    with pytest.raises(asyncio.CancelledError):
        await watch(source, found.append, failed.append, interval_s=2.0, rng=Random(1), sleep=sleep)
    assert (found, len(failed)) == ([set_a, set_a], 1)
    assert len(set(waits)) == 3
    assert all(1.6 <= wait <= 2.4 for wait in waits)


async def test_a_surprise_in_one_look_is_told_and_survived() -> None:
    """A bug while reading must neither end the looking nor pass unseen."""
    found: list[Found] = []
    failed: list[DiscoveryFailed] = []

    async def sleep(_: float) -> None:
        return

    good: Found = {"i-1": ("127.0.0.2", 8080)}
    source = Script(good, KeyError("secret"), good)
    with pytest.raises(asyncio.CancelledError):
        await watch(source, found.append, failed.append, interval_s=2.0, rng=Random(1), sleep=sleep)
    assert found == [good, good]
    assert [str(problem) for problem in failed] == [
        "cannot read the nodes: KeyError; this is a bug, report it"
    ]


async def test_a_name_gives_all_its_addresses() -> None:
    """Each address of the name is a node at the name's port; one listed twice is one node."""

    async def answers(host: str, port: int) -> list[str]:
        assert (host, port) == ("engines.internal", 8000)
        return ["10.0.0.1", "10.0.0.2", "::1", "10.0.0.1"]

    found = await DnsNodes("engines.internal:8000", answers).read()
    assert found == {
        "10.0.0.1:8000": ("10.0.0.1", 8000),
        "10.0.0.2:8000": ("10.0.0.2", 8000),
        "::1:8000": ("::1", 8000),
    }


async def test_the_system_resolves_a_name() -> None:
    """What the system's resolver knows is a node."""
    source = open_source("dns:localhost:80", None)
    assert set((await source.read()).values()) & {("127.0.0.1", 80), ("::1", 80)}


@pytest.mark.parametrize("problem", [OSError("no such name"), TimeoutError(), UnicodeError("label too long")])
async def test_a_name_that_does_not_resolve_is_an_error_of_the_look(problem: Exception) -> None:
    """The old set stays, as for any source that cannot be read."""

    async def answers(_: str, __: int) -> list[str]:
        raise problem

    with pytest.raises(DiscoveryFailed, match=r"cannot resolve engines\.internal"):
        await DnsNodes("engines.internal:8000", answers).read()


async def test_a_list_is_read_as_it_is() -> None:
    """Hosts and ports of a static list, IPv6 in brackets."""
    source = open_source("static:127.0.0.2:8080,[::1]:9,node.internal:80", None)
    assert isinstance(source, StaticNodes)
    assert set((await source.read()).values()) == {("127.0.0.2", 8080), ("::1", 9), ("node.internal", 80)}


@pytest.mark.parametrize(
    "nodes", ["static:", "static:a", "static:a:b", "static::80", "static:a:0", "dns:x", "dns::80", "file:x"]
)
def test_a_list_that_cannot_work_is_refused(nodes: str) -> None:
    """A bad node list stops the start, and says which item is bad."""
    with pytest.raises(SettingsError, match="setting nodes"):
        open_source(nodes, None)
