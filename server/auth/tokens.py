"""JSON Web Tokens: verified once, then known until they expire."""

import math
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from server.auth.jwks import ALGORITHMS, Jwks
from server.auth.keyfile import TenantRecord, both
from server.auth.principal import Principal, Scope

MAX_TOKEN_CHARS = 8192
_MOST_CACHED = 10_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Each of these would let the token say how it is to be checked.
_FORBIDDEN_HEADERS = ("jku", "jwk", "x5u", "x5c", "crit")


@dataclass(frozen=True)
class TokenRules:
    """What a token must say. `leeway_s` forgives clocks that differ."""

    issuer: str
    audience: str
    tenant_claim: str
    leeway_s: float


class Tokens:
    """Principals of tokens. `clock` is unix seconds; `tenant` gives what is known of one."""

    def __init__(
        self,
        jwks: Jwks,
        rules: TokenRules,
        *,
        clock: Callable[[], float],
        tenant: Callable[[str], TenantRecord],
    ) -> None:
        self._jwks = jwks
        self._rules = rules
        self._clock = clock
        self._tenant = tenant
        self._known: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()

    def known(self, digest: bytes) -> Principal | None:
        """The principal of a token that was verified before, by the token's hash."""
        found = self._known.get(digest)
        if found is None:
            return None
        if self._clock() >= found[1]:
            del self._known[digest]
            return None
        return found[0]

    def forget(self) -> None:
        """Keys or tenants changed: every token is verified anew."""
        self._known.clear()

    @property
    def remembered(self) -> int:
        return len(self._known)

    async def verify(self, token: str, digest: bytes) -> Principal | None:
        """None for every token that is not to be trusted, whatever the cause."""
        key = await self._key(token)
        claims = self._claims(token, key) if key is not None else None
        if claims is None:
            return None
        principal = self._principal(claims)
        if principal is not None:
            self._known[digest] = (principal, float(claims["exp"]) + self._rules.leeway_s)
            if len(self._known) > _MOST_CACHED:
                self._known.popitem(last=False)
        return principal

    async def _key(self, token: str) -> jwt.PyJWK | None:
        if len(token) > MAX_TOKEN_CHARS:
            return None
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError):
            return None
        key_id = header.get("kid")
        if header.get("alg") not in ALGORITHMS or not isinstance(key_id, str):
            return None
        if any(name in header for name in _FORBIDDEN_HEADERS):
            return None
        key = await self._jwks.key(key_id)
        # The key, not the token, says by which algorithm it signs.
        return key if key is not None and key.algorithm_name == header["alg"] else None

    def _claims(self, token: str, key: jwt.PyJWK) -> Mapping[str, Any] | None:
        rules = self._rules
        try:
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=rules.audience,
                issuer=rules.issuer,
                leeway=rules.leeway_s,
                options={"require": ["exp", "iss", "aud"], "verify_exp": False},
            )
        except (jwt.PyJWTError, ValueError, OverflowError):
            return None
        # Checked here, by the clock that the cache goes by too.
        expires = _expiry(claims)
        return claims if expires is not None and self._clock() < expires + rules.leeway_s else None

    def _principal(self, claims: Mapping[str, Any]) -> Principal | None:
        tenant = claims.get(self._rules.tenant_claim)
        subject = claims.get("sub", "")
        if not isinstance(tenant, str) or not _NAME.fullmatch(tenant) or not isinstance(subject, str):
            return None
        scopes, models = _scopes(claims), _models(claims)
        if scopes is None or models is _BAD:
            return None
        record = self._tenant(tenant)
        return Principal(
            tenant=tenant,
            # No key of the keys document has a slash in its id.
            key_id=f"jwt/{tenant}/{subject[:128]}",
            scopes=scopes,
            models=both(models, record.models),
            tenant_limits=record.limits.allowance(),
        )


_BAD: list[str] = []


def _expiry(claims: Mapping[str, Any]) -> float | None:
    """When a token ends, in unix seconds. Python's JSON knows Infinity; no token is good for ever."""
    value = claims["exp"]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _scopes(claims: Mapping[str, Any]) -> frozenset[str] | None:
    """OAuth's `scope`, words in a string, or `scp`, a list. A token that names none is not restricted."""
    value = claims.get("scope", claims.get("scp"))
    if value is None:
        return frozenset(Scope)
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return None
    return frozenset(words)


def _models(claims: Mapping[str, Any]) -> list[str] | None:
    value = claims.get("models")
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        return _BAD
    return value
