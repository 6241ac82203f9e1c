"""The keys document: who may ask, and for what. It holds hashes, so reading it gives nobody a key."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from server.auth.principal import Allowance, Principal, Priority, Scope
from server.errors import KeysUnusable

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
PriorityName = Literal["low", "normal", "high"]
Models = Annotated[list[Annotated[str, StringConstraints(min_length=1, max_length=256)]], Field(min_length=1)]
Rate = Annotated[int, Field(ge=1, le=1_000_000_000)]

# What documents, tutorials and other gateways' quick starts show.
_EXAMPLES = (
    "",
    "changeme",
    "example",
    "key",
    "password",
    "secret",
    "sk-1234",
    "sk-example",
    "sk-test",
    "test",
)
EXAMPLE_KEY = "gf_EXAMPLE-EXAMPLE-EXAMPLE-EXAMPLE-EXAMPLE-EXA"
_EXAMPLE_DIGESTS = frozenset(hashlib.sha256(key.encode()).hexdigest() for key in (*_EXAMPLES, EXAMPLE_KEY))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Limits(_Strict):
    """None is no limit. Tokens are the prompt's, estimated, and the answer's, counted."""

    requests_per_minute: Rate | None = None
    tokens_per_minute: Rate | None = None
    concurrency: Rate | None = None

    def allowance(self) -> Allowance:
        return Allowance(self.requests_per_minute, self.tokens_per_minute, self.concurrency)


class KeyRecord(_Strict):
    id: Name
    sha256: Digest
    tenant: Name
    scopes: list[Scope] = Field(default=list(Scope), min_length=1)
    models: Models | None = None
    priority: PriorityName = "normal"
    limits: Limits = Limits()
    expires: AwareDatetime | None = None


class TenantRecord(_Strict):
    models: Models | None = None
    limits: Limits = Limits()


class KeysDocument(_Strict):
    keys: list[KeyRecord]
    tenants: dict[Name, TenantRecord] = Field(default_factory=dict)


class Key:
    """A key that may be used until `expires`, in unix seconds."""

    __slots__ = ("digest", "expires", "principal")

    def __init__(self, digest: bytes, principal: Principal, expires: datetime | None) -> None:
        self.digest = digest
        self.principal = principal
        self.expires = expires.timestamp() if expires else float("inf")


class KeySet:
    """The keys in force, by their hash, and what is known of tenants."""

    def __init__(self, keys: Mapping[bytes, Key], tenants: Mapping[str, TenantRecord]) -> None:
        self.keys = dict(keys)
        self._tenants = dict(tenants)

    def tenant(self, name: str) -> TenantRecord:
        return self._tenants.get(name, UNLIMITED)


UNLIMITED = TenantRecord()
NO_KEYS = KeySet({}, {})


def read_keys(text: str) -> KeySet:
    """Raises KeysUnusable for a document that does not hold at least one good key, and no bad one."""
    document = _document(text)
    if not document.keys:
        raise KeysUnusable("it holds no key; make one with `goldenfleet keys new --tenant NAME`")
    _check_unique("id", [record.id for record in document.keys])
    _check_unique("sha256", [record.sha256 for record in document.keys])
    for record in document.keys:
        if record.sha256 in _EXAMPLE_DIGESTS:
            raise KeysUnusable(f"key {record.id!r} is an example that everybody knows; make a new one")
    keys = [_key(record, document.tenants.get(record.tenant, UNLIMITED)) for record in document.keys]
    return KeySet({key.digest: key for key in keys}, document.tenants)


def _document(text: str) -> KeysDocument:
    try:
        value: Any = json.loads(text)
    except ValueError as exc:
        raise KeysUnusable("it is not JSON") from exc
    try:
        return KeysDocument.model_validate(value)
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in error["loc"])
        # What was written there is not quoted: somebody may have put a key where its hash belongs.
        raise KeysUnusable(f"{where or 'it'}: {error['msg']}") from exc


def _check_unique(name: str, values: list[str]) -> None:
    if len(set(values)) < len(values):
        raise KeysUnusable(f"two keys have the same {name}")


def _key(record: KeyRecord, tenant: TenantRecord) -> Key:
    principal = Principal(
        tenant=record.tenant,
        key_id=record.id,
        scopes=frozenset(record.scopes),
        models=both(record.models, tenant.models),
        priority=Priority[record.priority.upper()],
        limits=record.limits.allowance(),
        tenant_limits=tenant.limits.allowance(),
    )
    return Key(bytes.fromhex(record.sha256), principal, record.expires)


def both(first: list[str] | None, second: list[str] | None) -> frozenset[str] | None:
    """The models that both allow; None allows every one."""
    if first is None or second is None:
        chosen = first if second is None else second
        return None if chosen is None else frozenset(chosen)
    return frozenset(first) & frozenset(second)
