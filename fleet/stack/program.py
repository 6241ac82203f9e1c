"""The Pulumi program: settings in, a fleet out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env

from fleet.errors import GoldenfleetError, SettingsError
from fleet.stack import outputs, tags
from fleet.stack.edge import Edge, EdgePlan
from fleet.stack.firewall import CONTROL, HTTP, HTTPS, MODEL_BALANCER, PUBLIC_BALANCER, Firewall
from fleet.stack.identity import ControlIdentity
from fleet.stack.image import Image, published
from fleet.stack.naming import GATEWAY, MODEL
from fleet.stack.network import Network
from fleet.stack.notices import Notices
from fleet.stack.observability import NoticeAlarms, TierAlarms, TierLogs
from fleet.stack.settings import Settings
from fleet.stack.tier import Tier, TierPlan, volume_problem


class Ground(NamedTuple):
    """What both tiers stand on, all of it there before a node boots."""

    network: Network
    firewall: Firewall
    notices: Notices


def main() -> None:
    try:
        build(Settings.from_config(pulumi.get_stack(), configuration()))
    except GoldenfleetError as exc:
        # Pulumi prints this kind by its text alone; of any other it prints a trace.
        raise pulumi.RunError(str(exc)) from exc


def configuration() -> Mapping[str, object]:
    """All of the stack's configuration: pulumi.Config looks a key up, and cannot say which keys there are."""
    return {**get_config_env(), **CONFIG.get()}


def build(settings: Settings) -> None:
    stack, tiers = settings.stack, settings.tiers
    shared = {tags.STACK: stack, tags.TIER: tags.SHARED}
    pulumi.runtime.register_stack_transformation(tags.tagging(shared))
    # Before the first resource: a missing image leaves nothing half made.
    model_image, gateway_image = _image(settings, MODEL), _image(settings, GATEWAY)

    ground = _ground(settings)
    public, internal = _edge(settings, GATEWAY, ground), _edge(settings, MODEL, ground)
    nodes = pulumi.Output.concat("target-group:", internal.target_group.arn)
    model = TierPlan(stack, MODEL, model_image, tiers.model, {"engine": tiers.model.engine})
    gateway = TierPlan(
        stack,
        GATEWAY,
        gateway_image,
        tiers.gateway,
        {"nodes": nodes, **_access(settings)},
        _secrets(settings),
    )
    made = {
        MODEL: (_tier(settings, model, ground, internal), internal),
        GATEWAY: (_tier(settings, gateway, ground, public), public),
    }
    made[GATEWAY][0].track_requests(public, tiers.gateway.requests_per_target)

    control = _control(stack, ground.notices, made)
    control_group = ground.firewall.group(CONTROL)
    outputs.export(settings.edge.domain, public, ground.notices, made, control, control_group)


def _access(settings: Settings) -> dict[str, str]:
    """The gateways' settings about who may ask; of where from, they take the balancer's word."""
    access = settings.access
    told: dict[str, str | None] = {
        "auth": "off" if access.open else "on",
        "keys": access.keys_of(settings.stack),
        "jwt_jwks_url": access.jwks_url,
        "jwt_issuer": access.issuer,
        "jwt_audience": access.audience,
        "limits_url": access.limits_url,
        "proxies": ",".join(map(str, settings.network.public_blocks)),
    }
    return {name: value for name, value in told.items() if value is not None}


def _secrets(settings: Settings) -> list[str]:
    named = (settings.access.keys_of(settings.stack), settings.access.limits_url)
    return [reference for reference in named if reference is not None]


def _image(settings: Settings, tier: str) -> Image:
    chosen = settings.tier(tier)
    image = published(settings.stack, chosen.recipe, chosen.channel, chosen.instance_types)
    if problem := volume_problem(tier, chosen.volume_gib, image):
        raise SettingsError(problem, f"Correct Pulumi.{settings.stack}.yaml.")
    return image


def _ground(settings: Settings) -> Ground:
    network = Network(settings.stack, settings.network)
    ports = [HTTP] if settings.edge.certificate_arn is None else [HTTPS, HTTP]
    firewall = Firewall(settings.stack, network.vpc.id, ports, settings.edge.allowed_cidrs)
    notices = Notices(settings.stack)
    NoticeAlarms(settings.stack, notices)
    return Ground(network, firewall, notices)


def _edge(settings: Settings, tier: str, ground: Ground) -> Edge:
    """The gateways' is public, the model nodes' internal."""
    internal = tier == MODEL
    network = ground.network
    plan = EdgePlan(
        stack=settings.stack,
        tier=tier,
        internal=internal,
        certificate_arn=None if internal else settings.edge.certificate_arn,
        idle_timeout_seconds=settings.edge.idle_timeout_seconds,
        deregistration_delay_seconds=settings.tier(tier).deregistration_delay_seconds,
        protected=settings.production,
    )
    subnets = network.private_subnets if internal else network.public_subnets
    group = ground.firewall.group(MODEL_BALANCER if internal else PUBLIC_BALANCER)
    return Edge(plan, network.vpc.id, subnets, group)


def _tier(settings: Settings, plan: TierPlan, ground: Ground, edge: Edge) -> Tier:
    logs = TierLogs(settings.stack, plan.name, settings.log_retention_days)
    TierAlarms(settings.stack, plan.name, edge)
    group = ground.firewall.group(plan.name)
    return Tier(plan, edge, ground.network.private_subnets, group, logs.group.arn, ground)


def _control(stack: str, notices: Notices, made: Mapping[str, tuple[Tier, Edge]]) -> ControlIdentity:
    return ControlIdentity(
        stack,
        notices.queue.arn,
        [tier.group.arn for tier, _ in made.values()],
        [edge.target_group.arn for _, edge in made.values()],
    )
