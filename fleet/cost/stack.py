"""What a stack is made of, by its settings. A test compares the counts with what the program registers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from fleet.cost.errors import PriceUnknown
from fleet.cost.materials import Fixed, Materials, TierMaterials, VolumeMaterial
from fleet.cost.specs import Bounds, Requirements, matching
from fleet.stack.observability_alarms import AlarmPlan, alarms, series
from fleet.stack.observability_names import SERIES_OF_GATEWAYS, SERIES_OF_MODELS, StackNames, TierNames
from fleet.stack.settings import GatewayTier, ModelTier, Settings
from fleet.stack.settings_files import read_config
from fleet.stack.settings_network import INTERFACE_ENDPOINTS
from fleet.stack.settings_purchase import Range
from fleet.stack.volumes import IOPS_PER_MIBPS

# Of web_firewall.py, control.py and fallback_ticks.py, which import pulumi; a test compares.
WEB_FIREWALL_RULES = 3
FUNCTION_GIB = 1
LOOKS_AN_HOUR = 60
# Most looks are one call to AWS: an assumption.
_LOOK_SECONDS = 0.5
_GP3_BASE_IOPS = 3000
_MIB_PER_GIB = 1024
_DEFAULT_REGION = "us-east-1"


def materials_of(settings: Settings) -> Materials:
    """What an image asks of its volumes is known at `up` only, so volumes are those of the settings.

    Raises PriceUnknown for a tier whose requirements no type of the table meets.
    """
    tiers = tuple(tier_materials(tier) for tier in settings.tiers)
    return Materials(settings.stack, tiers, tuple(_fixed(settings)))


def region_of(project: Path, stack: str, overrides: Mapping[str, str]) -> str:
    """The stack's aws:region. Raises SettingsError."""
    config = {**read_config(project / f"Pulumi.{stack}.yaml"), **overrides}
    return str(config.get("aws:region", _DEFAULT_REGION))


def tier_materials(tier: GatewayTier | ModelTier) -> TierMaterials:
    """Raises PriceUnknown, as `materials_of` does."""
    mibps = tier.volumes.root_mibps
    root = VolumeMaterial(
        tier.volumes.root_gib,
        mibps,
        max(_GP3_BASE_IOPS, mibps * IOPS_PER_MIBPS),
        tier.volumes.initialization_mibps or 0,
    )
    return TierMaterials(
        name=tier.name,
        instance_types=tier.purchase.instance_types or fitting(tier),
        min=tier.capacity.min,
        desired=tier.capacity.desired,
        max=tier.capacity.max,
        on_demand_base=tier.purchase.on_demand_base,
        on_demand_percent=tier.purchase.on_demand_percent,
        volumes=(root,),
        weights=tier.purchase.weights or {},
        by_requirements=tier.purchase.requirements is not None,
    )


def fitting(tier: GatewayTier | ModelTier) -> tuple[str, ...]:
    """Types of the table that meet the tier's requirements, for an image for x86_64: an image's processor is
    known at `up` only. Raises PriceUnknown where there is none.
    """
    asked = tier.purchase.requirements
    assert asked is not None
    types = matching(
        Requirements(
            vcpus=Bounds(least=asked.vcpus.min, most=asked.vcpus.max),
            memory_mib=_mib(asked.memory_gib),
            architecture="x86_64",
            accelerators=Bounds(least=asked.gpus.min, most=asked.gpus.max),
            nvidia=asked.gpus.min > 0,
            gpu_memory_mib=_mib(asked.gpu_memory_gib),
            disks=asked.local_storage,
            excluded=asked.excluded_types,
        )
    )
    if types:
        return types
    raise PriceUnknown(
        f"no type of the table meets goldenfleet:tiers.{tier.name}.purchase.requirements",
        "Widen them, or add types with their prices to fleet/cost.",
    )


def _mib(gib: Range | None) -> Bounds:
    if gib is None:
        return Bounds()
    return Bounds(least=gib.min * _MIB_PER_GIB, most=None if gib.max is None else gib.max * _MIB_PER_GIB)


def _fixed(settings: Settings) -> Iterator[Fixed]:
    yield from _network(settings)
    for tier in settings.tiers:
        yield Fixed("load balancer", "loadBalancer", 1, tier.name)
        yield Fixed("metrics", "customMetric", _series(tier), tier.name)
    yield Fixed("control function, GB-seconds", "lambdaCompute", LOOKS_AN_HOUR * _LOOK_SECONDS * FUNCTION_GIB)
    yield Fixed("control function, million calls", "lambdaRequests", LOOKS_AN_HOUR / 1e6)
    yield Fixed("dashboard", "dashboard", 1)
    yield Fixed("alarms, by metric", "alarm", series(_alarms(settings)))
    yield Fixed("composite alarm", "compositeAlarm", 1)
    keys = (settings.security.key == "own") + (settings.alarms.email is not None)
    if keys:
        yield Fixed("keys", "kmsKey", keys)
    if settings.edge.waf == "managed":
        yield Fixed("web firewall", "webAcl", 1)
        yield Fixed("its groups of rules", "webAclRule", WEB_FIREWALL_RULES)


def _series(tier: GatewayTier | ModelTier) -> int:
    """Custom metrics that its nodes publish."""
    if isinstance(tier, GatewayTier):
        return SERIES_OF_GATEWAYS
    return SERIES_OF_MODELS + ("in-flight" in tier.scaling.tracks)


def _network(settings: Settings) -> Iterator[Fixed]:
    """An existing network is on its owner's bill, but for the balancer's addresses."""
    network = settings.network
    if network.existing is not None:
        yield Fixed("public IPv4 addresses", "publicIpv4", len(network.existing.public_subnet_ids))
        return
    gateways = {"none": 0, "single": 1, "per-zone": network.zones}[network.nat]
    if gateways:
        yield Fixed("NAT gateways", "natGateway", gateways)
    # One for each NAT gateway, and one in each zone of the public load balancer.
    yield Fixed("public IPv4 addresses", "publicIpv4", gateways + network.zones)
    if network.endpoints:
        yield Fixed("interface endpoints", "interfaceEndpoint", INTERFACE_ENDPOINTS * network.zones)


def _alarms(settings: Settings) -> tuple[AlarmPlan[str], ...]:
    """To count them, any names do."""
    tiers = tuple(TierNames(tier.name, tier.role, "", "", "") for tier in settings.tiers)
    launch = ("launch",) if any(tier.warm_pool for tier in settings.tiers) else ()
    parts = ("interruption", "maintenance", "rebalance", "state", "termination", *launch)
    names = StackNames(settings.stack, tiers, "", "", dict.fromkeys(parts, ""), control="")
    return alarms(settings, names, {tier.name: tier.name for tier in settings.tiers})
