"""Weights on a volume of their own: beside the builder's root while they are brought, below the image after.

It is launched with its machine and ends with it, so nothing of it can be left behind alone. CreateImage then
takes a snapshot of it into the image's own block device mapping: one image, one removal, one copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from images.aws import Aws
from images.builders import Image, Volume
from images.builders.ec2_base import BaseImage
from images.builders.ec2_launch import DataVolume, find, volume_name
from images.builders.ec2_wait import wait_for
from images.errors import BuilderError, PlanRefused, RunError
from images.plan import plan
from images.recipe import Recipe
from images.run import Run
from images.weights import volume_gib

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import ImageTypeDef

DEVICE = "/dev/sdf"
"""AWS recommends sdf to sdp for EBS (EC2 User Guide, device names); the search of an image's disk has sdg."""
_ATTACH_LIMIT_S = 120.0
# What gp3 gives within its price.
_BASE_MIB_S, _BASE_IOPS = 125, 3000


def has_own(recipe: Recipe) -> bool:
    """Whether the recipe's weights come on a volume of their own."""
    return plan(recipe, on="ec2").strategy == "baked-volume"


def disk_gib(recipe: Recipe) -> int:
    """GiB of everything that is imaged."""
    own = volume_gib(recipe.weights) if recipe.weights is not None and has_own(recipe) else 0
    return recipe.disk.root_gib + own


def empty_volume(recipe: Recipe, base: BaseImage) -> DataVolume | None:
    """The builder's; None where the weights need none. Raises PlanRefused."""
    if recipe.weights is None or not has_own(recipe):
        return None
    if DEVICE in base.devices:
        raise PlanRefused(
            f"base image {base.id} maps {DEVICE} itself, where the weights would go",
            "choose another base image, or strategy baked-root",
        )
    disk = recipe.disk
    return DataVolume(DEVICE, volume_gib(recipe.weights), disk.throughput_mib_s, disk.iops)


def restored_volume(image: Image) -> DataVolume | None:
    """A node's, as the fleet's launch template will ask for it."""
    found = next((volume for volume in image.volumes if volume.holds == "weights"), None)
    if found is None:
        return None
    return DataVolume(
        found.device,
        found.gib,
        found.throughput_mib_s,
        found.iops,
        found.snapshot,
        found.initialization_mib_s,
    )


def device_path(aws: Aws, run: Run) -> str | None:
    """By what name the builder's kernel knows its weights volume, whichever number it got; None without one.

    Nitro tells the volume's id as the disk's serial number, and udev makes a link of it.
    """
    name = volume_name("builder")
    if run.ledger.find("volume", name) is None:
        return None
    volume_id = wait_for(
        "the weights volume to be attached",
        lambda: _attached(aws, run),
        run.clock,
        limit_s=_ATTACH_LIMIT_S,
        run_id=run.id,
    )
    run.ledger.made("volume", name, volume_id)
    return f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{volume_id.replace('-', '')}"


def volumes_of(image: ImageTypeDef, recipe: Recipe) -> tuple[Volume, ...]:
    """What the image's snapshots hold, the root first. Raises BuilderError if one is missing."""
    mapped = {mapping["DeviceName"]: mapping["Ebs"] for mapping in _with_snapshots(image)}
    root = image["RootDeviceName"]
    own = has_own(recipe)
    missing = [device for device in (root, *((DEVICE,) if own else ())) if device not in mapped]
    if missing:
        raise BuilderError(f"{image['ImageId']} has no snapshot of {', '.join(missing)}", "start a new bake")
    found = [_volume("weights", DEVICE, mapped[DEVICE], recipe)] if own else []
    return (_root(root, mapped[root], recipe, holds_weights=not own), *found)


def _root(device: str, ebs: Mapping[str, Any], recipe: Recipe, *, holds_weights: bool) -> Volume:
    if holds_weights:
        return _volume("root", device, ebs, recipe)
    return Volume("root", device, ebs["SnapshotId"], ebs["VolumeSize"], _BASE_MIB_S, _BASE_IOPS)


def _volume(holds: Any, device: str, ebs: Mapping[str, Any], recipe: Recipe) -> Volume:
    disk = recipe.disk
    return Volume(
        holds,
        device,
        ebs["SnapshotId"],
        ebs["VolumeSize"],
        disk.throughput_mib_s,
        disk.iops,
        disk.initialization_mib_s,
    )


def _with_snapshots(image: ImageTypeDef) -> list[Any]:
    mappings = image.get("BlockDeviceMappings", ())
    return [mapping for mapping in mappings if "SnapshotId" in mapping.get("Ebs", {})]


def _attached(aws: Aws, run: Run) -> str | None:
    found = find(aws, run, "builder")
    if found is None:
        raise RunError(f"the builder of run {run.id} is gone", "start a new bake")
    mapped = {each["DeviceName"]: each["Ebs"]["VolumeId"] for each in found.get("BlockDeviceMappings", ())}
    return mapped.get(DEVICE)
