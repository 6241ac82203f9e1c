"""Settings of a stack, from Pulumi.<stack>.yaml: typed, frozen, and refused when they cannot work.

Nothing here imports pulumi, so that a rehearsal can check settings before it starts anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from fleet.errors import SettingsError
from fleet.stack.instance_types import has_gpu, processor
from fleet.stack.naming import GATEWAY, MODEL, keys_parameter, stack_name_problem

NAMESPACE = "goldenfleet"

InstanceType = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*\.[a-z0-9-]+$")]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Domain = Annotated[str, StringConstraints(pattern=r"^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}$")]
CertificateArn = Annotated[
    str, StringConstraints(pattern=r"^arn:aws[a-z-]*:acm:[a-z0-9-]+:\d{12}:certificate/.+$")
]
SecretReference = Annotated[
    str, StringConstraints(pattern=r"^(ssm:/[A-Za-z0-9_./-]+|secretsmanager:[A-Za-z0-9/_+=.@:-]+)$")
]
HttpsUrl = Annotated[str, StringConstraints(pattern=r"^https://[^/?#@\s]+(/[^#\s]*)?$")]
Count = Annotated[int, Field(ge=0, le=1000)]

GPU_ENGINES = ("vllm", "tgi", "sglang")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


class Network(_Strict):
    cidr: IPv4Network = Field(
        default=IPv4Network("10.0.0.0/16"), description="Addresses of the VPC, from /16 to /19."
    )
    zones: int = Field(default=3, ge=2, le=6, description="Availability zones, the region's first ones.")
    nat: Literal["single", "per-zone"] = Field(
        default="single",
        description="One NAT gateway for all zones, or one each: a zone's failure stays its own.",
    )

    @property
    def public_blocks(self) -> tuple[IPv4Network, ...]:
        """One block a zone for the load balancer, cut from the VPC's first sixteenth."""
        first = next(self.cidr.subnets(prefixlen_diff=4))
        return tuple(first.subnets(prefixlen_diff=4))[: self.zones]

    @property
    def private_blocks(self) -> tuple[IPv4Network, ...]:
        """A sixteenth of the VPC for each zone's nodes."""
        return tuple(self.cidr.subnets(prefixlen_diff=4))[1 : self.zones + 1]

    @model_validator(mode="after")
    def _size(self) -> Self:
        if not 16 <= self.cidr.prefixlen <= 19:
            raise ValueError(
                f"cidr {self.cidr} must be from /16, the largest VPC, to /19, of which a load balancer's "
                "subnet gets the /27 that it needs: write for example 10.0.0.0/16"
            )
        return self


class Edge(_Strict):
    certificate_arn: CertificateArn | None = Field(
        default=None, description="Certificate of this account and region; with it clients use HTTPS only."
    )
    domain: Domain | None = Field(default=None, description="Name that the certificate is for.")
    allowed_cidrs: tuple[IPv4Network, ...] = Field(
        default=(IPv4Network("0.0.0.0/0"),), min_length=1, description="Where clients may come from."
    )
    # Below the 75 s for which servers keep idle connections, or the balancer sends on closed ones: 502.
    idle_timeout_seconds: int = Field(
        default=60, ge=10, le=70, description="How long a connection may be silent, also in a stream."
    )

    @model_validator(mode="after")
    def _named_certificate(self) -> Self:
        if (self.certificate_arn is None) != (self.domain is None):
            absent = "domain" if self.domain is None else "certificateArn"
            raise ValueError(f"{absent} is missing: HTTPS needs certificateArn and the domain that it is for")
        return self


class Access(_Strict):
    """Who may ask the gateways. By default keys from the stack's own parameter: see docs/auth.md."""

    open: bool = Field(default=False, description="Let everybody in who can reach the load balancer.")
    keys: SecretReference | None = Field(
        default=None,
        description="Where the keys document is: ssm:/name or secretsmanager:name; by default "
        "ssm:/goldenfleet/<stack>/keys, unless there is an issuer of tokens.",
    )
    jwks_url: HttpsUrl | None = Field(default=None, description="URL of the key set of the tokens' issuer.")
    issuer: str | None = Field(default=None, min_length=1, description="What a token's `iss` must be.")
    audience: str | None = Field(default=None, min_length=1, description="What a token's `aud` must be.")
    limits_url: SecretReference | None = Field(
        default=None, description="Where the URL of the Redis is that limits are shared through."
    )

    def keys_of(self, stack: str) -> str | None:
        if self.keys is None and not self.open and self.jwks_url is None:
            return f"ssm:{keys_parameter(stack)}"
        return self.keys

    @model_validator(mode="after")
    def _possible(self) -> Self:
        token = (self.jwks_url, self.issuer, self.audience)
        if any(token) and not all(token):
            raise ValueError("jwksUrl, issuer and audience belong together: set all of them or none")
        if self.open and (self.keys or any(token)):
            raise ValueError("open lets everybody in, and keys or tokens are set: remove one of them")
        return self


class Tier(_Strict):
    recipe: Slug = Field(description="Recipe of the image that nodes boot.")
    channel: Literal["dev", "stage", "prod"] = Field(description="Channel whose image `up` pins.")
    instance_types: tuple[InstanceType, ...] = Field(
        min_length=1,
        max_length=40,
        description="Types in the order in which on-demand prefers them; the more, the deeper spot is.",
    )
    min: Count = Field(description="Fewest nodes.")
    desired: Count = Field(description="Nodes to begin with; scaling changes it from then on.")
    max: Annotated[int, Field(ge=1, le=1000)] = Field(description="Most nodes.")
    on_demand_base: Count = Field(description="Nodes that are on demand before any is spot.")
    on_demand_percent: int = Field(
        default=0, ge=0, le=100, description="Share of on-demand nodes above the base."
    )
    volume_gib: int = Field(default=30, ge=8, le=16384, description="Size of the root volume.")
    volume_mibps: int = Field(
        default=125,
        ge=125,
        le=1000,
        description="Least throughput of the root volume; an image whose weights lie on it may ask for more.",
    )
    # A spot notice gives 120 s, and the group deregisters before it calls the hook.
    deregistration_delay_seconds: int = Field(
        default=90, ge=0, le=90, description="How long requests in flight may go on after deregistration."
    )
    boot_seconds: int = Field(
        default=300, ge=30, le=7200, description="How long a new node may be unhealthy before it is replaced."
    )
    warmup_seconds: int = Field(
        default=120, ge=0, le=3600, description="How long a new node does not count in scaling metrics."
    )
    cpu_target_percent: int = Field(default=70, ge=10, le=95, description="Average CPU that scaling aims at.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if problems := [*_capacity_problems(self), *_type_problems(self.instance_types)]:
            raise ValueError("; ".join(problems))
        return self


class GatewayTier(Tier):
    requests_per_target: int = Field(
        default=3000, ge=1, description="Requests a minute and gateway that scaling aims at."
    )


class ModelTier(Tier):
    engine: Literal["embedded", "llama-server", "sglang", "tgi", "vllm"] = Field(
        description="Model server that the image starts."
    )

    @model_validator(mode="after")
    def _engine_fits(self) -> Self:
        without = [t for t in self.instance_types if not has_gpu(t)]
        if self.engine in GPU_ENGINES and without:
            raise ValueError(
                f"engine {self.engine} needs GPUs, and instanceTypes has {', '.join(without)} without: "
                "remove them, or set engine to llama-server or embedded"
            )
        return self


class Tiers(_Strict):
    gateway: GatewayTier = Field(description="CPU nodes that clients talk to.")
    model: ModelTier = Field(description="Nodes that generate.")


class Settings(_Strict):
    stack: str = Field(description="Name of the stack, from the file's name.")
    production: bool = Field(
        default=False,
        description="Demand HTTPS and on-demand nodes, and protect load balancers from deletion.",
    )
    network: Network = Field(default=Network(), description="The VPC.")
    edge: Edge = Field(default=Edge(), description="The public load balancer.")
    access: Access = Field(default=Access(), description="Who may ask, and how much.")
    tiers: Tiers = Field(description="The gateway and model tiers.")
    log_retention_days: Literal[1, 3, 5, 7, 14, 30, 60, 90, 180, 365] = Field(
        default=14, description="How long CloudWatch keeps logs."
    )

    @classmethod
    def from_file(cls, path: Path, overrides: Mapping[str, str] | None = None) -> Settings:
        """Settings in `path`, a Pulumi.<stack>.yaml; `overrides` replace whole keys, as JSON text."""
        stack = path.stem.removeprefix("Pulumi.")
        return cls.from_config(stack, {**_read_config(path), **(overrides or {})})

    @classmethod
    def from_config(cls, stack: str, config: Mapping[str, object]) -> Settings:
        """Settings from a stack's configuration; other namespaces are passed over.

        Raises SettingsError, which names every setting that is wrong.
        """
        prefix = f"{NAMESPACE}:"
        own = {key.removeprefix(prefix): _decoded(v) for key, v in config.items() if key.startswith(prefix)}
        if "stack" in own:
            raise SettingsError(
                f"{prefix}stack cannot be set", "The stack's name comes from the file's name."
            )
        try:
            return cls.model_validate({**own, "stack": stack})
        except ValidationError as exc:
            raise SettingsError(
                f"stack {stack!r} has settings that cannot be used:\n{_listed(exc)}",
                f"Correct Pulumi.{stack}.yaml or the option that overrides it.",
            ) from exc

    def tier(self, name: str) -> Tier:
        """Raises KeyError for a name that is no tier's."""
        return dict(_named(self.tiers))[name]

    def with_desired(self, desired: Mapping[str, int]) -> dict[str, str]:
        """Overrides that start tiers at other sizes, keeping their room to grow.

        `desired` is tier -> nodes; the result goes into `from_file` and to `pulumi up -c`.
        """
        tiers = self.tiers.model_dump(mode="json", by_alias=True)
        for name, nodes in desired.items():
            tier = tiers[name]
            room = tier["max"] - tier["desired"]
            tier.update(min=min(tier["min"], nodes), desired=nodes, max=max(1, nodes + room))
        return {f"{NAMESPACE}:tiers": json.dumps(tiers)}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if problems := [*_stack_problems(self), *_production_problems(self), *_address_problems(self)]:
            raise ValueError("; ".join(problems))
        return self


def load_settings(project: Path, stack: str, overrides: Mapping[str, str] | None = None) -> Settings:
    """Settings of `stack` of the Pulumi project in the folder `project`. Raises SettingsError."""
    if problem := stack_name_problem(stack):
        raise SettingsError(problem, "Choose a shorter or simpler name.")
    return Settings.from_file(project / f"Pulumi.{stack}.yaml", overrides)


def _read_config(path: Path) -> dict[str, object]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise SettingsError(
            f"there is no {path}", "Name one of the stacks that have a Pulumi.<stack>.yaml."
        ) from exc
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise SettingsError(f"{path} cannot be read: {exc}", "Correct the file.") from exc
    config = document.get("config") if isinstance(document, dict) else None
    if not isinstance(config, dict):
        raise SettingsError(
            f"{path} has no `config:` mapping", f"Put {NAMESPACE}:tiers and the rest below `config:`."
        )
    return {str(key): value for key, value in config.items()}


def _decoded(value: object) -> object:
    """Pulumi hands structured values to programs as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _listed(error: ValidationError) -> str:
    return "\n".join(f"  {_where(item['loc'])}{_complaint(item)}" for item in error.errors(include_url=False))


def _where(location: tuple[int | str, ...]) -> str:
    return f"{NAMESPACE}:{'.'.join(map(str, location))}: " if location else ""


def _complaint(item: Any) -> str:
    match item["type"]:
        case "extra_forbidden":
            return "there is no such setting"
        case "missing":
            return "is missing"
        case "value_error":
            return str(item["ctx"]["error"])
        case _:
            return f"{item['msg']}, not {item['input']!r}"


def _capacity_problems(tier: Tier) -> Iterator[str]:
    if tier.desired < tier.min:
        yield (
            f"desired {tier.desired} is below min {tier.min}: "
            f"raise desired to {tier.min} or lower min to {tier.desired}"
        )
    if tier.desired > tier.max:
        yield (
            f"desired {tier.desired} is above max {tier.max}: "
            f"lower desired to {tier.max} or raise max to {tier.desired}"
        )
    if tier.min > tier.max:
        yield f"min {tier.min} is above max {tier.max}: lower min to {tier.max} or raise max to {tier.min}"
    if tier.on_demand_base > tier.max:
        yield (
            f"onDemandBase {tier.on_demand_base} is above max {tier.max}: "
            f"lower onDemandBase to {tier.max} or raise max to {tier.on_demand_base}"
        )


def _type_problems(types: tuple[str, ...]) -> Iterator[str]:
    if repeated := sorted({t for t in types if types.count(t) > 1}):
        yield f"instanceTypes names {', '.join(repeated)} more than once: remove the copies"
    if len({processor(t) for t in types}) > 1:
        listed = ", ".join(f"{t} is {processor(t)}" for t in types)
        yield f"instanceTypes mixes processors, and an image has one ({listed}): keep one kind"


def _stack_problems(settings: Settings) -> Iterator[str]:
    if problem := stack_name_problem(settings.stack):
        yield problem


def _production_problems(settings: Settings) -> Iterator[str]:
    if not settings.production:
        return
    if settings.edge.certificate_arn is None:
        yield f"{NAMESPACE}:edge.certificateArn is missing: production serves HTTPS only"
    for name, tier in _named(settings.tiers):
        if tier.on_demand_base < 1:
            yield (
                f"{NAMESPACE}:tiers.{name}.onDemandBase is 0: raise it to 1, for production keeps a node "
                "that spot cannot take"
            )


def _address_problems(settings: Settings) -> Iterator[str]:
    # AWS keeps five addresses of every subnet; a spot drought in the other zones puts every node into one.
    room = settings.network.private_blocks[0].num_addresses - 5
    nodes = sum(tier.max for _, tier in _named(settings.tiers))
    if nodes > room:
        yield (
            f"the tiers' max add up to {nodes} nodes, and a zone's subnet of {NAMESPACE}:network.cidr "
            f"{settings.network.cidr} holds {room}: lower max by {nodes - room} in all or widen the network"
        )


def _named(tiers: Tiers) -> tuple[tuple[str, Tier], ...]:
    return (GATEWAY, tiers.gateway), (MODEL, tiers.model)
