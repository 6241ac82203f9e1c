"""Settings of one server process: defaults, then the tier's config, then GOLDENFLEET_* of the environment."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from server.errors import SettingsError

ENV_PREFIX = "GOLDENFLEET_"
_IMDS = "http://169.254.169.254"

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class Settings(BaseModel):
    """Every field is a key of the tier's config and, in capitals behind GOLDENFLEET_, of the environment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["gateway", "model"] = Field(
        description="What this process is to the fleet: its tier's name."
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
        "target-group:ARN.",
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
    access_log: Literal["off", "troubled", "all"] = Field(
        default="troubled",
        description="A JSON line per request at its end: for none, for those that failed or took more than "
        "one attempt, or for all.",
    )
    max_attempts: int = Field(default=3, ge=1, le=10, description="Attempts per request, the first included.")
    retry_budget: float = Field(
        default=0.2, ge=0, le=1, description="Retries allowed, as a share of recent requests."
    )
    retry_budget_minimum: int = Field(
        default=3, ge=0, le=1000, description="Retries allowed however few requests there are."
    )
    max_body_bytes: int = Field(
        default=8 * 1024 * 1024, ge=1024, le=256 * 1024 * 1024, description="Largest request body."
    )
    max_response_bytes: int = Field(
        default=64 * 1024 * 1024, ge=1024, description="Largest response body that is held in memory."
    )

    @model_validator(mode="after")
    def _gateway_has_nodes(self) -> Self:
        if self.role == "gateway" and self.nodes is None:
            raise ValueError(
                "setting nodes: a gateway needs it; set static:host:port, dns:host:port or target-group:ARN"
            )
        return self

    @property
    def engine_base(self) -> str:
        """Base URL of the engine's OpenAI API."""
        return self.engine_url or f"http://{self.address}:{self.engine_port}"


def load_settings(
    *, role: str, stack: str, tier_config: Mapping[str, object], environ: Mapping[str, str]
) -> Settings:
    """Merge the sources; raises SettingsError whose one line names the first bad setting."""
    for name in ("role", "stack"):
        if name in tier_config:
            raise SettingsError(f"setting {name}: the tier's config cannot set it; it comes from user data")
    merged: dict[str, object] = {**_from_aws(environ), **tier_config, **_from_env(environ)}
    try:
        return Settings.model_validate({**merged, "role": role, "stack": stack})
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
    return f"setting {name}: {error['msg']}; it is {error['input']!r}"
