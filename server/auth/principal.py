"""Who asks: what every part of a request's handling may know of its sender."""

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum


class Scope(StrEnum):
    """What a key may be for. A route demands one."""

    GENERATE = "generate"
    MODELS = "models"


class Priority(IntEnum):
    """Classes of shedding: under overload the lowest goes first."""

    LOW = 0
    NORMAL = 1
    HIGH = 2


@dataclass(frozen=True, slots=True)
class Allowance:
    """Limits of a key or a tenant; None is no limit. Tokens are the prompt's and the answer's."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None


# One object for each key, compared as such: what is known of it is looked up with every request.
@dataclass(frozen=True, slots=True, eq=False)
class Principal:
    """`models` None is every model. `limits` are the key's own, `tenant_limits` what all of the tenant's keys
    share. `key_id` is no secret.
    """

    tenant: str
    key_id: str
    scopes: frozenset[str] = frozenset(Scope)
    models: frozenset[str] | None = None
    priority: Priority = Priority.NORMAL
    limits: Allowance = field(default=Allowance())
    tenant_limits: Allowance = field(default=Allowance())


ANONYMOUS = Principal(tenant="anonymous", key_id="anonymous")
