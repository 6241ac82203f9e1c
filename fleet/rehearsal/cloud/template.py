"""What a group launches: its launch template version, overrides and distribution, checked as AWS does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.models import FakeAutoScalingGroup
from moto.core.types import Base64EncodedString
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.launch_templates import LaunchTemplateVersion
from moto.ec2.utils import parse_user_data
from moto.iam.models import iam_backends

from fleet.cost.errors import PriceUnknown
from fleet.rehearsal.cloud.capacity import ALL_SPOT, Split
from fleet.rehearsal.cloud.instances import require_image, resolve_image
from fleet.rehearsal.cloud.requirements import fitting_types
from fleet.rehearsal.cloud.views import PurchaseOption
from fleet.rehearsal.cloud.world import ACCOUNT, World
from fleet.rehearsal.market import on_demand_price

_NOT_WELL_FORMED = "You must use a valid fully-formed launch template. "


@dataclass(frozen=True)
class Purchase:
    """What and how a group buys."""

    instance_types: tuple[str, ...]
    split: Split
    on_demand_strategy: str
    spot_strategy: str
    weights: Mapping[str, int] = field(default_factory=dict)
    """Units of capacity by type; empty where every instance is one."""
    on_demand_types: tuple[str, ...] | None = None
    """Where AWS leaves some out for being costly."""

    def types(self, option: PurchaseOption) -> tuple[str, ...]:
        if option == "on-demand" and self.on_demand_types is not None:
            return self.on_demand_types
        return self.instance_types


def version_of(group: FakeAutoScalingGroup) -> LaunchTemplateVersion | None:
    """The launch template version that the group's next instance is launched from."""
    template = group.ec2_launch_template
    return template.get_version(group.launch_template_version) if template else None


def purchase_of(group: FakeAutoScalingGroup) -> Purchase:
    version = version_of(group)
    policy = group.mixed_instances_policy
    if not policy:
        market = version.data.get("InstanceMarketOptions", {}).get("MarketType") if version else None
        split = ALL_SPOT if market == "spot" else Split()
        return Purchase((str(group.instance_type),), split, "prioritized", "lowest-price")
    distribution: dict[str, Any] = policy.get("InstancesDistribution") or {}
    overrides = policy["LaunchTemplate"].get("Overrides") or []
    types = tuple(str(o["InstanceType"]) for o in overrides if o.get("InstanceType"))
    chosen = [o["InstanceRequirements"] for o in overrides if o.get("InstanceRequirements")]
    fits = fitting_types(chosen, _architecture(group, version)) if chosen else None
    return Purchase(
        (fits.spot if fits else types) or (str(group.instance_type),),
        Split(
            int(distribution.get("OnDemandBaseCapacity") or 0),
            _percentage(distribution.get("OnDemandPercentageAboveBaseCapacity")),
        ),
        str(distribution.get("OnDemandAllocationStrategy") or "prioritized"),
        str(distribution.get("SpotAllocationStrategy") or "lowest-price"),
        {str(o["InstanceType"]): int(o["WeightedCapacity"]) for o in overrides if o.get("WeightedCapacity")},
        fits.on_demand if fits else None,
    )


def _architecture(group: FakeAutoScalingGroup, version: LaunchTemplateVersion | None) -> str:
    """Of the image: AWS takes only types that can boot it."""
    image_id = str(version.image_id if version else group.image_id)
    found = group.ec2_backend.describe_images(ami_ids=[resolve_image(image_id)])
    # Moto keeps none for an image that was registered without one.
    return str(found[0].architecture or "x86_64")


def _percentage(given: Any) -> int:
    return 100 if given is None else int(given)


def run_arguments(group: FakeAutoScalingGroup) -> dict[str, Any]:
    """Keyword arguments for moto's run_instances that moto's own groups forget to pass."""
    version = version_of(group)
    if version is None:
        return {"launch_config": group.launch_config}
    data = version.data
    interfaces = data.get("NetworkInterfaces") or [{}]
    return {
        "launch_template": {"LaunchTemplateId": version.template.id, "Version": str(version.number)},
        "security_group_ids": list(data.get("SecurityGroupIds") or interfaces[0].get("Groups") or []),
        "associate_public_ip": interfaces[0].get("AssociatePublicIpAddress"),
        "metadata_options": data.get("MetadataOptions") or {},
        "monitoring_state": "enabled" if _is_true(data.get("Monitoring", {}).get("Enabled")) else "disabled",
    }


def user_data_of(group: FakeAutoScalingGroup) -> Base64EncodedString | None:
    """Later template versions hold it as plain text in moto, which moto then refuses to launch."""
    version = version_of(group)
    if version is None:
        return group.user_data
    data = version.data.get("UserData")
    if data is None or isinstance(data, Base64EncodedString):
        return data
    return parse_user_data(data)


def profile_of(group: FakeAutoScalingGroup) -> dict[str, str]:
    """The instance profile as `Name` or `Arn`; empty without one."""
    version = version_of(group)
    return dict(version.data.get("IamInstanceProfile") or {}) if version else {}


def require_launchable(world: World, group: FakeAutoScalingGroup) -> None:
    """Raise AWS's ValidationError for a template, image, profile or type that cannot be launched."""
    try:
        version = version_of(group)
    except EC2ClientError as error:
        raise ValidationError(
            f"{_NOT_WELL_FORMED}Could not find the specified version {group.launch_template_version} for the "
            f"launch template with ID {group.ec2_launch_template.id if group.ec2_launch_template else ''}."
        ) from error
    if version is not None:
        _require_image(world, str(version.image_id))
    _require_profile(profile_of(group))
    purchase = purchase_of(group)
    if not purchase.instance_types or not purchase.types("on-demand"):
        raise ValidationError(
            "No instance types match the specified attributes. Please specify different attributes."
        )
    for instance_type in purchase.instance_types:
        _require_type(instance_type)


def _require_image(world: World, image_id: str) -> None:
    try:
        require_image(world, resolve_image(image_id))
    except EC2ClientError as error:
        raise ValidationError(f"{_NOT_WELL_FORMED}{error.message}") from error


def _require_profile(profile: dict[str, str]) -> None:
    known = list(iam_backends[ACCOUNT]["aws"].get_instance_profiles())
    if profile.get("Arn") and profile["Arn"] not in {found.arn for found in known}:
        raise ValidationError(f"{_NOT_WELL_FORMED}Invalid IAM Instance Profile ARN: {profile['Arn']}")
    if profile.get("Name") and profile["Name"] not in {found.name for found in known}:
        raise ValidationError(f"{_NOT_WELL_FORMED}Invalid IAM Instance Profile name: {profile['Name']}")


def _require_type(instance_type: str) -> None:
    try:
        on_demand_price(instance_type)
    except PriceUnknown as error:
        raise ValidationError(f"{error.message}; {error.hint}") from error


def _is_true(value: Any) -> bool:
    return str(value).lower() == "true"
