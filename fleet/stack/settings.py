"""Settings of a stack, from Pulumi.<stack>.yaml: typed, frozen, and refused when they cannot work.

Nothing here imports pulumi, so that a rehearsal can check settings before it starts anything. Each group has
a file of its own, settings_*.py; what must hold across groups is checked here.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from fleet.errors import SettingsError
from fleet.stack.naming import GATEWAY, room_for_tier_name, stack_name_problem
from fleet.stack.settings_access import Access
from fleet.stack.settings_alarms import Alarms
from fleet.stack.settings_base import NAMESPACE, Group, when
from fleet.stack.settings_edge import Edge
from fleet.stack.settings_files import listed, own_values, read_config
from fleet.stack.settings_network import INTERFACE_ENDPOINTS, Network, Room
from fleet.stack.settings_provider import REGION, provider_problems
from fleet.stack.settings_security import Security
from fleet.stack.settings_telemetry import Telemetry
from fleet.stack.settings_tier import GatewayTier, ModelTier, Tier

__all__ = [
    "NAMESPACE",
    "Access",
    "Alarms",
    "Edge",
    "GatewayTier",
    "ModelTier",
    "Network",
    "Security",
    "Settings",
    "Telemetry",
    "Tier",
    "load_settings",
]


MOST_TIERS = 24
"""A parameter of SSM holds 4096 characters ("PutParameter", standard tier). In the gateways' one, the ARN of
a model tier's target group takes up to 132, and the rest needs some hundreds.
"""


class Settings(Group):
    stack: str = Field(
        description="Name of the stack, from the file's name.",
        json_schema_extra=when("Never below config: rename the file, and all that is made is another's."),
    )
    production: bool = Field(
        default=False,
        # The policy pack reads Pulumi's text of it: to settings and policies, "yes" must mean the same.
        strict=True,
        description="Demand what production needs, and protect load balancers from deletion.",
        json_schema_extra=when("In every stack that clients rely on."),
    )
    network: Network = Field(
        default=Network(),
        description="The VPC.",
        json_schema_extra=when("Where its addresses must fit others, or it exists already."),
    )
    edge: Edge = Field(
        default=Edge(),
        description="The public load balancer.",
        json_schema_extra=when("In every stack but a rehearsal: it has the certificate."),
    )
    access: Access = Field(
        default=Access(),
        description="Who may ask, and how much.",
        json_schema_extra=when("Where keys alone are not enough, or not wanted."),
    )
    tiers: tuple[Tier, ...] = Field(
        description="One tier of gateways, and one or more of model nodes.",
        json_schema_extra=when("Always. Requests that name no model go to the first model tier."),
    )
    alarms: Alarms = Field(
        default=Alarms(),
        description="What is an alarm, and who hears of it.",
        json_schema_extra=when("In production: give a destination."),
    )
    security: Security = Field(
        default=Security(),
        description="Whose key encrypts, and what is noted down.",
        json_schema_extra=when(
            "Where auditors ask; production has logs of who asked and who talked to whom."
        ),
    )
    telemetry: Telemetry = Field(
        default=Telemetry(),
        description="What nodes tell beyond their metrics: logs of requests, and traces.",
        json_schema_extra=when("Where requests are to be followed through the fleet."),
    )
    log_retention_days: Literal[1, 3, 5, 7, 14, 30, 60, 90, 180, 365] = Field(
        default=14,
        description="How long CloudWatch keeps logs, in days.",
        json_schema_extra=when("Where you must look further back, or may not."),
    )

    @classmethod
    def from_file(cls, path: Path, overrides: Mapping[str, str] | None = None) -> Settings:
        """Settings in `path`, a Pulumi.<stack>.yaml; `overrides` replace whole keys, as JSON text."""
        stack = path.stem.removeprefix("Pulumi.")
        return cls.from_config(stack, {**read_config(path), **(overrides or {})})

    @classmethod
    def from_config(cls, stack: str, config: Mapping[str, object]) -> Settings:
        """Settings from a stack's configuration; of other namespaces only pulumi-aws's counts.

        Raises SettingsError, which names every setting that is wrong.
        """
        own = own_values(config)
        elsewhere = [f"  {it}" for it in provider_problems(config)]
        try:
            settings = cls.model_validate({**own, "stack": stack})
        except ValidationError as exc:
            raise _refused(stack, "\n".join([listed(exc, own), *elsewhere])) from exc
        elsewhere += [f"  {problem}" for problem in _regional_problems(settings, config.get(REGION))]
        if elsewhere:
            raise _refused(stack, "\n".join(elsewhere))
        return settings

    @property
    def gateway(self) -> GatewayTier:
        """The one tier that clients talk to."""
        return next(tier for tier in self.tiers if isinstance(tier, GatewayTier))

    @property
    def models(self) -> tuple[ModelTier, ...]:
        """The tiers that generate: at least one."""
        return tuple(tier for tier in self.tiers if isinstance(tier, ModelTier))

    @property
    def most_nodes(self) -> int:
        """Nodes of all tiers at their largest."""
        return sum(math.ceil(tier.capacity.max / tier.purchase.lightest) for tier in self.tiers)

    @property
    def room(self) -> Room:
        """A balancer needs eight addresses free in each of its subnets ("Application Load Balancers")."""
        endpoints = INTERFACE_ENDPOINTS if self.network.endpoints else 0
        return Room(self.most_nodes, 8 * len(self.models) + endpoints + 1)

    @property
    def access_logs(self) -> bool:
        """Whether load balancers note down each request."""
        asked = self.security.access_logs
        return self.production if asked is None else asked

    @property
    def flow_logs(self) -> bool:
        """Whether the stack notes down its VPC's connections; those of an existing one are its owner's."""
        asked = self.security.flow_logs
        return self.network.existing is None and (self.production if asked is None else asked)

    def tier(self, name: str) -> GatewayTier | ModelTier:
        """Raises KeyError for a name that is no tier's."""
        return {tier.name: tier for tier in self.tiers}[name]

    def with_desired(self, desired: Mapping[str, int]) -> dict[str, str]:
        """Overrides that start tiers at other sizes, keeping their room to grow.

        `desired` is tier -> nodes; the result goes into `from_file` and to `pulumi up -c`.
        """
        tiers = [tier.model_dump(mode="json", by_alias=True) for tier in self.tiers]
        for tier in tiers:
            if tier["name"] in desired:
                _resize(tier["capacity"], desired[tier["name"]])
        return {f"{NAMESPACE}:tiers": json.dumps(tiers)}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = [*_name_problems(self), *_role_problems(self)]
        if not problems:
            problems = [*_production_problems(self), *_network_problems(self)]
        if problems:
            raise ValueError("; ".join(problems))
        return self


def load_settings(project: Path, stack: str, overrides: Mapping[str, str] | None = None) -> Settings:
    """Settings of `stack` of the Pulumi project in the folder `project`. Raises SettingsError."""
    if problem := stack_name_problem(stack):
        raise SettingsError(problem, "Choose a shorter or simpler name.")
    return Settings.from_file(project / f"Pulumi.{stack}.yaml", overrides)


def _refused(stack: str, lines: str) -> SettingsError:
    return SettingsError(
        f"stack {stack!r} has settings that cannot be used:\n{lines}",
        f"Correct Pulumi.{stack}.yaml or the option that overrides it.",
    )


def _regional_problems(settings: Settings, region: object) -> Iterator[str]:
    """AWS takes ARNs of the stack's own region only, and would say so when half of it is made. Where none is
    named the environment's counts, which is another for the next person.
    """
    if settings.production and not region:
        yield f"{REGION} is missing: in production the stack's file names it, not the environment"
    named = {
        "edge.certificateArn": settings.edge.certificate_arn,
        "edge.waf": settings.edge.waf,
        "security.key": settings.security.key,
        "alarms.topicArn": settings.alarms.topic_arn,
    }
    for path, arn in named.items():
        if region and arn is not None and arn.startswith("arn:"):
            there = arn.split(":")[3]
            if there != region:
                yield f"{NAMESPACE}:{path} is of {there}, and aws:region is {region}: name one of {region}"


def _resize(capacity: dict[str, int], nodes: int) -> None:
    room = capacity["max"] - capacity["desired"]
    capacity.update(min=min(capacity["min"], nodes), desired=nodes, max=max(1, nodes + room))


def _name_problems(settings: Settings) -> Iterator[str]:
    if problem := stack_name_problem(settings.stack):
        yield problem
        return
    room = room_for_tier_name(settings.stack)
    names = Counter(tier.name for tier in settings.tiers)
    for name, count in names.items():
        if count > 1:
            yield f"{NAMESPACE}:tiers has {count} tiers with the name {name}: give each its own"
        if len(name) > room:
            yield (
                f"{NAMESPACE}:tiers.{name}.name has {len(name)} characters, and stack {settings.stack} "
                f"leaves {room}: shorten one of the two by {len(name) - room}"
            )


def _role_problems(settings: Settings) -> Iterator[str]:
    gateways = sum(tier.role == GATEWAY for tier in settings.tiers)
    if gateways != 1:
        yield f"{NAMESPACE}:tiers has {gateways} tiers with role gateway: it must have exactly 1"
    if not settings.models:
        yield f"{NAMESPACE}:tiers has no tier with role model: add one"
    if len(settings.tiers) > MOST_TIERS:
        yield (
            f"{NAMESPACE}:tiers has {len(settings.tiers)} tiers, and gateways can be told of {MOST_TIERS}: "
            f"remove {len(settings.tiers) - MOST_TIERS}, or make another stack"
        )


def _production_problems(settings: Settings) -> Iterator[str]:
    if not settings.production:
        return
    if settings.edge.certificate_arn is None:
        yield f"{NAMESPACE}:edge.certificateArn is missing: production serves HTTPS only"
    if settings.access.open:
        yield f"{NAMESPACE}:access.open is true: remove it, for production asks for a key or a token"
    network = settings.network
    if network.existing is None and network.nat == "single":
        yield (
            f"{NAMESPACE}:network.nat is single: set it to per-zone, for in production a zone's failure "
            "stays its own, or to none with endpoints"
        )
    for tier in settings.tiers:
        yield from _production_tier_problems(tier)


def _production_tier_problems(tier: GatewayTier | ModelTier) -> Iterator[str]:
    where = f"{NAMESPACE}:tiers.{tier.name}"
    if tier.purchase.on_demand_base < 1:
        yield (
            f"{where}.purchase.onDemandBase is 0: raise it to 1, for production keeps a node that spot "
            "cannot take"
        )
    if tier.capacity.min < 2:
        yield (
            f"{where}.capacity.min is {tier.capacity.min}: raise it to 2, for one node is none when it fails"
        )


def _network_problems(settings: Settings) -> Iterator[str]:
    network = settings.network
    outside = {
        "access.jwksUrl": settings.access.jwks_url,
        "telemetry.tracesUrl": settings.telemetry.traces_url,
    }
    for name, url in outside.items():
        if url is not None and not network.leads_out:
            yield (
                f"{NAMESPACE}:{name} is set, and {NAMESPACE}:network.nat is none: no node could reach it; "
                f"set nat to single or per-zone, or remove {name}"
            )
    if network.existing is not None:
        return  # its subnets are looked at by `up`
    lacking = settings.room.lacking_in(network.private_blocks[0])
    if lacking > 0:
        yield (
            f"the tiers' capacity.max add up to {settings.room}, and a zone's subnet of "
            f"{NAMESPACE}:network.cidr {network.cidr} holds {settings.room.addresses - lacking} addresses: "
            f"lower max by {lacking} in all or widen the network"
        )
