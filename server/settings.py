"""Settings of one server process: defaults, then the tier's config, then GOLDENFLEET_* of the environment."""

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from server.auth.secrets import REFERENCE
from server.errors import SettingsError

ENV_PREFIX = "GOLDENFLEET_"
_REFERENCES = frozenset({"keys", "limits_url"})
_IMDS = "http://169.254.169.254"

# Settings whose value is not repeated in an error: people put keys where they do not belong.
_QUIET = frozenset({"traces_url", "traces_headers"})

Port = Annotated[int, Field(ge=0, le=65535)]
Networks = tuple[IPv4Network | IPv6Network, ...]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class Settings(BaseModel):
    """Every field is a key of the tier's config and, in capitals behind GOLDENFLEET_, of the environment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["gateway", "model"] = Field(
        description="What this process is to the fleet; it comes from user data."
    )
    tier: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$",
        description="Name of the tier that this process belongs to, from user data; by default the role's.",
    )
    stack: str = Field(
        pattern=r"^[a-z][a-z0-9-]{0,31}$", description="The Pulumi stack that this process belongs to."
    )
    address: str = Field(default="127.0.0.1", description="IP address on which every port is bound.")
    port: Port = Field(default=8080, description="Serving port; 0 lets the system choose.")
    admin_port: Port = Field(default=9090, description="Port of metrics, state and drain; never public.")
    engine: Literal["embedded", "vllm", "sglang", "tgi", "llama-server"] = Field(
        default="embedded",
        description="The model server of a model node. Only `embedded` is started by us; others are units of "
        "the image.",
    )
    engine_model: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}$",
        description="Name by which clients ask for the embedded engine's model; by default its own.",
    )
    engine_port: Port = Field(default=8000, description="Port on which the embedded engine is started.")
    engine_url: str | None = Field(
        default=None,
        pattern=r"^http://[^/?#@]+$",
        description="Base URL of the engine's OpenAI API; by default engine_port on address.",
    )
    engine_start_seconds: Seconds = Field(
        default=600.0, description="How long the engine may take to answer its first token."
    )
    engine_probe_seconds: Seconds = Field(
        default=5.0, description="Interval between one-token probes of a ready engine."
    )
    engine_probe_timeout_seconds: Seconds = Field(
        default=30.0, description="How long a probe may take; a busy engine queues it behind its work."
    )
    nodes: str | None = Field(
        default=None,
        pattern=r"^(static:\S+|dns:\S+|target-group:arn:\S+)$",
        description="Where a gateway finds model nodes: static:host:port,host:port, dns:host:port or "
        "target-group:ARN. Several of them, with commas between, are tiers that serve different models.",
    )
    upstream_engine: Literal["embedded", "vllm", "sglang", "tgi", "llama-server"] | None = Field(
        default=None,
        description="What a gateway's nodes are when they are engines themselves; our own nodes say it.",
    )
    nodes_poll_seconds: Seconds = Field(default=2.0, description="Interval between looks for model nodes.")
    affinity: Literal["off", "prefix"] = Field(
        default="off",
        description="prefix: requests whose prompts begin alike go to one node, for its KV cache, while its "
        "load allows.",
    )
    affinity_characters: int = Field(
        default=1024,
        ge=16,
        le=1_000_000,
        description="How much of a prompt's beginning is compared; a shorter prompt goes anywhere.",
    )
    auth: Literal["on", "off"] = Field(
        default="on", description="Whether a gateway asks for a key; off lets everybody in."
    )
    keys: str | None = Field(
        default=None,
        pattern=REFERENCE,
        description="Where the keys document is: file:/path, ssm:/name or secretsmanager:name.",
    )
    keys_poll_seconds: Seconds = Field(
        default=30.0, description="Interval between looks for changed keys in SSM or Secrets Manager."
    )
    jwt_jwks_url: str | None = Field(
        default=None,
        pattern=r"^(https://[^/?#@\s]+|http://(127\.[0-9.]+|localhost)(:[0-9]+)?)(/[^#\s]*)?$",
        description="URL of the key set of the tokens' issuer; https, or http on the loopback.",
    )
    jwt_issuer: str | None = Field(default=None, min_length=1, description="What a token's `iss` must be.")
    jwt_audience: str | None = Field(
        default=None, min_length=1, description="What a token's `aud` must be, or hold."
    )
    jwt_tenant_claim: str = Field(
        default="tenant", min_length=1, description="The claim that names a token's tenant."
    )
    jwt_leeway_seconds: float = Field(
        default=30.0, ge=0, le=60, description="How far the issuer's clock may differ from ours."
    )
    auth_failures_per_minute: int = Field(
        default=60, ge=1, description="Bad keys that a peer may send a minute before it is refused unread."
    )
    proxies: str = Field(
        default="",
        description="Networks, with commas, whose X-Forwarded-For tells a peer's address: the balancer's.",
    )
    requests_per_minute: int | None = Field(
        default=None, ge=1, description="Limit of a key that has none of its own."
    )
    tokens_per_minute: int | None = Field(
        default=None, ge=1, description="Limit of a key that has none of its own; prompts count too."
    )
    concurrency: int | None = Field(
        default=None, ge=1, description="Requests at a time of a key that has no such limit of its own."
    )
    limits_url: str | None = Field(
        default=None,
        pattern=r"^rediss?://[^@\s]+$|" + REFERENCE,
        description="Redis for limits that gateways share: a URL without a password, or a reference, as "
        "for keys, to one with it.",
    )
    first_tokens_floor: int = Field(
        default=64, ge=1, description="Requests that may always wait for their first token at once."
    )
    first_tokens_initial: int = Field(
        default=256, ge=1, description="The same before anything is learned of the nodes."
    )
    first_tokens_ceiling: int = Field(
        default=4096, ge=1, description="The same at most, however fast first tokens come."
    )
    queue_size: int = Field(
        default=1024, ge=0, description="Requests that wait for a place; beyond, the lowest class is shed."
    )
    # A stream that waits says nothing yet, so it can still be refused; a byte is due within 15 s.
    queue_seconds: Seconds = Field(
        default=10.0, description="How long a request waits for a place; its own deadline may be sooner."
    )
    region: str | None = Field(default=None, description="AWS region; by default the AWS environment's.")
    imds_endpoint: str | None = Field(
        default=None,
        pattern=r"^(off|http://[^/?#@]+)$",
        description="Base URL of the instance metadata service, or off; by default "
        "AWS_EC2_METADATA_SERVICE_ENDPOINT, else http://169.254.169.254.",
    )
    imds_poll_seconds: Seconds = Field(default=2.0, description="Interval between looks for notices.")
    lifecycle_drain_seconds: Seconds = Field(
        default=110.0, description="Time to drain after a notice that names no deadline."
    )
    shutdown_grace_seconds: Seconds = Field(
        default=2.0, description="How long requests may still run after SIGTERM before they are cut."
    )
    request_deadline_seconds: Seconds = Field(
        default=600.0, description="Longest life of a request, attempts and waiting included."
    )
    first_byte_seconds: Seconds = Field(
        default=60.0, description="The most that a stream's first token may take; less is learned."
    )
    silence_seconds: Seconds = Field(
        default=60.0, description="The most from one token of a stream to the next; less is learned."
    )
    stall_seconds: Seconds = Field(
        default=5.0,
        description="The least that a node which answers its health check gets for a token.",
    )
    suspect_seconds: Seconds = Field(
        default=2.0, description="After so much silence a node is asked whether it lives; less is learned."
    )
    probe_seconds: Seconds = Field(default=1.0, description="How long a node may take to answer that.")
    connect_seconds: Seconds = Field(
        default=1.0, description="How long a TCP connect to an upstream may take."
    )
    heartbeat_seconds: Seconds = Field(
        default=15.0, description="A stream with nothing to say sends an SSE comment this often."
    )
    keep_alive_seconds: Seconds = Field(
        default=75.0,
        description="How long a connection may be idle between requests; longer than a load balancer's idle "
        "timeout, or it sends on a closed one and answers 502.",
    )
    access_log: Literal["off", "troubled", "all"] = Field(
        default="troubled",
        description="A JSON line per request at its end: for none, for those that failed or took more than "
        "one attempt, or for all.",
    )
    traces_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^/?#@\s]+(/[^?#@\s]*)?$",
        description="Base URL of an OTLP/HTTP receiver of traces, without /v1/traces; none by default.",
    )
    traces_headers: str | None = Field(
        default=None,
        pattern=REFERENCE,
        description="Where the receiver's headers are kept, as name=value,name=value: file:PATH, ssm:NAME or "
        "secretsmanager:NAME; by default the environment's OTEL_EXPORTER_OTLP_HEADERS.",
    )
    traces_share: float = Field(
        default=1.0, ge=0, le=1, description="Share of requests that are traced, where there is a receiver."
    )
    trace_content: bool = Field(
        default=False, description="Whether traces hold prompts and answers. Keys are never in them."
    )
    scaling_metric: Literal["off", "on"] = Field(
        default="off",
        description="Whether this process publishes its requests in flight to CloudWatch, for scaling.",
    )
    scaling_metric_seconds: Seconds = Field(
        default=60.0,
        description="Interval between those; below 60 the metric is of high resolution and costs more.",
    )
    scaling_group: str | None = Field(
        default=None,
        pattern=r"^[\x21-\x7e]{1,255}$",
        description="Auto Scaling group that the metric also names as a dimension.",
    )
    node_metrics: Literal["off", "on"] = Field(
        default="off",
        description="Whether this process publishes to CloudWatch what dashboards and alarms need of it.",
    )
    max_attempts: int = Field(default=3, ge=1, le=10, description="Attempts per request, the first included.")
    retry_budget: float = Field(
        default=0.2, ge=0, le=1, description="Retries allowed, as a share of recent requests."
    )
    retry_budget_minimum: int = Field(
        default=3, ge=0, le=1000, description="Retries allowed however few requests there are."
    )
    max_connections: int = Field(
        default=20_000,
        ge=1,
        le=1_000_000,
        description="Client connections at a time; others get 503. A stream takes two file descriptors.",
    )
    max_body_bytes: int = Field(
        default=8 * 1024 * 1024, ge=1024, le=256 * 1024 * 1024, description="Largest request body."
    )
    max_response_bytes: int = Field(
        default=64 * 1024 * 1024, ge=1024, description="Largest response body that is held in memory."
    )

    @field_validator("proxies")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        networks_of(value)
        return value

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> Self:
        if not self.first_tokens_floor <= self.first_tokens_initial <= self.first_tokens_ceiling:
            raise ValueError(
                "setting first_tokens_initial: it must lie from first_tokens_floor to first_tokens_ceiling"
            )
        return self

    @model_validator(mode="after")
    def _gateway_has_nodes(self) -> Self:
        if self.role == "gateway" and self.nodes is None:
            raise ValueError(
                "setting nodes: a gateway needs it; set static:host:port, dns:host:port or target-group:ARN"
            )
        return self

    @model_validator(mode="after")
    def _gateway_knows_who_asks(self) -> Self:
        tokens = [self.jwt_jwks_url, self.jwt_issuer, self.jwt_audience]
        if any(tokens) and not all(tokens):
            raise ValueError("setting jwt_jwks_url: it, jwt_issuer and jwt_audience belong together")
        if self.auth == "off" and (self.keys or any(tokens)):
            raise ValueError("setting auth: it is off, and keys or tokens are configured; remove one of them")
        if self.role == "gateway" and self.auth == "on" and not self.keys and not all(tokens):
            raise ValueError(
                "setting keys: a gateway needs it, or jwt_jwks_url; set one, or auth to off to let all in"
            )
        return self

    @property
    def trusted_proxies(self) -> Networks:
        return networks_of(self.proxies)

    @property
    def engine_base(self) -> str:
        """Base URL of the engine's OpenAI API."""
        return self.engine_url or f"http://{self.address}:{self.engine_port}"


def networks_of(text: str) -> Networks:
    """Raises ValueError."""
    return tuple(ip_network(item.strip()) for item in text.split(",") if item.strip())


def load_settings(
    *,
    role: str,
    stack: str,
    tier_config: Mapping[str, object],
    environ: Mapping[str, str],
    tier: str | None = None,
) -> Settings:
    """Merge the sources; raises SettingsError whose one line names the first bad setting."""
    for name in ("role", "tier", "stack"):
        if name in tier_config:
            raise SettingsError(f"setting {name}: the tier's config cannot set it; it comes from user data")
    merged: dict[str, object] = {**_from_aws(environ), **tier_config, **_from_env(environ)}
    try:
        return Settings.model_validate({**merged, "role": role, "tier": tier or role, "stack": stack})
    except ValidationError as exc:
        raise SettingsError(_first_line(exc)) from exc


def early_settings(environ: Mapping[str, str]) -> tuple[str | None, str]:
    """Region, if the environment names one, and metadata endpoint: what reading the tier's config takes."""
    known = {**_from_aws(environ), **_from_env(environ)}
    return known.get("region"), known["imds_endpoint"]


def _from_env(environ: Mapping[str, str]) -> dict[str, str]:
    values = {
        name.removeprefix(ENV_PREFIX).lower(): value
        for name, value in environ.items()
        if name.startswith(ENV_PREFIX)
    }
    unknown = sorted(set(values) - set(Settings.model_fields))
    if unknown:
        raise SettingsError(
            f"setting {ENV_PREFIX}{unknown[0].upper()}: there is no such setting; check its spelling"
        )
    return values


def _from_aws(environ: Mapping[str, str]) -> dict[str, str]:
    """The standard AWS environment gives defaults, which ours override."""
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    endpoint = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", _IMDS).rstrip("/")
    return {"imds_endpoint": endpoint, **({"region": region} if region else {})}


def _first_line(exc: ValidationError) -> str:
    error = exc.errors(include_url=False)[0]
    if not error["loc"]:
        return str(error["msg"]).removeprefix("Value error, ")
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"setting {name}: there is no such setting; check its spelling"
    if name in _QUIET:
        return f"setting {name}: {error['msg']}"
    # Where a reference is asked for, somebody may have put the secret itself.
    shown = "" if name in _REFERENCES else f"; it is {error['input']!r}"
    return f"setting {name}: {error['msg']}{shown}"
