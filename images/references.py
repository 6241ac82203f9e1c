"""Who still needs an image: channels, their history, launch templates, and machines that run from it."""

from __future__ import annotations

from collections.abc import Sequence

from images.aws import Aws, translated
from images.channels import referenced
from images.errors import AwsRefused

_NOT_HERE = ("InvalidAction", "UnsupportedOperation", "InvalidRequest", "UnauthorizedOperation")
_AT_ONCE = 100


def references(aws: Aws, image_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Image id -> what refers to it. Asks EC2 itself where it can, and looks for itself where it cannot."""
    try:
        found = _by_ec2(aws, image_ids)
    except AwsRefused as error:
        if error.code not in _NOT_HERE:
            raise
        found = _by_search(aws)
    for image_id, channel in referenced(aws).items():
        found.setdefault(image_id, []).append(channel)
    return {image_id: tuple(who) for image_id, who in found.items()}


def _by_ec2(aws: Aws, image_ids: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for start in range(0, len(image_ids), _AT_ONCE):
        wanted = list(image_ids[start : start + _AT_ONCE])
        with translated("asking what refers to images"):
            pages = aws.ec2.get_paginator("describe_image_references").paginate(
                ImageIds=wanted, IncludeAllResourceTypes=True
            )
            for page in pages:
                for said in page["ImageReferences"]:
                    found.setdefault(said["ImageId"], []).append(said["Arn"])
    return found


def _by_search(aws: Aws) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    with translated("looking for what refers to images"):
        for templates in aws.ec2.get_paginator("describe_launch_template_versions").paginate(
            Versions=["$Latest", "$Default"]
        ):
            for version in templates["LaunchTemplateVersions"]:
                image_id = version["LaunchTemplateData"].get("ImageId")
                if image_id:
                    found.setdefault(image_id, []).append(f"launch template {version['LaunchTemplateName']}")
        for page in aws.ec2.get_paginator("describe_instances").paginate():
            for instance in (i for reservation in page["Reservations"] for i in reservation["Instances"]):
                if instance["State"]["Name"] != "terminated":
                    found.setdefault(instance["ImageId"], []).append(instance["InstanceId"])
    return found
