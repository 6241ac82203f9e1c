"""What Packer's amazon-ebs builder gets wrong (hashicorp/packer, packer-plugin-amazon), one test each."""

from __future__ import annotations

from typing import Any

import pytest

from images.aws import tags_of
from images.builders.ec2_settings import Ec2Settings
from images.errors import AwsRefused, BuilderError
from images.run import RUN_TAG
from tests.images.aws.crashes import SETTINGS as WITH_COPIES
from tests.images.aws.layer_parts import Fault
from tests.images.aws.world import OTHER_REGION, REGION, World, hooked, leftovers


def interrupt_at(world: World, operation: str, count: int) -> None:
    """Bake until the `count`th call of `operation` was answered; then press Ctrl-C once."""
    seen = 0

    def after(name: str) -> None:
        nonlocal seen
        seen += name == operation
        if name == operation and seen == count:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), hooked(lambda _: None, after):
        world.bake()


def test_1_a_pending_image_goes_with_its_snapshot(world: World) -> None:
    """Ctrl-C while the AMI is pending removes AMI and snapshot."""
    interrupt_at(world, "CreateImage", 1)
    assert len(world.calls("create_image")) == 1
    assert leftovers(world) == []


def test_2_copies_in_other_regions_go_too(world: World) -> None:
    """Ctrl-C while a copy is pending removes it in its own region (packer#10248)."""
    world.settings = WITH_COPIES
    interrupt_at(world, "CopyImage", 1)
    assert len(world.calls("copy_image")) == 1
    assert leftovers(world) == []
    assert world.aws(OTHER_REGION).ec2.describe_images(Owners=["self"])["Images"] == []


def test_3_one_refused_removal_keeps_nothing_else(world: World) -> None:
    """When terminating is refused, everything else is removed, and what is left is told and swept later."""
    world.layer.faults.append(Fault("create_image", "UnauthorizedOperation"))
    world.layer.faults.append(Fault("terminate_instances", "UnauthorizedOperation", times=999))
    with pytest.raises(BuilderError, match="left behind"):
        world.bake()
    assert {each.partition("-")[0] for each in leftovers(world)} <= {"i", "sg", "vol"}
    world.layer.faults.clear()
    sweep = world.sweep()
    assert sweep.apply(sweep.plan()) == ()
    assert leftovers(world) == []


def test_4_tags_come_with_the_create(world: World) -> None:
    """Image and snapshot carry their run while they are pending, before any later call could tag them."""
    found: list[Any] = []

    def after(name: str) -> None:
        if name == "CreateImage":
            world.clock.sleep(1)
            ec2 = world.aws().ec2
            found.extend(ec2.describe_images(Owners=["self"])["Images"])
            found.extend(
                ec2.describe_snapshots(Filters=[{"Name": "tag-key", "Values": [RUN_TAG]}])["Snapshots"]
            )

    with hooked(lambda _: None, after):
        world.bake()
    assert [each["State"] for each in found] == ["pending", "pending"]
    assert all(RUN_TAG in tags_of(each) for each in found)


def test_5_a_group_in_use_is_tried_again(world: World) -> None:
    """A group is deleted even if EC2 calls it in use for minutes after its instance has gone."""
    world.layer.faults.append(Fault("delete_security_group", "DependencyViolation", times=40))
    world.bake()
    assert len(world.calls("delete_security_group")) > 40
    assert not any(each.startswith("sg-") for each in leftovers(world))


def test_6_defaults_are_safe() -> None:
    """By default: our own address only, no default route to the world, a deadline in the guest."""
    settings = Ec2Settings.model_validate({"region": REGION})
    assert (settings.reach, settings.our_address) == ("address", None)
    assert settings.guest_deadline_minutes > 0
    assert not settings.shared


def test_7_spot_builders_are_stopped_before_imaging(world: World) -> None:
    """A spot builder is launched so that it can be stopped, and is stopped when it is imaged."""
    world.bake()
    builder = world.calls("run_instances")[0]
    assert builder["InstanceMarketOptions"]["SpotOptions"]["SpotInstanceType"] == "persistent"
    assert builder["InstanceMarketOptions"]["SpotOptions"]["ValidUntil"]
    actions = [call.action for call in world.layer.calls]
    assert actions.index("stop_instances") < actions.index("create_image")
    assert world.layer.defects == []


def test_8_not_found_is_tried_again(world: World) -> None:
    """What EC2 does not know yet is asked for again for as long as it may take."""
    world.layer.faults.append(Fault("authorize_security_group_ingress", "InvalidGroup.NotFound", times=20))
    world.layer.faults.append(Fault("run_instances", "InvalidKeyPair.NotFound", times=10))
    world.bake()
    assert len(world.calls("authorize_security_group_ingress")) > 20


def test_8_not_found_for_ever_is_an_error(world: World) -> None:
    """What is not known after minutes does not exist, and the bake ends with AWS's own words."""
    world.layer.faults.append(Fault("run_instances", "InvalidKeyPair.NotFound", times=9999))
    with pytest.raises(AwsRefused, match=r"InvalidKeyPair\.NotFound"):
        world.bake()
    assert leftovers(world) == []
