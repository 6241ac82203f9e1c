"""The Pulumi program: settings in, a fleet out."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env

from fleet.errors import GoldenfleetError
from fleet.stack import images, outputs, tags
from fleet.stack.edge import Edge, EdgePlan
from fleet.stack.firewall import CONTROL, HTTP, HTTPS, MODEL_BALANCER, PUBLIC_BALANCER, Firewall
from fleet.stack.identity import ControlIdentity
from fleet.stack.naming import GATEWAY, MODEL
from fleet.stack.network import Network
from fleet.stack.notices import Notices
from fleet.stack.observability import NoticeAlarms, TierAlarms, TierLogs
from fleet.stack.settings import Settings
from fleet.stack.settings import Tier as TierSettings
from fleet.stack.tier import Tier, TierPlan


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
    found = {name: _image(stack, tier) for name, tier in ((GATEWAY, tiers.gateway), (MODEL, tiers.model))}

    network = Network(stack, settings.network)
    ports = [HTTP] if settings.edge.certificate_arn is None else [HTTPS, HTTP]
    firewall = Firewall(stack, network.vpc.id, ports, settings.edge.allowed_cidrs)
    notices = Notices(stack)
    NoticeAlarms(stack, notices)
    before_nodes = [network, firewall, notices]

    public = Edge(
        _edge_plan(settings, GATEWAY, tiers.gateway),
        network.vpc.id,
        network.public_subnets,
        firewall.group(PUBLIC_BALANCER),
    )
    internal = Edge(
        _edge_plan(settings, MODEL, tiers.model),
        network.vpc.id,
        network.private_subnets,
        firewall.group(MODEL_BALANCER),
    )
    nodes = pulumi.Output.concat("target-group:", internal.target_group.arn)
    plans = (
        (TierPlan(stack, MODEL, found[MODEL], tiers.model, {"engine": tiers.model.engine}), internal),
        (TierPlan(stack, GATEWAY, found[GATEWAY], tiers.gateway, {"nodes": nodes}), public),
    )
    made: dict[str, tuple[Tier, Edge]] = {}
    for plan, edge in plans:
        logs = TierLogs(stack, plan.name, settings.log_retention_days)
        TierAlarms(stack, plan.name, edge)
        group = firewall.group(plan.name)
        tier = Tier(plan, edge, network.private_subnets, group, logs.group.arn, before_nodes)
        made[plan.name] = tier, edge
    made[GATEWAY][0].track_requests(public, tiers.gateway.requests_per_target)

    control = ControlIdentity(
        stack,
        notices.queue.arn,
        [tier.group.arn for tier, _ in made.values()],
        [edge.target_group.arn for _, edge in made.values()],
    )
    outputs.export(settings.edge.domain, public, notices, made, control, firewall.group(CONTROL))


def _image(stack: str, tier: TierSettings) -> images.Image:
    return images.published(stack, tier.recipe, tier.channel, tier.instance_types)


def _edge_plan(settings: Settings, tier: str, tier_settings: TierSettings) -> EdgePlan:
    internal = tier == MODEL
    return EdgePlan(
        stack=settings.stack,
        tier=tier,
        internal=internal,
        certificate_arn=None if internal else settings.edge.certificate_arn,
        idle_timeout_seconds=settings.edge.idle_timeout_seconds,
        deregistration_delay_seconds=tier_settings.deregistration_delay_seconds,
        protected=settings.production,
    )
