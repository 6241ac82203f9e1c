"""From a builder to an image: stopped, imaged once, and waited for however long it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from images.aws import Aws, tag_specifications, translated, until_consistent
from images.builders import Image
from images.builders.ec2_launch import described, find, state_reason
from images.builders.ec2_volume import disk_gib, volumes_of
from images.builders.ec2_wait import image_limit_s, wait_for
from images.errors import AwsRefused, BuilderError, RunError
from images.run import Run

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import ImageTypeDef

_STOP_LIMIT_S = 900.0
_FAILED = ("failed", "invalid", "error", "deregistered", "disabled")


def image_name(run: Run) -> str:
    """Unique in the account, for it holds the run's id; at most 128 characters."""
    return f"goldenfleet-{run.recipe.name}-{run.id}"


def make_image(aws: Aws, run: Run, wait_limit_s: float) -> Image:
    """This run's one image, available. Raises WaitTimedOut, or AwsRefused with StateReason if it failed."""
    found = find_image(aws, image_name(run))
    image_id = found["ImageId"] if found else _created(aws, run)
    run.ledger.made("image", "image", image_id)
    image = available(aws, run, image_id, image_limit_s(disk_gib(run.recipe), wait_limit_s))
    require_tokens(aws, image)
    volumes = volumes_of(image, run.recipe)
    return Image(
        id=image_id,
        name=image_name(run),
        region=aws.region,
        snapshots=tuple(volume.snapshot for volume in volumes),
        volumes=volumes,
        initialization_mib_s=run.recipe.disk.initialization_mib_s,
    )


def find_image(aws: Aws, name: str) -> ImageTypeDef | None:
    """Our own image of that name, in any state."""
    by_name: Any = [{"Name": "name", "Values": [name]}]
    with translated(f"looking for image {name}"):
        found = aws.ec2.describe_images(Owners=["self"], Filters=by_name)["Images"]
    return found[0] if found else None


def available(aws: Aws, run: Run, image_id: str, limit_s: float) -> ImageTypeDef:
    """The image when it can be launched: it may not be known yet, and then it is pending."""

    def look() -> ImageTypeDef | None:
        answer = until_consistent(
            f"looking at {image_id}", lambda: aws.ec2.describe_images(ImageIds=[image_id]), run.clock
        )
        if not answer["Images"]:
            return None
        image = answer["Images"][0]
        if image["State"] in _FAILED:
            reason = state_reason(image) or "AWS gives no reason"
            raise BuilderError(f"{image_id} is {image['State']}: {reason}", _failure_hint(reason))
        return image if image["State"] == "available" else None

    return wait_for(f"{image_id} to be available", look, run.clock, limit_s=limit_s, run_id=run.id)


def snapshots_of(image: Mapping[str, Any]) -> tuple[str, ...]:
    disks = (mapping.get("Ebs", {}) for mapping in image.get("BlockDeviceMappings", ()))
    return tuple(disk["SnapshotId"] for disk in disks if "SnapshotId" in disk)


def _created(aws: Aws, run: Run) -> str:
    builder = find(aws, run, "builder")
    if builder is None:
        raise RunError(f"the builder of run {run.id} is gone, and has left no image", "start a new bake")
    _stop(aws, run, builder["InstanceId"])
    run.ledger.intend("image", "image", image_name=image_name(run))
    tags = run.tags("image")
    try:
        with translated(f"creating image {image_name(run)}"):
            return aws.ec2.create_image(
                InstanceId=builder["InstanceId"],
                Name=image_name(run),
                Description=f"goldenfleet {run.recipe.name}, run {run.id}",
                TagSpecifications=tag_specifications(tags, "image", "snapshot"),
            )["ImageId"]
    except AwsRefused as error:
        if error.code != "InvalidAMIName.Duplicate":
            raise
        return _seen_late(aws, run, error)


def _seen_late(aws: Aws, run: Run, duplicate: AwsRefused) -> str:
    """Id of the image that an earlier process of this run asked for, and that could not be seen yet."""

    def look() -> str | None:
        found = find_image(aws, image_name(run))
        return found["ImageId"] if found else None

    try:
        return wait_for(duplicate.message, look, run.clock, limit_s=300, run_id=run.id)
    except BuilderError as exc:
        raise exc from duplicate


def _stop(aws: Aws, run: Run, instance_id: str) -> None:
    with translated(f"stopping {instance_id}"):
        aws.ec2.stop_instances(InstanceIds=[instance_id])

    def look() -> bool | None:
        instance = described(aws, run, instance_id)
        state = instance["State"]["Name"]
        if state in ("shutting-down", "terminated"):
            reason = state_reason(instance) or "AWS gives no reason"
            raise BuilderError(f"{instance_id} ended instead of stopping: {reason}", "start a new bake")
        return state == "stopped" or None

    wait_for(f"{instance_id} to stop", look, run.clock, limit_s=_STOP_LIMIT_S, run_id=run.id)


def require_tokens(aws: Aws, image: ImageTypeDef) -> None:
    """Whatever launches the image asks for IMDSv2, as the builder did."""
    if image.get("ImdsSupport") == "v2.0":
        return
    with translated(f"requiring metadata tokens of {image['ImageId']}"):
        aws.ec2.modify_image_attribute(ImageId=image["ImageId"], ImdsSupport={"Value": "v2.0"})


def _failure_hint(reason: str) -> str:
    if "kms" in reason.lower() or "key" in reason.lower():
        return "let the role in use, and EC2's grants, use the KMS key"
    return "start a new bake; images sweep removes what this one left"
