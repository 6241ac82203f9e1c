"""An image of one stack that becomes another's: what is refused, and that neither's sweep takes it away."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.ec2.models import ec2_backends
from moto.ssm.models import ssm_backends

from images.aws import tags_of
from images.builders import Image, Volume
from images.channels import Channels
from images.errors import AwsRefused, ChannelError, ImagesError, ManifestError
from images.run import IMAGE_TAG, PUBLISHED_TAG
from tests.images.aws.world import OTHER_REGION, REGION, World, hooked, publish_base, weighty

DAY = 86_400.0
RECIPE = weighty().name
ROOT = Volume("root", "/dev/sda1", "snap-1", 8, 125, 3000)
CHANGING = ("CreateTags", "PutParameter", "LabelParameterVersion")


class Killed(BaseException):
    """The process ends here: nothing of ours is to catch it."""


def shop(world: World) -> Channels:
    """The channels of the stack that images are promoted to; `world.channels()` are those they come from."""
    return Channels(world.aws(), "shop", world.clock)


def baked(world: World, seed: int = 1) -> str:
    """An image with a volume of its own, in channel dev of stack lab."""
    image = world.bake(seed, weighty()).image
    assert image is not None
    return image.id


def published(world: World, name: str = "one") -> str:
    """An image in channel dev of stack lab, with all that a bake writes beside it; sweeps see none."""
    made = Image(publish_base(world.aws(), name), name, region=REGION, volumes=(ROOT,))
    world.aws().ec2.create_tags(Resources=[made.id], Tags=[{"Key": IMAGE_TAG, "Value": RECIPE}])
    manifest = json.dumps({"image": {"id": made.id, "volumes": [asdict(ROOT)]}}).encode()
    world.channels().publish(RECIPE, made, manifest, "published", boot_seconds=87)
    return made.id


def taken(world: World, source: str = "dev", **changes: Any) -> str:
    return shop(world).promote(RECIPE, source, "prod", origin=world.channels(), **changes).image_id


def written(world: World, stack: str, region: str = REGION) -> dict[str, str]:
    """Every parameter of a stack but its channels, below the stack's own path."""
    path = f"/goldenfleet/{stack}/"
    pages = world.aws(region).ssm.get_paginator("get_parameters_by_path").paginate(Path=path, Recursive=True)
    found = {each["Name"].removeprefix(path): each["Value"] for page in pages for each in page["Parameters"]}
    return {name: value for name, value in found.items() if not name.startswith("image/")}


def forgotten(world: World, stack: str) -> None:
    """Everything of the stack is deleted by hand, as when it is given up."""
    kept = ssm_backends["123456789012"][REGION]._parameters
    for name in [name for name in kept if name.startswith(f"/goldenfleet/{stack}/")]:
        world.aws().ssm.delete_parameter(Name=name)


def swept(world: World) -> None:
    sweep = world.sweep()
    assert sweep.apply(sweep.plan()) == ()


def there(world: World, image_id: str) -> bool:
    """The image with every snapshot that it stands on."""
    ec2 = ec2_backends["123456789012"][REGION]
    return image_id in ec2.amis and len(ec2.snapshots) >= 2


def _gone(world: World, image_id: str) -> None:
    world.aws().ec2.deregister_image(ImageId=image_id)


def _of_another_recipe(world: World, image_id: str) -> None:
    world.aws().ec2.create_tags(Resources=[image_id], Tags=[{"Key": "goldenfleet:image", "Value": "other"}])


def _without(part: str) -> Callable[[World, str], None]:
    return lambda world, image_id: (
        world.aws().ssm.delete_parameters(Names=[f"/goldenfleet/lab/{part.format(image_id)}"]) and None
    )


@pytest.mark.parametrize(
    ("spoil", "error", "said"),
    [
        (_gone, ChannelError, "does not exist"),
        (_of_another_recipe, ChannelError, "image of other, not of"),
        (_without("manifest/{}/0"), ManifestError, "no manifest in stack lab"),
        (_without("launch/{}/volumes"), ManifestError, "volumes is gone"),
        (
            _without(f"image/{RECIPE}/dev"),
            ChannelError,
            f"/goldenfleet/lab/image/{RECIPE}/dev does not exist",
        ),
    ],
)
def test_what_could_not_be_launched_is_not_taken(
    world: World, spoil: Any, error: type[ImagesError], said: str
) -> None:
    """Each with its reason, and nothing is written for the other stack."""
    image_id = published(world)
    spoil(world, image_id)
    for dry_run in (True, False):
        with pytest.raises(error, match=said):
            taken(world, dry_run=dry_run)
    assert written(world, "shop") == {}
    assert shop(world).list() == ()


def test_an_image_must_have_been_in_a_channel(world: World) -> None:
    """An id that the other stack never published is refused, and so is one of another recipe's channel."""
    image_id = published(world)
    with pytest.raises(ChannelError, match=r"no channel of .* in stack lab in us-east-1 has held ami-123"):
        taken(world, "ami-123")
    with pytest.raises(ChannelError, match="has held"):
        shop(world).promote("other", image_id, "prod", origin=world.channels())
    with pytest.raises(ChannelError, match="there is no channel"):
        shop(world).promote(RECIPE, image_id, "production", origin=world.channels())


@pytest.mark.parametrize("source", ["dev", "id"])
def test_another_region_has_nothing_to_take(world: World, source: str) -> None:
    """Channels are of one region: in another the same names are refused, and the region is said."""
    image_id = published(world)
    there = world.aws(OTHER_REGION)
    wanted = image_id if source == "id" else source
    with pytest.raises(ChannelError, match=OTHER_REGION):
        Channels(there, "shop", world.clock).promote(
            RECIPE, wanted, "prod", origin=Channels(there, "lab", world.clock)
        )
    assert written(world, "shop", OTHER_REGION) == {}


def test_a_source_that_moved_is_looked_at_again(world: World) -> None:
    """What was confirmed is no longer there: nothing is taken. By its id it still can be."""
    first, second = published(world), published(world, "two")
    with pytest.raises(ChannelError, match=f"points at {second} now, not at {first}"):
        taken(world, image_id=first)
    assert written(world, "shop") == {}
    assert taken(world, first, image_id=first) == first
    assert shop(world).show(RECIPE, "prod").why == "promoted from dev version 1 of stack lab"


def test_a_dry_run_writes_nothing(world: World) -> None:
    """Not even the mark on the image."""
    image_id = published(world)
    marked = tags_of(world.aws().ec2.describe_images(ImageIds=[image_id])["Images"][0])[PUBLISHED_TAG]
    world.clock.sleep(DAY)
    assert taken(world, dry_run=True) == image_id
    assert (written(world, "shop"), shop(world).list()) == ({}, ())
    tags = tags_of(world.aws().ec2.describe_images(ImageIds=[image_id])["Images"][0])
    assert tags[PUBLISHED_TAG] == marked


def test_killed_between_writes_and_asked_again(world: World) -> None:
    """Wherever it ends, the channel points only at an image whose facts are whole; asking again ends it."""
    image_id = baked(world)
    facts = written(world, "lab")
    assert {name.rpartition("/")[2] for name in facts} == {"0", "volumes", "boot"}
    ends = 0
    while True:
        count = [0]

        def after(operation: str, ends: int = ends, count: list[int] = count) -> None:
            count[0] += operation in CHANGING
            if operation in CHANGING and count[0] > ends:
                raise Killed

        try:
            with hooked(lambda _: None, after):
                taken(world)
            break
        except Killed:
            ends += 1
        if shop(world).list():
            assert written(world, "shop") == facts
        world.clock.sleep(40 * DAY)
        swept(world)
        assert there(world, image_id)
        assert taken(world) == image_id
        assert (written(world, "shop"), shop(world).show(RECIPE, "prod").version) == (facts, 1)
        forgotten(world, "shop")
    assert ends == 5


def test_asked_twice_it_moves_once(world: World) -> None:
    """The second time there is nothing to do."""
    published(world)
    assert taken(world) == taken(world)
    assert len(shop(world).history(RECIPE, "prod")) == 1


def test_rollback_goes_back_to_what_was_taken_before(world: World) -> None:
    """All that a rollback looks at is the stack's own, even when the other stack is no more."""
    first = published(world)
    taken(world)
    second = published(world, "two")
    taken(world)
    forgotten(world, "lab")
    assert shop(world).rollback(RECIPE, "prod").image_id == first
    assert shop(world).promote(RECIPE, second, "stage").image_id == second


@pytest.mark.parametrize("gives_up", ["lab", "shop"])
def test_neither_stack_sweeps_what_the_other_has(world: World, gives_up: str) -> None:
    """One is given up: the old image stays, and what the other keeps of it. Once both are, it goes."""
    first = baked(world)
    taken(world)
    keeps = {"lab": "shop", "shop": "lab"}[gives_up]
    facts = written(world, keeps)
    forgotten(world, gives_up)
    world.clock.sleep(900 * DAY)
    swept(world)
    assert there(world, first)
    assert written(world, keeps) == facts
    forgotten(world, keeps)
    swept(world)
    assert not there(world, first)


def test_what_another_stack_could_roll_back_to_is_kept(world: World) -> None:
    """The image is in the other's history alone, and its own stack knows nothing of it any more."""
    first = baked(world)
    taken(world)
    baked(world, 2)
    taken(world)
    forgotten(world, "lab")
    world.clock.sleep(900 * DAY)
    swept(world)
    assert there(world, first)
    assert shop(world).rollback(RECIPE, "prod").image_id == first


def test_a_sweep_that_may_not_read_a_channel_removes_nothing(world: World) -> None:
    """Who cannot see what the other stack needs does not take it for unneeded."""
    image_id = baked(world)
    taken(world)
    forgotten(world, "lab")
    world.clock.sleep(900 * DAY)

    def denied(operation: str) -> None:
        if operation == "GetParameterHistory":
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, operation)

    with hooked(denied, lambda _: None), pytest.raises(AwsRefused, match="/goldenfleet/shop/"):
        world.sweep().plan()
    assert there(world, image_id)


def test_a_bake_that_fails_late_leaves_what_was_taken_from_it(world: World) -> None:
    """Its image went from dev to another stack, dev moved on, and only then the bake is interrupted."""
    earlier = baked(world)
    moved: list[str] = []

    def before(operation: str) -> None:
        if operation == "CreateTags" and not moved and world.channels().show(RECIPE, "dev").version == 2:
            moved.append("begun")
            moved[0] = taken(world)
            world.channels().rollback(RECIPE, "dev")
            raise KeyboardInterrupt

    with hooked(before, lambda _: None), pytest.raises(KeyboardInterrupt):
        baked(world, 2)
    assert world.channels().show(RECIPE, "dev").image_id == earlier
    assert there(world, moved[0])
    assert shop(world).promote(RECIPE, "prod", "stage").image_id == moved[0]


def test_a_sweep_looks_again_before_it_removes(world: World) -> None:
    """Between what a sweep tells and the yes to it a channel took the image: it stays, and that is said."""
    image_id = baked(world)
    pointer = f"/goldenfleet/lab/image/{RECIPE}/dev"
    world.aws().ssm.delete_parameter(Name=pointer)
    world.clock.sleep(31 * DAY)
    facts = written(world, "lab")
    sweep = world.sweep()
    plan = sweep.plan()
    assert image_id in {each.id for each in plan.doomed}
    world.aws().ssm.put_parameter(Name=pointer, Value=image_id, Type="String")
    failures = sweep.apply(plan)
    assert {each.resource.id: each.reason for each in failures}[image_id] == f"referred to by {pointer}"
    assert there(world, image_id)
    assert written(world, "lab") == facts
