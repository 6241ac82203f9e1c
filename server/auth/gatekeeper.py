"""Who may ask: every request of the serving port passes here before its body is read."""

import hashlib
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Protocol

from server.auth.failures import Failures
from server.auth.keyring import Keyring
from server.auth.principal import ANONYMOUS, Principal
from server.auth.tokens import Tokens
from server.errors import Forbidden, TooManyFailures, Unauthenticated
from server.http.exchange import Request
from server.http.headers import Headers

# 128 random bits take 22 characters in base64; 32 in hex.
_MIN_KEY_CHARS = 22
_MAX_CREDENTIAL_BYTES = 8192

Networks = tuple[IPv4Network | IPv6Network, ...]


class Gatekeeper(Protocol):
    async def principal(self, request: Request, scope: str) -> Principal:
        """Raises Unauthenticated, TooManyFailures, or Forbidden for a known sender without `scope`."""
        ...


class OpenGate:
    """Authentication is off: everybody is the same anonymous principal."""

    async def principal(self, request: Request, scope: str) -> Principal:  # noqa: ARG002
        return ANONYMOUS


class Gate:
    """API keys and, where there is an issuer, its tokens.

    `proxies` are networks whose word on the client's address is taken: that of their load balancer.
    `refused` is told why, for a metric: missing, unknown, blocked or scope.
    """

    def __init__(
        self,
        keyring: Keyring | None,
        tokens: Tokens | None,
        failures: Failures,
        *,
        proxies: Networks = (),
        refused: Callable[[str], None],
    ) -> None:
        self._keyring = keyring
        self._tokens = tokens
        self._failures = failures
        self._proxies = proxies
        self._refused = refused

    async def principal(self, request: Request, scope: str) -> Principal:
        principal = await self._known(request)
        if scope not in principal.scopes:
            self._refused("scope")
            raise Forbidden("The key is not for this path.")
        return principal

    async def _known(self, request: Request) -> Principal:
        credential = bearer(request.headers)
        if credential is None:
            # Asking without a key guesses nothing, and is what a browser or a scanner does.
            self._refused("missing")
            raise Unauthenticated
        digest = hashlib.sha256(credential).digest()
        principal = self._by_digest(credential, digest)
        if principal is not None:
            return principal
        peer = self._peer(request)
        if self._failures.blocked(peer):
            self._refused("blocked")
            raise TooManyFailures
        principal = await self._by_token(credential, digest)
        if principal is None:
            self._failures.add(peer)
            self._refused("unknown")
            raise Unauthenticated
        return principal

    def _by_digest(self, credential: bytes, digest: bytes) -> Principal | None:
        if self._keyring is not None and len(credential) >= _MIN_KEY_CHARS:
            key = self._keyring.find(digest)
            if key is not None:
                return key.principal
        return self._tokens.known(digest) if self._tokens is not None else None

    async def _by_token(self, credential: bytes, digest: bytes) -> Principal | None:
        if self._tokens is None or credential.count(b".") != 2 or not credential.isascii():
            return None
        return await self._tokens.verify(credential.decode("ascii"), digest)

    def _peer(self, request: Request) -> str:
        """The client's address: the connection's, or what a trusted balancer says it is."""
        if not self._proxies or not _within(request.peer, self._proxies):
            return request.peer
        # The balancer appends: only the last entry is its own word, what is before it anyone can send.
        told = (request.headers.get_all("x-forwarded-for") or [""])[-1].rpartition(",")[2].strip()
        return told or request.peer


def bearer(headers: Headers) -> bytes | None:
    """The one credential of a request; None if there is none, or more than one."""
    found = [value for name, value in headers if name == b"authorization"]
    if len(found) != 1 or len(found[0]) > _MAX_CREDENTIAL_BYTES:
        return None
    scheme, _, credential = found[0].partition(b" ")
    credential = credential.strip()
    return credential if scheme.lower() == b"bearer" and credential else None


def _within(peer: str, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    return any(address in network for network in networks)
