"""The image that a tier launches: read from its channel and pinned until the next `up`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import pulumi_aws as aws

from fleet.errors import ImageMissingError
from fleet.stack.boot_time import parse_boot
from fleet.stack.instance_types import processor
from fleet.stack.naming import image_parameter, launch_path
from fleet.stack.volumes import NOTHING_ASKED, Volumes, parse

_IMAGE_ID = re.compile(r"ami-[0-9a-f]{8,17}")
# Of a parameter that is not there: AWS says ParameterNotFound, and pulumi-aws "couldn't find resource".
_ABSENT = re.compile(r"not ?found|couldn't find", re.IGNORECASE)
_LAUNCH_PARTS = ("volumes", "boot")


class Image(NamedTuple):
    id: str
    root_device: str
    volumes: Volumes = NOTHING_ASKED
    boot_seconds: float | None = None
    """From launch to ready, as its bake measured it; None where that is not known."""


def published(stack: str, recipe: str, channel: str, instance_types: Sequence[str]) -> Image:
    """The image at `channel` of `recipe`, able to run on `instance_types`. Raises ImageMissingError."""
    parameter = image_parameter(stack, recipe, channel)
    publish = (
        f"Bake one into channel dev: goldenfleet images bake {recipe} --stack {stack}"
        if channel == "dev"
        else f"Promote one: goldenfleet images promote {recipe} SOURCE {channel} --stack {stack}"
    )
    try:
        image_id = aws.ssm.get_parameter(name=parameter).insecure_value
    except Exception as exc:  # pulumi raises nothing narrower when a look-up fails
        raise unread(parameter, str(exc), publish) from exc
    if not _IMAGE_ID.fullmatch(image_id):
        raise ImageMissingError(f"{parameter} holds {image_id!r}, which is no image id", publish)
    found = _described(image_id, parameter, publish)
    wrong = [kind for kind in instance_types if processor(kind) != found.architecture]
    if wrong:
        raise ImageMissingError(
            f"{parameter} points at {image_id}, built for {found.architecture}: not for {', '.join(wrong)}",
            f"{publish}, or change instanceTypes.",
        )
    # Known by name: encryption set on another device's name would add an empty second volume.
    launch = _launch(stack, image_id)
    volumes, boot = (f"{launch_path(stack, image_id)}/{part}" for part in _LAUNCH_PARTS)
    return Image(
        image_id,
        found.root_device_name,
        parse(launch[volumes], volumes) if volumes in launch else NOTHING_ASKED,
        parse_boot(launch[boot], boot) if boot in launch else None,
    )


def unread(parameter: str, why: str, publish: str) -> ImageMissingError:
    """A channel without an image, or one that could not be looked at: by what the look-up said."""
    if _ABSENT.search(why):
        return ImageMissingError(f"no image is published at {parameter} ({why})", publish)
    hint = "Check the credentials and the region, and allow ssm:GetParameter on it."
    return ImageMissingError(f"{parameter} cannot be read ({why})", hint)


def _launch(stack: str, image_id: str) -> dict[str, str]:
    """Parameter -> its value. By the path, for a look-up by name cannot tell a parameter that is not there
    from a failure.
    """
    path = launch_path(stack, image_id)
    try:
        names = aws.ssm.get_parameters_by_path(path=path).names
        return {
            name: aws.ssm.get_parameter(name=name).insecure_value
            for name in names
            if name.rpartition("/")[2] in _LAUNCH_PARTS
        }
    except Exception as exc:  # as above
        hint = f"Allow ssm:GetParametersByPath and ssm:GetParameter on {path}."
        raise ImageMissingError(f"what a launch of {image_id} needs cannot be read ({exc})", hint) from exc


def _described(image_id: str, parameter: str, publish: str) -> aws.ec2.AwaitableGetAmiResult:
    own = aws.ec2.GetAmiFilterArgs(name="image-id", values=[image_id])
    try:
        return aws.ec2.get_ami(filters=[own])
    except Exception as exc:  # as above
        raise ImageMissingError(f"{parameter} points at {image_id}, which is gone ({exc})", publish) from exc
