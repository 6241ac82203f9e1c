"""Gaps of moto 5.2.5 in EC2, its metadata and its events: plain moto still has each, ours fills it."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from botocore.exceptions import ClientError
from moto.instance_metadata.responses import INSTANCE_METADATA

from fleet.rehearsal.cloud.errors import InstanceUnknown, NotSpot

if TYPE_CHECKING:
    from tests.fleet.rehearsal.cloud.conftest import Aws, Emulate, Emulated, Plain

TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"


def ask(url: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    request = Request(url, method=method, headers={k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urlopen(request, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


class Metadata:
    """An IMDSv2 client of one instance."""

    def __init__(self, aws: Emulated, instance_id: str) -> None:
        self._root = next(
            one.metadata_endpoint for one in aws.cloud.instances() if one.instance_id == instance_id
        )
        self.token = self.put("21600")[1]

    def put(self, lifetime: str) -> tuple[int, str]:
        return ask(f"{self._root}/latest/api/token", "PUT", **{TTL: lifetime})

    def get(self, path: str) -> tuple[int, str]:
        return ask(f"{self._root}/latest/{path}", **{TOKEN: self.token})

    def without_token(self, path: str) -> int:
        return ask(f"{self._root}/latest/{path}")[0]


def up(aws: Emulated, **fields: Any) -> str:
    """A group of one spot instance, in service."""
    aws.make_group(MixedInstancesPolicy=aws.mixed(0, 0), **fields)
    aws.settle()
    return aws.one("spot")


def test_instances_boot_on_loopback(plain: Plain, emulate: Emulate) -> None:
    """An instance is pending, then running, at its own loopback address from its subnet's host part."""
    with plain() as aws:
        aws.make_group()
        found = aws.instance(next(iter(aws.members())))
        assert found["State"]["Name"] == "running"
        assert found["PrivateIpAddress"].startswith("10.0.240.")
    with emulate() as aws:
        aws.make_group()
        aws.tick()
        (instance_id,) = aws.members()
        found = aws.instance(instance_id)
        assert found["State"]["Name"] == "pending"
        assert found["PrivateIpAddress"].startswith("127.0.24")
        assert aws.nodes.launched_views == []
        aws.tick(0.5)
        assert aws.instance(instance_id)["State"]["Name"] == "running"
        (view,) = aws.nodes.launched_views
        assert (view.address, view.tier, view.state) == (found["PrivateIpAddress"], "model", "running")
        assert view.user_data.startswith("#!/bin/sh\nexec goldenfleet-boot")


def test_addresses_are_never_shared(aws: Emulated) -> None:
    """Every instance has an address of its own, and an address just given back is not the next one out."""
    aws.make_group(DesiredCapacity=6)
    aws.settle()
    first = {one.address for one in aws.cloud.instances()}
    assert len(first) == 6
    aws.asg.set_desired_capacity(AutoScalingGroupName="group", DesiredCapacity=0)
    aws.tick(times=2)
    aws.asg.set_desired_capacity(AutoScalingGroupName="group", DesiredCapacity=6)
    aws.tick()
    assert not first & {one.address for one in aws.cloud.instances()}


def test_unknown_images_are_refused(plain: Plain, emulate: Emulate) -> None:
    """RunInstances refuses an image that is not there, and resolves `resolve:ssm:`."""

    def run(aws: Aws, image: str) -> str:
        found = aws.ec2.run_instances(
            ImageId=image, MinCount=1, MaxCount=1, SubnetId=aws.subnets[0], InstanceType="m5.large"
        )
        return str(found["Instances"][0]["ImageId"])

    with plain() as aws:
        aws.ssm.put_parameter(Name="/image", Value=aws.image, Type="String")
        assert run(aws, "ami-00000000000000000") == "ami-00000000000000000"
        assert run(aws, "resolve:ssm:/image") == "resolve:ssm:/image"
    with emulate() as aws:
        aws.ssm.put_parameter(Name="/image", Value=aws.image, Type="String")
        assert run(aws, "resolve:ssm:/image") == aws.image
        with pytest.raises(ClientError) as error:
            run(aws, "ami-00000000000000000")
        assert error.value.response["Error"]["Code"] == "InvalidAMIID.NotFound"


def test_metadata_has_the_paths_of_a_spot_fleet(plain: Plain, emulate: Emulate) -> None:
    """Spot, rebalance, maintenance and target-lifecycle-state paths answer as AWS's do."""
    with plain():
        assert not [path for path in INSTANCE_METADATA if path.startswith(("spot", "events", "autoscaling"))]
    with emulate() as aws:
        instance_id = up(aws)
        metadata = Metadata(aws, instance_id)
        assert metadata.get("meta-data/spot/instance-action")[0] == 404
        assert metadata.get("meta-data/events/recommendations/rebalance")[0] == 404
        assert metadata.get("meta-data/events/maintenance/scheduled") == (200, "[]")
        assert metadata.get("meta-data/autoscaling/target-lifecycle-state") == (200, "InService")
        aws.cloud.interrupt(instance_id, rebalance_first=True)
        status, body = metadata.get("meta-data/spot/instance-action")
        assert json.loads(body) == {"action": "terminate", "time": "2023-11-14T22:13:34Z"}
        status, body = metadata.get("meta-data/events/recommendations/rebalance")
        assert json.loads(body) == {"noticeTime": "2023-11-14T22:13:22Z"}
        assert status == 200


def test_metadata_wants_a_live_token(aws: Emulated) -> None:
    """Tokens last 1 to 21600 seconds; without one, or with an expired one, the answer is 401."""
    instance_id = up(aws)
    metadata = Metadata(aws, instance_id)
    assert [metadata.put(lifetime)[0] for lifetime in ("", "0", "21601", "x", "1")] == [
        400,
        400,
        400,
        400,
        200,
    ]
    assert metadata.without_token("meta-data/instance-id") == 401
    assert metadata.get("meta-data/instance-id") == (200, instance_id)
    metadata.token = metadata.put("60")[1]
    aws.clock.now += 61
    assert metadata.get("meta-data/instance-id")[0] == 401


def test_metadata_describes_the_instance(aws: Emulated) -> None:
    """Identity, placement, tags, user data and the role's credentials are the instance's own."""
    aws.iam.create_role(RoleName="node", AssumeRolePolicyDocument="{}")
    aws.iam.create_instance_profile(InstanceProfileName="profile")
    aws.iam.add_role_to_instance_profile(InstanceProfileName="profile", RoleName="node")
    aws.template = aws.make_template("with-role", IamInstanceProfile={"Name": "profile"})
    instance_id = up(aws)
    metadata = Metadata(aws, instance_id)
    view = aws.nodes.launched_views[0]
    assert metadata.get("meta-data/local-ipv4") == (200, view.address)
    assert metadata.get("meta-data/placement/availability-zone") == (200, view.availability_zone)
    assert metadata.get("meta-data/placement/region") == (200, "us-east-1")
    assert metadata.get("meta-data/instance-life-cycle") == (200, "spot")
    assert metadata.get("meta-data/tags/instance/goldenfleet:tier") == (200, "model")
    assert metadata.get("user-data") == (200, view.user_data)
    assert metadata.get("meta-data/iam/security-credentials/") == (200, "node")
    keys = json.loads(metadata.get("meta-data/iam/security-credentials/node")[1])
    assert keys["Code"] == "Success"
    document = json.loads(metadata.get("dynamic/instance-identity/document")[1])
    assert (document["instanceId"], document["privateIp"]) == (instance_id, view.address)
    assert metadata.get("meta-data/nothing")[0] == 404


def test_metadata_ends_with_its_instance(aws: Emulated) -> None:
    """Nothing answers at the address of an instance that is gone."""
    instance_id = up(aws)
    metadata = Metadata(aws, instance_id)
    aws.ec2.terminate_instances(InstanceIds=[instance_id])
    with pytest.raises(OSError, match="refused"):
        metadata.get("meta-data/instance-id")


def test_spot_interruptions_happen(plain: Plain, emulate: Emulate) -> None:
    """A notice is an event and metadata at once; the instance is taken away 120 scaled seconds later."""
    pattern = {"source": ["aws.ec2"], "detail-type": ["EC2 Spot Instance Interruption Warning"]}
    with plain() as aws:
        queue = aws.make_queue(pattern)
        market = {"MarketType": "spot"}
        ran = aws.ec2.run_instances(
            ImageId=aws.image, MinCount=1, MaxCount=1, InstanceMarketOptions=market, SubnetId=aws.subnets[0]
        )
        aws.ec2.terminate_instances(InstanceIds=[ran["Instances"][0]["InstanceId"]])
        assert aws.received(queue) == []
    with emulate() as aws:
        queue = aws.make_queue(pattern)
        instance_id = up(aws)
        aws.cloud.interrupt(instance_id)
        aws.cloud.interrupt(instance_id)
        (event,) = aws.received(queue)
        assert event["detail"] == {"instance-id": instance_id, "instance-action": "terminate"}
        zone = aws.instance(instance_id)["Placement"]["AvailabilityZone"]
        assert event["resources"] == [f"arn:aws:ec2:{zone}:instance/{instance_id}"]
        aws.tick(11.9)
        assert aws.nodes.killed_ids == []
        aws.tick(0.2)
        assert aws.nodes.killed_ids == [instance_id]
        found = aws.instance(instance_id)
        assert found["State"]["Name"] == "terminated"
        assert found["StateReason"]["Code"] == "Server.SpotInstanceTermination"
        aws.tick(times=3)
        assert list(aws.members().values()) == ["Pending"]


def test_only_running_spot_instances_are_interrupted(aws: Emulated) -> None:
    """An on-demand or unknown instance cannot be interrupted, and the error says what to do."""
    aws.make_group()
    aws.settle()
    with pytest.raises(NotSpot, match="kill this one"):
        aws.cloud.interrupt(aws.one("on-demand"))
    with pytest.raises(InstanceUnknown):
        aws.cloud.interrupt("i-00000000000000000")
    with pytest.raises(InstanceUnknown):
        aws.cloud.kill("i-00000000000000000")


def test_events_have_whole_envelopes(plain: Plain, emulate: Emulate) -> None:
    """An event in a queue has AWS's nine envelope fields and its time in ISO form."""
    entry = {"Source": "test", "DetailType": "test", "Detail": "{}"}
    fields = {"version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"}
    with plain() as aws:
        queue = aws.make_queue({"source": ["test"]})
        aws.events.put_events(Entries=[entry])
        assert fields - set(aws.received(queue)[0]) == {"account"}
    with emulate() as aws:
        queue = aws.make_queue({"source": ["test"]})
        aws.events.put_events(Entries=[entry])
        (event,) = aws.received(queue)
        assert set(event) == fields
        assert event["account"] == "123456789012"
        assert event["time"].endswith("Z")


def test_disabled_rules_deliver_nothing(plain: Plain, emulate: Emulate) -> None:
    """A disabled rule is silent."""

    def delivered(aws: Aws) -> int:
        queue = aws.make_queue({"source": ["test"]})
        aws.events.disable_rule(Name="rule")
        aws.events.put_events(Entries=[{"Source": "test", "DetailType": "test", "Detail": "{}"}])
        return len(aws.received(queue))

    with plain() as aws:
        assert delivered(aws) == 1
    with emulate() as aws:
        assert delivered(aws) == 0


def test_functions_and_schedules_get_no_events(plain: Plain, emulate: Emulate) -> None:
    """An event goes by a target that is a function, and by a rule that is a schedule, to all others."""
    event = {"Source": "test", "DetailType": "test", "Detail": "{}"}
    function = {"Id": "function", "Arn": "arn:aws:lambda:us-east-1:123456789012:function:f"}

    def delivered(aws: Aws) -> int:
        queue = aws.make_queue({"source": ["test"]})
        aws.events.put_targets(Rule="rule", Targets=[function])
        arn = aws.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        aws.events.put_rule(Name="minute", ScheduleExpression="rate(1 minute)")
        aws.events.put_targets(Rule="minute", Targets=[{"Id": "queue", "Arn": arn}])
        aws.events.put_events(Entries=[event])
        return len(aws.received(queue))

    with plain() as aws, pytest.raises(NotImplementedError):
        delivered(aws)
    with emulate() as aws:
        assert delivered(aws) == 1
        assert len(aws.events.list_targets_by_rule(Rule="rule")["Targets"]) == 2


def test_state_changes_are_events(plain: Plain, emulate: Emulate) -> None:
    """Every state of an instance is told, in order, and the group tells of its launches."""
    pattern = {"source": ["aws.ec2", "aws.autoscaling"]}
    with plain() as aws:
        queue = aws.make_queue(pattern)
        aws.make_group()
        assert aws.received(queue) == []
    with emulate() as aws:
        queue = aws.make_queue(pattern)
        aws.make_group()
        aws.settle()
        (instance_id,) = aws.members()
        aws.ec2.terminate_instances(InstanceIds=[instance_id])
        events = aws.received(queue)
        states = [one["detail"]["state"] for one in events if "state" in one["detail"]]
        assert states == ["pending", "running", "shutting-down", "terminated"]
        launched = next(one for one in events if one["detail-type"] == "EC2 Instance Launch Successful")
        assert launched["detail"]["EC2InstanceId"] == instance_id
        assert launched["detail"]["AutoScalingGroupName"] == "group"


def test_an_image_is_published_to_its_channel(aws: Emulated) -> None:
    """register_image makes an image and points the channel's parameter at the newest."""
    first = aws.cloud.register_image("model", "rehearsal", "dev")
    second = aws.cloud.register_image("model", "rehearsal", "dev")
    name = "/goldenfleet/rehearsal/image/model/dev"
    assert first != second
    assert aws.ssm.get_parameter(Name=name)["Parameter"]["Value"] == second
    owned = aws.ec2.describe_images(Owners=["self"])["Images"]
    assert {first, second} <= {one["ImageId"] for one in owned}


def test_user_data_reaches_the_listener_as_text(aws: Emulated) -> None:
    """User data of a template is decoded once, byte for byte."""
    text = "#!/bin/sh\nprintf '%s' \"ü\"\n"
    aws.template = aws.make_template("text", UserData=base64.b64encode(text.encode()).decode())
    up(aws)
    assert aws.nodes.launched_views[0].user_data == text
