"""Images as a bake would leave them: an AMI, and the channel's parameter that points at it."""

from __future__ import annotations

from moto.ssm.models import ssm_backends

from fleet.rehearsal.cloud.world import ACCOUNT, REGION, World


def register(world: World, recipe: str, stack: str, channel: str) -> str:
    """Make an image and point `/goldenfleet/<stack>/image/<recipe>/<channel>` at it; returns its id."""
    made = sum(1 for image in world.ec2.amis.values() if image.owner_id == ACCOUNT)
    image = world.ec2.register_image(f"goldenfleet-{recipe}-{made + 1:04d}", f"rehearsal of {recipe}")
    image.owner_id = ACCOUNT
    image.architecture = "x86_64"  # moto leaves it out, where AWS always tells it
    tags = {"goldenfleet:stack": stack, "goldenfleet:image": recipe, "Name": str(image.name)}
    world.ec2.create_tags([image.id], tags)
    _publish(f"/goldenfleet/{stack}/image/{recipe}/{channel}", str(image.id))
    return str(image.id)


def _publish(name: str, image_id: str) -> None:
    ssm_backends[ACCOUNT][REGION].put_parameter(
        name=name,
        description="The image that a channel points at",
        value=image_id,
        parameter_type="String",
        allowed_pattern="",
        keyid="",
        overwrite=True,
        tags=[],
        data_type="text",
        tier=None,
        policies=None,
    )
