"""What a stack is made of, by its settings. A test compares the counts with what the program registers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from fleet.cost.materials import Fixed, Materials, TierMaterials, VolumeMaterial
from fleet.stack.settings import GatewayTier, ModelTier, Settings
from fleet.stack.settings_files import read_config
from fleet.stack.volumes import IOPS_PER_MIBPS

_GP3_BASE_IOPS = 3000
_DEFAULT_REGION = "us-east-1"


def materials_of(settings: Settings) -> Materials:
    """What an image asks of its volumes is known at `up` only, so volumes are those of the settings."""
    tiers = tuple(_tier(tier) for tier in settings.tiers)
    return Materials(settings.stack, tiers, tuple(_fixed(settings)))


def region_of(project: Path, stack: str, overrides: Mapping[str, str]) -> str:
    """The stack's aws:region. Raises SettingsError."""
    config = {**read_config(project / f"Pulumi.{stack}.yaml"), **overrides}
    return str(config.get("aws:region", _DEFAULT_REGION))


def _tier(tier: GatewayTier | ModelTier) -> TierMaterials:
    mibps = tier.volumes.root_mibps
    root = VolumeMaterial(tier.volumes.root_gib, mibps, max(_GP3_BASE_IOPS, mibps * IOPS_PER_MIBPS))
    return TierMaterials(
        name=tier.name,
        instance_types=tier.purchase.instance_types,
        min=tier.capacity.min,
        desired=tier.capacity.desired,
        max=tier.capacity.max,
        on_demand_base=tier.purchase.on_demand_base,
        on_demand_percent=tier.purchase.on_demand_percent,
        volumes=(root,),
    )


def _fixed(settings: Settings) -> Iterator[Fixed]:
    zones = settings.network.zones
    gateways = 1 if settings.network.nat == "single" else zones
    yield Fixed("NAT gateways", "natGateway", gateways)
    # One for each NAT gateway, and one in each zone of the public load balancer.
    yield Fixed("public IPv4 addresses", "publicIpv4", gateways + zones)
    for tier in settings.tiers:
        yield Fixed("load balancer", "loadBalancer", 1, tier.name)
