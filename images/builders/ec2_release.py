"""What follows the checks: copies in other regions, others who may launch the image, and its date."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from images.aws import Aws, tag_specifications, translated, until_consistent
from images.builders import Image
from images.builders.ec2_image import available, find_image, require_tokens
from images.builders.ec2_settings import Copy, Ec2Settings
from images.builders.ec2_volume import disk_gib, volumes_of
from images.builders.ec2_wait import image_limit_s
from images.errors import AwsRefused
from images.run import Run

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import LaunchPermissionTypeDef

_QUEUE_LIMIT_S = 3600.0
"""How long to wait for others' copies: EC2 takes 20 snapshot copies per destination region at once."""


def release(aws: Aws, run: Run, image: Image, settings: Ec2Settings) -> Image:
    """The image with its copies, shared and dated everywhere. Raises WaitTimedOut; calling again goes on."""
    copies = _copied(aws, run, image, settings)
    for region, image_id in ((image.region, image.id), *copies.items()):
        _share(aws.at(region), image_id, settings)
        _date(aws.at(region), run, image_id, settings.deprecate_after_days)
    return replace(image, copies=copies)


def _copied(aws: Aws, run: Run, image: Image, settings: Ec2Settings) -> dict[str, str]:
    """All are started before any is waited for: they go on side by side."""
    started = {copy.region: _start_copy(aws.at(copy.region), run, image, copy) for copy in settings.copies}
    limit_s = image_limit_s(disk_gib(run.recipe), settings.wait_limit_s)
    for region, image_id in started.items():
        copied = available(aws.at(region), run, image_id, limit_s)
        volumes_of(copied, run.recipe)  # a copy that lacks one would be published, and serve nothing
        require_tokens(aws.at(region), copied)
    return started


def _start_copy(aws: Aws, run: Run, image: Image, copy: Copy) -> str:
    part = f"copy-{copy.region}"
    found = find_image(aws, image.name)
    if found is not None:
        run.ledger.made("image", part, found["ImageId"], region=copy.region)
        return found["ImageId"]
    run.ledger.intend("image", part, region=copy.region)
    key = {} if copy.kms_key_id is None else {"KmsKeyId": copy.kms_key_id}
    image_id = until_consistent(
        f"copying {image.id} to {copy.region}",
        lambda: aws.ec2.copy_image(
            Name=image.name,
            SourceImageId=image.id,
            SourceRegion=image.region,
            ClientToken=f"{run.id}-{copy.region}",
            Encrypted=True,
            CopyImageTags=True,
            TagSpecifications=tag_specifications(run.tags(part), "image", "snapshot"),
            **key,  # type: ignore[arg-type]
        ),
        run.clock,
        _too_many_at_once,
        for_s=_QUEUE_LIMIT_S,
    )["ImageId"]
    run.ledger.made("image", part, image_id, region=copy.region)
    return image_id


def _share(aws: Aws, image_id: str, settings: Ec2Settings) -> None:
    if not settings.shared:
        return
    with translated(f"sharing {image_id} in {aws.region}"):
        aws.ec2.modify_image_attribute(ImageId=image_id, LaunchPermission={"Add": _permissions(settings)})


def _permissions(settings: Ec2Settings) -> list[LaunchPermissionTypeDef]:
    accounts: list[LaunchPermissionTypeDef] = [{"UserId": account} for account in settings.share_accounts]
    arns = settings.share_organizations
    units: list[LaunchPermissionTypeDef] = [{"OrganizationalUnitArn": arn} for arn in arns if ":ou/" in arn]
    whole: list[LaunchPermissionTypeDef] = [{"OrganizationArn": arn} for arn in arns if ":ou/" not in arn]
    return accounts + whole + units


def _date(aws: Aws, run: Run, image_id: str, days: int | None) -> None:
    if days is None:
        return
    at = datetime.fromtimestamp(run.clock.now(), UTC) + timedelta(days=days)
    until_consistent(
        f"dating {image_id} in {aws.region}",
        lambda: aws.ec2.enable_image_deprecation(ImageId=image_id, DeprecateAt=at.replace(second=0)),
        run.clock,
        _still_pending,
    )


def _too_many_at_once(error: AwsRefused) -> bool:
    return error.code == "ResourceLimitExceeded"


def _still_pending(error: AwsRefused) -> bool:
    return error.code == "InvalidAMIID.Unavailable"
