"""What a builder starts from, and where: the base AMI and the subnets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from images.aws import Aws, translated
from images.errors import BuilderError, PlanRefused, RecipeError
from images.recipe import Ec2Base, Recipe
from images.run import Run


@dataclass(frozen=True)
class BaseImage:
    id: str
    root_device: str
    user: str
    devices: tuple[str, ...] = ()
    """All that it maps, the root's included."""


@dataclass(frozen=True)
class Place:
    vpc_id: str
    subnets: tuple[str, ...]


def base_image(aws: Aws, run: Run) -> BaseImage:
    """The recipe's base, the same for the whole run: a resumed one does not move to a newer AMI."""
    base = run.recipe.base.ec2
    if base is None:
        raise RecipeError(f"recipe {run.recipe.name} has no [base.ec2]", "add one, or bake it locally")
    chosen = run.ledger.stage_done("base")
    image_id = str(chosen.details["image_id"]) if chosen else _newest(aws, base, run.recipe)
    with translated(f"looking at base image {image_id}"):
        found = aws.ec2.describe_images(ImageIds=[image_id])["Images"]
    if not found:
        raise PlanRefused(f"base image {image_id} does not exist in {aws.region}")
    if found[0]["Architecture"] != run.recipe.architecture:
        raise PlanRefused(
            f"base image {image_id} is {found[0]['Architecture']}, not {run.recipe.architecture}"
        )
    if chosen is None:
        run.ledger.stage("base", image_id=image_id)
    devices = tuple(mapping["DeviceName"] for mapping in found[0].get("BlockDeviceMappings", ()))
    return BaseImage(image_id, found[0]["RootDeviceName"], base.user, devices)


def place(aws: Aws, subnets: tuple[str, ...]) -> Place:
    """The VPC and the subnets to try; the default ones where none are named."""
    by_default: Any = [{"Name": "default-for-az", "Values": ["true"]}]
    with translated("looking for subnets"):
        found = (
            aws.ec2.describe_subnets(SubnetIds=list(subnets))
            if subnets
            else aws.ec2.describe_subnets(Filters=by_default)
        )["Subnets"]
    vpcs = {subnet["VpcId"] for subnet in found}
    if len(vpcs) != 1:
        raise BuilderError(
            f"the subnets lie in {len(vpcs)} VPCs, and must lie in one"
            if vpcs
            else "no default subnets here",
            "name subnets of one VPC in the settings",
        )
    return Place(vpcs.pop(), subnets or tuple(sorted(subnet["SubnetId"] for subnet in found)))


def _newest(aws: Aws, base: Ec2Base, recipe: Recipe) -> str:
    if base.ssm_parameter is not None:
        with translated(f"reading {base.ssm_parameter}"):
            return aws.ssm.get_parameter(Name=base.ssm_parameter)["Parameter"]["Value"]
    wanted: Any = [
        {"Name": "name", "Values": [base.name]},
        {"Name": "architecture", "Values": [recipe.architecture]},
        {"Name": "state", "Values": ["available"]},
    ]
    with translated(f"looking for base images named {base.name}"):
        found = aws.ec2.describe_images(Owners=list(base.owners), Filters=wanted)["Images"]
    if not found:
        raise PlanRefused(f"no image of {', '.join(base.owners)} is named {base.name} in {aws.region}")
    if len(found) > 1 and not base.most_recent:
        raise PlanRefused(
            f"{len(found)} images of {', '.join(base.owners)} are named {base.name}",
            "narrow the name, or set most_recent = true in [base.ec2]",
        )
    return max(found, key=lambda image: image["CreationDate"])["ImageId"]
