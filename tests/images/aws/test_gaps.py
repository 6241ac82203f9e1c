"""Where plain moto 5.2.5 differs from AWS: each gap that the layer fills, shown without and with it.

A test of the first kind that fails says that moto has filled the gap: take it out of the layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from images.aws import Aws
from tests.images.aws.layer_parts import Fault, Lags
from tests.images.aws.world import OTHER_REGION, REGION, World, credentials, in_process, publish_base

TAGGED: Any = [{"Name": "tag:k", "Values": ["v"]}]
LATER = "2030-01-01T00:00:00Z"


@pytest.fixture
def plain(clients: dict[str, Aws]) -> Iterator[Aws]:
    with credentials(), mock_aws():
        yield clients.setdefault(REGION, Aws(REGION))


@pytest.fixture
def layered(tmp_path: Path, clients: dict[str, Aws]) -> Iterator[World]:
    with in_process(tmp_path, Lags(hidden=30), clients) as world:
        yield world


def launched(aws: Aws, **more: Any) -> str:
    image_id = publish_base(aws, f"base-{len(more)}")
    answer = aws.ec2.run_instances(ImageId=image_id, MinCount=1, MaxCount=1, InstanceType="c7i.large", **more)
    return answer["Instances"][0]["InstanceId"]


def stopped(world: World, **more: Any) -> str:
    instance_id = launched(world.aws(), **more)
    world.clock.sleep(60)
    world.aws().ec2.stop_instances(InstanceIds=[instance_id])
    world.clock.sleep(60)
    return instance_id


def code(caught: pytest.ExceptionInfo[ClientError]) -> str:
    return caught.value.response["Error"]["Code"]


def snapshot_tags() -> Any:
    return [{"ResourceType": "snapshot", "Tags": [{"Key": "k", "Value": "v"}]}]


def test_plain_moto_cannot_tag_the_snapshot(plain: Aws) -> None:
    """CreateImage with a tag specification for its snapshot is not implemented."""
    instance_id = launched(plain)
    with pytest.raises(NotImplementedError):
        plain.ec2.create_image(InstanceId=instance_id, Name="image", TagSpecifications=snapshot_tags())


def test_the_snapshot_is_tagged(layered: World) -> None:
    """CreateImage tags image and snapshot from the start."""
    layered.aws().ec2.create_image(
        InstanceId=stopped(layered), Name="image", TagSpecifications=snapshot_tags()
    )
    layered.clock.sleep(60)
    found = layered.aws().ec2.describe_snapshots(Filters=TAGGED)
    assert len(found["Snapshots"]) == 1


TWO_DISKS: Any = [
    {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 8, "DeleteOnTermination": True}},
    {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 14, "DeleteOnTermination": True}},
]


def test_plain_moto_images_one_volume(plain: Aws) -> None:
    """Of a machine with two volumes the image has the root alone, with a size of its own."""
    instance_id = launched(plain, BlockDeviceMappings=TWO_DISKS)
    image_id = plain.ec2.create_image(InstanceId=instance_id, Name="image")["ImageId"]
    (mapping,) = plain.ec2.describe_images(ImageIds=[image_id])["Images"][0]["BlockDeviceMappings"]
    assert mapping["Ebs"]["VolumeSize"] == 15


def test_images_have_every_volume(layered: World) -> None:
    """Image and copy map a snapshot of every volume, all of them tagged, and removed with the image."""
    instance_id = stopped(layered, BlockDeviceMappings=TWO_DISKS)
    other = layered.aws(OTHER_REGION)
    image_id = layered.aws().ec2.create_image(InstanceId=instance_id, Name="image")["ImageId"]
    layered.clock.sleep(400)
    wanted: Any = {"Name": "copy", "SourceImageId": image_id, "SourceRegion": REGION}
    copied = other.ec2.copy_image(**wanted, TagSpecifications=snapshot_tags())["ImageId"]
    layered.clock.sleep(60)
    for aws, made in ((layered.aws(), image_id), (other, copied)):
        mapped = aws.ec2.describe_images(ImageIds=[made])["Images"][0]["BlockDeviceMappings"]
        sizes = {each["DeviceName"]: each["Ebs"]["VolumeSize"] for each in mapped}
        assert sizes == {"/dev/xvda": 8, "/dev/sdf": 14}
    assert len(other.ec2.describe_snapshots(Filters=TAGGED)["Snapshots"]) == 2
    other.ec2.deregister_image(ImageId=copied, DeleteAssociatedSnapshots=True)
    assert other.ec2.describe_snapshots(Filters=TAGGED)["Snapshots"] == []


def test_plain_moto_ignores_tokens(plain: Aws) -> None:
    """The same client token makes a second instance."""
    assert launched(plain, ClientToken="t") != launched(plain, ClientToken="t")


def test_tokens_are_replayed(layered: World) -> None:
    """The same token gives the same instance, and with other arguments a refusal."""
    ec2 = layered.aws().ec2
    image_id = publish_base(layered.aws(), "base")
    wanted: Any = {"ImageId": image_id, "MinCount": 1, "MaxCount": 1, "ClientToken": "t"}
    first = ec2.run_instances(**wanted)["Instances"][0]["InstanceId"]
    assert ec2.run_instances(**wanted)["Instances"][0]["InstanceId"] == first
    with pytest.raises(ClientError) as caught:
        ec2.run_instances(**{**wanted, "InstanceType": "c7i.large"})
    assert code(caught) == "IdempotentParameterMismatch"


def test_plain_moto_takes_a_name_twice(plain: Aws) -> None:
    """Two images of one name are accepted, and available at once."""
    instance_id = launched(plain)
    made = [plain.ec2.create_image(InstanceId=instance_id, Name="image")["ImageId"] for _ in range(2)]
    found = plain.ec2.describe_images(ImageIds=made)["Images"]
    assert [image["State"] for image in found] == ["available", "available"]


def test_names_are_unique_and_images_pending(layered: World) -> None:
    """A second image of the name is refused; the first is hidden, then pending, then available."""
    ec2 = layered.aws().ec2
    instance_id = stopped(layered)
    image_id = ec2.create_image(InstanceId=instance_id, Name="image")["ImageId"]
    with pytest.raises(ClientError) as caught:
        ec2.create_image(InstanceId=instance_id, Name="image")
    assert code(caught) == "InvalidAMIName.Duplicate"
    with pytest.raises(ClientError) as caught:
        ec2.describe_images(ImageIds=[image_id])
    assert code(caught) == "InvalidAMIID.NotFound"
    layered.clock.sleep(30)
    assert ec2.describe_images(ImageIds=[image_id])["Images"][0]["State"] == "pending"
    layered.clock.sleep(300)
    assert ec2.describe_images(ImageIds=[image_id])["Images"][0]["State"] == "available"


def test_plain_moto_copies_no_tags(plain: Aws) -> None:
    """CopyImage makes an image without the tags that it is given."""
    image_id = plain.ec2.create_image(InstanceId=launched(plain), Name="image")["ImageId"]
    plain.ec2.create_tags(Resources=[image_id], Tags=[{"Key": "k", "Value": "v"}])
    copied = Aws("eu-west-1").ec2.copy_image(
        Name="other", SourceImageId=image_id, SourceRegion=REGION, CopyImageTags=True
    )["ImageId"]
    found = Aws("eu-west-1").ec2.describe_images(ImageIds=[copied])["Images"][0]
    assert not found.get("Tags")


def test_plain_moto_keeps_associated_snapshots(plain: Aws) -> None:
    """DeleteAssociatedSnapshots leaves the snapshot."""
    image_id = plain.ec2.create_image(InstanceId=launched(plain), Name="image")["ImageId"]
    image = plain.ec2.describe_images(ImageIds=[image_id])["Images"][0]
    snapshot = image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    plain.ec2.deregister_image(ImageId=image_id, DeleteAssociatedSnapshots=True)
    assert plain.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]


def test_plain_moto_keeps_key_pairs_named_by_id(plain: Aws) -> None:
    """DeleteKeyPair by id deletes nothing."""
    made = plain.ec2.create_key_pair(KeyName="image", KeyType="ed25519")
    plain.ec2.delete_key_pair(KeyPairId=made["KeyPairId"])
    assert plain.ec2.describe_key_pairs()["KeyPairs"]


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [("enable_image_deprecation", {"DeprecateAt": LATER}), ("describe_image_references", {})],
)
def test_plain_moto_lacks(plain: Aws, operation: str, arguments: dict[str, Any]) -> None:
    """Deprecation and references are not implemented."""
    image_id = publish_base(plain)
    named = {"ImageId": image_id} if arguments else {"ImageIds": [image_id]}
    with pytest.raises(NotImplementedError):
        getattr(plain.ec2, operation)(**named, **arguments)


def test_references_are_found(layered: World) -> None:
    """Running instances and launch templates refer to their images; terminated instances do not."""
    ec2 = layered.aws().ec2
    image_id = publish_base(layered.aws(), "base")
    instance_id = ec2.run_instances(ImageId=image_id, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    ec2.create_launch_template(LaunchTemplateName="lt", LaunchTemplateData={"ImageId": image_id})

    def kinds() -> list[str]:
        found = ec2.describe_image_references(ImageIds=[image_id])["ImageReferences"]
        return [each["ResourceType"] for each in found]

    assert kinds() == ["ec2:Instance", "ec2:LaunchTemplate"]
    layered.clock.sleep(60)
    ec2.terminate_instances(InstanceIds=[instance_id])
    layered.clock.sleep(60)
    assert kinds() == ["ec2:LaunchTemplate"]


def test_plain_moto_starts_and_stops_at_once(plain: Aws) -> None:
    """An instance runs at once, and is stopped at once."""
    instance_id = launched(plain)

    def state() -> str:
        found = plain.ec2.describe_instances(InstanceIds=[instance_id])
        return found["Reservations"][0]["Instances"][0]["State"]["Name"]

    assert state() == "running"
    plain.ec2.stop_instances(InstanceIds=[instance_id])
    assert state() == "stopped"


def test_plain_moto_stops_one_time_spot(plain: Aws) -> None:
    """A one-time spot instance is stopped, which EC2 refuses, and no spot request stands for it."""
    instance_id = launched(plain, InstanceMarketOptions={"MarketType": "spot"})
    assert plain.ec2.stop_instances(InstanceIds=[instance_id])["StoppingInstances"]
    assert plain.ec2.describe_spot_instance_requests()["SpotInstanceRequests"] == []


def test_one_time_spot_is_not_stopped(layered: World) -> None:
    """Stopping a one-time spot instance is refused, and its request stands."""
    instance_id = launched(layered.aws(), InstanceMarketOptions={"MarketType": "spot"})
    layered.clock.sleep(60)
    with pytest.raises(ClientError) as caught:
        layered.aws().ec2.stop_instances(InstanceIds=[instance_id])
    assert code(caught) == "UnsupportedOperation"
    assert layered.aws().ec2.describe_spot_instance_requests()["SpotInstanceRequests"]


def test_groups_in_use_are_not_deleted(layered: World) -> None:
    """A group whose instance is still shutting down has a dependent object."""
    ec2 = layered.aws().ec2
    group_id = ec2.create_security_group(GroupName="g", Description="g")["GroupId"]
    layered.clock.sleep(60)
    instance_id = launched(layered.aws(), SecurityGroupIds=[group_id])
    layered.clock.sleep(60)
    ec2.terminate_instances(InstanceIds=[instance_id])
    with pytest.raises(ClientError) as caught:
        ec2.delete_security_group(GroupId=group_id)
    assert code(caught) == "DependencyViolation"
    layered.clock.sleep(60)
    ec2.delete_security_group(GroupId=group_id)


def test_faults_are_answers_of_aws(layered: World) -> None:
    """An injected fault reaches the client as AWS's own error, as often as was asked."""
    layered.layer.faults.append(Fault("describe_vpcs", "UnauthorizedOperation"))
    with pytest.raises(ClientError) as caught:
        layered.aws().ec2.describe_vpcs()
    assert code(caught) == "UnauthorizedOperation"
    assert layered.aws().ec2.describe_vpcs()["Vpcs"]
