"""Channels over SSM: what moves, what is refused, and what is remembered."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from images.builders import Image
from images.channels import Pointer, packed, rollback_target, unpacked
from images.errors import ChannelError, ManifestError
from images.launch import boot_parameter
from images.run import IMAGE_TAG
from tests.images.aws.world import REGION, World, publish_base

RECIPE = "lab-gateway"


def image(world: World, name: str, recipe: str = RECIPE, state: str = "available") -> Image:
    """An image that a bake of `recipe` could have made."""
    from moto.ec2.models import ec2_backends

    image_id = publish_base(world.aws(), name)
    world.aws().ec2.create_tags(Resources=[image_id], Tags=[{"Key": IMAGE_TAG, "Value": recipe}])
    ec2_backends["123456789012"][REGION].amis[image_id].state = state
    return Image(id=image_id, name=name, region=REGION)


def published(world: World, *names: str) -> list[str]:
    made = [image(world, name) for name in names]
    for each in made:
        world.channels().publish(RECIPE, each, b'{"image": "%s"}' % each.id.encode(), "published")
    return [each.id for each in made]


def test_publish_writes_the_id_alone(world: World) -> None:
    """The parameter that the Pulumi program reads holds the image id and nothing else."""
    (image_id,) = published(world, "one")
    said = world.aws().ssm.get_parameter(Name=f"/goldenfleet/lab/image/{RECIPE}/dev")["Parameter"]
    assert (said["Value"], said["DataType"]) == (image_id, "aws:ec2:image")


def test_promote_moves_the_same_image(world: World) -> None:
    """Promoting points stage at dev's image, and tells from which version it came."""
    first, second = published(world, "one", "two")
    pointer = world.channels().promote(RECIPE, "dev", "stage")
    assert (pointer.image_id, pointer.why) == (second, "promoted from dev version 2")
    assert [each.channel for each in world.channels().list()] == ["dev", "stage"]
    assert first != second


def test_promote_refuses_what_changed_since(world: World) -> None:
    """An image that is no longer the one that was looked at is not promoted."""
    first, _ = published(world, "one", "two")
    with pytest.raises(ChannelError, match="now, not at"):
        world.channels().promote(RECIPE, "dev", "stage", image_id=first)


@pytest.mark.parametrize("state", ["pending", "failed", "deregistered"])
def test_promote_refuses_unavailable_images(world: World, state: str) -> None:
    """An image that nobody can launch is not promoted, and the channel does not move."""
    from moto.ec2.models import ec2_backends

    (image_id,) = published(world, "one")
    ec2_backends["123456789012"][REGION].amis[image_id].state = state
    with pytest.raises(ChannelError, match=state):
        world.channels().promote(RECIPE, "dev", "stage")
    with pytest.raises(ChannelError, match="does not exist"):
        world.channels().show(RECIPE, "stage")


def test_promote_refuses_images_that_are_gone(world: World) -> None:
    """An image that was deregistered is not promoted."""
    (image_id,) = published(world, "one")
    world.aws().ec2.deregister_image(ImageId=image_id)
    with pytest.raises(ChannelError, match=image_id):
        world.channels().promote(RECIPE, "dev", "stage")


def test_promote_refuses_images_without_manifest(world: World) -> None:
    """An image of which nobody can say what is in it is not promoted."""
    (image_id,) = published(world, "one")
    world.channels().forget(image_id)
    with pytest.raises(ManifestError, match="no manifest"):
        world.channels().promote(RECIPE, "dev", "stage")


def test_publish_refuses_another_recipes_image(world: World) -> None:
    """A channel of one recipe does not take another's image."""
    with pytest.raises(ChannelError, match="not of"):
        world.channels().publish(RECIPE, image(world, "one", recipe="other"), b"{}", "by mistake")


def test_unknown_channels_are_refused(world: World) -> None:
    """There are three channels, and a misspelt one is not made."""
    with pytest.raises(ChannelError) as caught:
        world.channels().promote(RECIPE, "dev", "production")
    assert "dev, stage, prod" in caught.value.hint


def test_dry_runs_move_nothing(world: World) -> None:
    """A dry run checks all that the change would, says the result and writes nothing."""
    published(world, "one", "two")
    channels = world.channels()
    channels.publish(RECIPE, image(world, "three"), b"{}", "try", dry_run=True)
    channels.promote(RECIPE, "dev", "prod", dry_run=True)
    channels.rollback(RECIPE, "dev", dry_run=True)
    assert [each.version for each in channels.history(RECIPE, "dev")] == [1, 2]
    assert len(channels.list()) == 1


def test_rollback_goes_back_and_further(world: World) -> None:
    """Rolling back points at the last good image; doing it again goes further back and never forward."""
    first, second, third = published(world, "one", "two", "three")
    channels = world.channels()
    assert channels.rollback(RECIPE, "dev").image_id == second
    assert channels.rollback(RECIPE, "dev").image_id == first
    with pytest.raises(ChannelError, match="nothing else"):
        channels.rollback(RECIPE, "dev")
    assert channels.rollback(RECIPE, "dev", version=3).image_id == third
    assert [each.image_id for each in channels.history(RECIPE, "dev")] == [
        first,
        second,
        third,
        second,
        first,
        third,
    ]


def test_history_outlives_its_hundredth_version(world: World) -> None:
    """SSM keeps 100 versions and refuses more where the oldest is labelled: a channel takes the 120th."""
    ids = [image(world, f"image-{number}") for number in range(2)]
    for number in range(120):
        world.channels().publish(RECIPE, ids[number % 2], b"{}", f"try {number}")
    history = world.channels().history(RECIPE, "dev")
    assert history[-1].version == 120
    assert len(history) <= 100


def test_publishing_twice_is_publishing_once(world: World) -> None:
    """Pointing a channel at what it points at makes no new version."""
    only = image(world, "one")
    for _ in range(2):
        world.channels().publish(RECIPE, only, b"{}", "published")
    assert world.channels().show(RECIPE, "dev").version == 1


def test_large_manifests_are_kept_whole(world: World) -> None:
    """A manifest beyond one parameter's 4096 characters comes back as it was; a lost part is noticed."""
    large = os.urandom(20_000)
    made = image(world, "one")
    world.channels().publish(RECIPE, made, large, "published")
    assert world.channels().manifest(made.id) == large
    world.aws().ssm.delete_parameter(Name=f"/goldenfleet/lab/manifest/{made.id}/3")
    with pytest.raises(ManifestError, match="parts"):
        world.channels().manifest(made.id)


def test_how_long_a_node_takes_is_told_beside_the_image(world: World) -> None:
    """Where it was measured; before the channel points at the image, and gone with it."""
    fast, unknown = image(world, "one"), image(world, "two")
    channels, ssm = world.channels(), world.aws().ssm
    for made, measured in ((fast, 87.25), (unknown, None)):
        channels.publish(RECIPE, made, b"{}", "published", boot_seconds=measured)
    told = ssm.get_parameter(Name=boot_parameter("lab", fast.id))["Parameter"]["Value"]
    assert json.loads(told) == {"format": 1, "launch_to_ready_s": 87.2}
    for made in (fast, unknown):
        channels.forget(made.id)
        found = ssm.get_parameters_by_path(Path=f"/goldenfleet/lab/launch/{made.id}")["Parameters"]
        assert found == []


@pytest.mark.parametrize("content", [b"", b"{}", bytes(range(256)) * 100])
def test_packing_loses_nothing(content: bytes) -> None:
    """What was packed is unpacked the same, in parts that a parameter holds."""
    parts = packed(content)
    assert unpacked(parts) == content
    assert all(len(part) <= 4090 for part in parts)


def test_unpacking_refuses_rubbish() -> None:
    """Parts that are not of a manifest are refused as such."""
    with pytest.raises(ManifestError, match="unpacked"):
        unpacked(["not base64!"])


@pytest.mark.parametrize(
    ("whys", "expected"),
    [
        ((("a", ""), ("b", "")), "a"),
        ((("a", ""), ("b", ""), ("a", "rolled back from b"), ("c", "")), "a"),
        ((("a", ""), ("b", ""), ("c", ""), ("b", "rolled back from c")), "a"),
        ((("a", ""), ("a", "promoted again")), None),
        ((("a", ""),), None),
    ],
)
def test_rollback_target(whys: Any, expected: str | None) -> None:
    """The target is the newest earlier image that was not itself rolled back from."""
    history = [Pointer("r", "dev", image_id, n, 0, why) for n, (image_id, why) in enumerate(whys, 1)]
    if expected is None:
        with pytest.raises(ChannelError):
            rollback_target(history)
    else:
        assert rollback_target(history).image_id == expected
