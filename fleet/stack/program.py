"""The Pulumi program: settings in, a fleet out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env

from fleet.errors import GoldenfleetError, SettingsError
from fleet.stack import outputs, tags
from fleet.stack.control import Control, ControlLogs, Place
from fleet.stack.control_identity import ControlIdentity
from fleet.stack.edge import Edge, EdgePlan
from fleet.stack.encryption import Account, OwnKey
from fleet.stack.endpoints import Endpoints
from fleet.stack.fallback_ticks import ControlMetrics, FallbackTicks
from fleet.stack.firewall import CONTROL, ENDPOINTS, HTTP, HTTPS, MODEL_BALANCER, PUBLIC_BALANCER, Firewall
from fleet.stack.identity import bounding
from fleet.stack.image import Image, published
from fleet.stack.interruptions import Interruptions
from fleet.stack.log_bucket import FlowLog, LogBucket
from fleet.stack.network import Network
from fleet.stack.notices import Notices
from fleet.stack.observability import Observability, TierLogs
from fleet.stack.rollout import check_credentials, roll_out
from fleet.stack.scaling_policies import published_by
from fleet.stack.settings import GatewayTier, ModelTier, Settings, Telemetry
from fleet.stack.tier import Tier, TierPlan, boot_problem, volume_problem
from fleet.stack.web_firewall import WebFirewall

Told = dict[str, pulumi.Input[str] | float]
"""What a tier's nodes boot with."""


class Ground(NamedTuple):
    """What all tiers stand on, all of it there before a node boots."""

    network: Network
    firewall: Firewall
    notices: Notices
    endpoints: Endpoints | None
    logs: LogBucket | None
    key_arn: pulumi.Input[str] | None

    @property
    def before_nodes(self) -> list[pulumi.Resource]:
        """What a node needs as soon as it boots."""
        parts = (self.network, self.firewall, self.notices, self.endpoints)
        return [part for part in parts if part is not None]


def main() -> None:
    try:
        config = configuration()
        check_credentials(config)
        build(Settings.from_config(pulumi.get_stack(), config))
    except GoldenfleetError as exc:
        # Pulumi prints this kind by its text alone; of any other it prints a trace.
        raise pulumi.RunError(str(exc)) from exc


def configuration() -> Mapping[str, object]:
    """All of the stack's configuration: pulumi.Config looks a key up, and cannot say which keys there are."""
    return {**get_config_env(), **CONFIG.get()}


def build(settings: Settings) -> None:
    stack = settings.stack
    shared = {tags.STACK: stack, tags.TIER: tags.SHARED}
    pulumi.runtime.register_stack_transformation(tags.tagging(shared))
    if settings.security.permissions_boundary is not None:
        pulumi.runtime.register_stack_transformation(bounding(settings.security.permissions_boundary))
    # Before the first resource: a missing image leaves nothing half made.
    images = {tier.name: _image(settings, tier) for tier in settings.tiers}

    ground = _ground(settings)
    edges = {tier.name: _edge(settings, tier, ground) for tier in settings.tiers}
    told = _told(settings, ground.network, edges)
    made: dict[str, tuple[Tier, Edge]] = {}
    in_order: tuple[GatewayTier | ModelTier, ...] = (*settings.models, settings.gateway)
    for tier in in_order:
        secrets = _secrets(settings, tier)
        plan = TierPlan(stack, images[tier.name], tier, told[tier.name], secrets, ground.key_arn)
        made[tier.name] = _tier(settings, plan, ground, edges[tier.name]), edges[tier.name]
    _, public = made[settings.gateway.name]

    told_of = Observability(settings, made, ground.notices).alarms
    for settled in settings.tiers:
        roll_out(stack, made[settled.name][0], settled, told_of.failing_rollouts_of(settled.name))
    if settings.edge.waf != "none":
        existing = None if settings.edge.waf == "managed" else settings.edge.waf
        WebFirewall(stack, public.load_balancer.arn, existing)
    if settings.security.interruptions:
        Interruptions(stack, Account.here())
    control = _control(settings, ground, made)
    control_group = ground.firewall.group(CONTROL)
    logs = ControlLogs(stack, settings.log_retention_days, ground.key_arn)
    place = Place(ground.network.private_subnet_ids, control_group, control)
    handler = Control(stack, ground.notices, logs, place)
    FallbackTicks(stack, [tier.name for tier in settings.tiers], handler.function)
    ControlMetrics(stack, logs.group)
    outputs.export(settings.edge.domain, public, ground.notices, made, control, control_group)


def _told(settings: Settings, network: Network, edges: Mapping[str, Edge]) -> dict[str, Told]:
    """Tier -> what its nodes boot with."""
    groups = [
        pulumi.Output.concat("target-group:", edges[tier.name].target_group.arn) for tier in settings.models
    ]
    nodes = pulumi.Output.all(*groups).apply(",".join)
    told: dict[str, Told] = {t.name: _engine(t) for t in settings.models}
    told[settings.gateway.name] = {"nodes": nodes, **_access(settings, network)}
    # What dashboards and alarms look at: a node that is gone cannot be asked.
    common: Told = {
        "node_metrics": "on",
        "keep_alive_seconds": settings.edge.keep_alive_seconds,
        **_telemetry(settings.telemetry),
    }
    return {tier: {**own, **common} for tier, own in told.items()}


def _engine(tier: ModelTier) -> Told:
    return {
        "engine": tier.engine,
        **({"engine_model": tier.model} if tier.model else {}),
        **published_by(tier),
    }


def _telemetry(telemetry: Telemetry) -> Told:
    told: Told = {"access_log": telemetry.access_log}
    if telemetry.traces_url is None:
        return told
    told |= {"traces_url": telemetry.traces_url, "traces_share": telemetry.traces_share}
    return told | ({"traces_headers": telemetry.traces_headers} if telemetry.traces_headers else {})


def _access(settings: Settings, network: Network) -> dict[str, str]:
    """The gateways' settings about who may ask; of where from, they take the balancer's word."""
    access = settings.access
    told: dict[str, str | None] = {
        "auth": "off" if access.open else "on",
        "keys": access.keys_of(settings.stack),
        "jwt_jwks_url": access.jwks_url,
        "jwt_issuer": access.issuer,
        "jwt_audience": access.audience,
        "limits_url": access.limits_url,
        "proxies": ",".join(map(str, network.public_blocks)),
    }
    return {name: value for name, value in told.items() if value is not None}


def _secrets(settings: Settings, tier: GatewayTier | ModelTier) -> list[str]:
    """What the tier's nodes are told to read: all of them trace, gateways alone ask who asks."""
    asking = (settings.access.keys_of(settings.stack), settings.access.limits_url)
    named = (*(asking if tier is settings.gateway else ()), *settings.telemetry.secrets)
    return [reference for reference in named if reference is not None]


def _image(settings: Settings, tier: GatewayTier | ModelTier) -> Image:
    image = published(settings.stack, tier.recipe, tier.channel, tier.purchase.instance_types)
    if problem := volume_problem(tier, image) or boot_problem(tier, image):
        raise SettingsError(problem, f"Correct Pulumi.{settings.stack}.yaml.")
    return image


def _ground(settings: Settings) -> Ground:
    weights = [prefix for tier in settings.models for prefix in tier.weights_from]
    network = Network(settings.stack, settings.network, settings.room, weights)
    ports = [HTTP] if settings.edge.certificate_arn is None else [HTTPS, HTTP]
    firewall = Firewall(
        settings.stack,
        settings.gateway.name,
        [tier.name for tier in settings.models],
        network.vpc_id,
        ports,
        settings.edge.allowed_cidrs,
        endpoints=settings.network.endpoints,
        leads_out=settings.network.leads_out,
    )
    if settings.access.limits_security_group is not None:
        firewall.reach(
            settings.gateway.name,
            settings.access.limits_security_group,
            settings.access.limits_port,
            "limits",
        )
    key_arn = _key(settings)
    waiting = [tier.name for tier in settings.tiers if tier.warm_pool is not None]
    notices = Notices(settings.stack, [tier.name for tier in settings.tiers], key_arn, waiting)
    endpoints = None
    if settings.network.endpoints:
        door = firewall.group(ENDPOINTS)
        endpoints = Endpoints(settings.stack, network.vpc_id, network.private_subnet_ids, door)
    logs = _logs(settings, network)
    return Ground(network, firewall, notices, endpoints, logs, key_arn)


def _key(settings: Settings) -> pulumi.Input[str] | None:
    """ARN of the key that encrypts what the stack keeps; None is each service's own."""
    match settings.security.key:
        case "aws":
            return None
        case "own":
            return OwnKey(settings.stack, Account.here()).arn
        case arn:
            return arn


def _logs(settings: Settings, network: Network) -> LogBucket | None:
    """Where requests and connections are noted down, and the flow log that does the latter."""
    if not (settings.access_logs or settings.flow_logs):
        return None
    days, emptied = settings.security.logs_kept_days, not settings.production
    bucket = LogBucket(settings.stack, Account.here(), days, emptied=emptied)
    if settings.flow_logs:
        FlowLog(settings.stack, network.vpc_id, bucket)
    return bucket


def _edge(settings: Settings, tier: GatewayTier | ModelTier, ground: Ground) -> Edge:
    """The gateways' is public, the model nodes' internal."""
    internal = tier is not settings.gateway
    network = ground.network
    plan = EdgePlan(
        stack=settings.stack,
        tier=tier.name,
        internal=internal,
        certificate_arn=None if internal else settings.edge.certificate_arn,
        idle_timeout_seconds=settings.edge.idle_timeout_seconds,
        deregistration_delay_seconds=tier.drain.deregistration_delay_seconds,
        protected=settings.production,
        log_bucket=ground.logs.name if ground.logs is not None and settings.access_logs else None,
    )
    subnets = network.private_subnet_ids if internal else network.public_subnet_ids
    group = ground.firewall.group(MODEL_BALANCER if internal else PUBLIC_BALANCER)
    return Edge(plan, network.vpc_id, subnets, group)


def _tier(settings: Settings, plan: TierPlan, ground: Ground, edge: Edge) -> Tier:
    logs = TierLogs(settings.stack, plan.name, settings.log_retention_days, ground.key_arn)
    group = ground.firewall.group(plan.name)
    return Tier(plan, edge, ground.network.private_subnet_ids, group, logs.group.arn, ground.before_nodes)


def _control(settings: Settings, ground: Ground, made: Mapping[str, tuple[Tier, Edge]]) -> ControlIdentity:
    spot = [made[tier.name][0].role_arn for tier in settings.tiers if not tier.purchase.only_on_demand]
    return ControlIdentity(settings.stack, ground.notices.queue.arn, spot, ground.key_arn)
