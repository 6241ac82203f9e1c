"""What both edges share: requests as httpx2 sends them; its exceptions, which become Failures here only."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable
from typing import Final

import httpx2

from ._addresses import Addresses, Resolver
from ._plan import Head, Send
from ._retry import Failure
from .errors import ConfigurationError
from .types import Event, EventHook

_LOG = logging.getLogger("goldenfleet_client")

# Web application firewalls refuse who sends none; a test holds the version to the distribution's.
USER_AGENT: Final = "goldenfleet-client/0.1.0"
# A vanished instance sends no reset: let the system find out in about 30 s on every connection, also where
# a request waits for its acknowledgement and keepalive is silent (tcp(7), in milliseconds).
KEEPALIVE = [
    (level, getattr(socket, name), value)
    for level, name, value in (
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 15),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 5),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 30_000),
    )
    if hasattr(socket, name)
]
KEPT = httpx2.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=30.0)
FRESH = httpx2.Limits(max_connections=None, max_keepalive_connections=0)


class Endpoint:
    """Where the service is, and how a request for it looks when it is sent to one of its addresses."""

    def __init__(
        self, base_url: str, resolver: Resolver, clock: Callable[[], float], random: Callable[[], float]
    ) -> None:
        try:
            self._url = httpx2.URL(base_url.rstrip("/").removesuffix("/v1"))
        except httpx2.InvalidURL as exc:
            raise ConfigurationError(f"base_url {base_url!r} is no URL: {exc}") from exc
        if self._url.scheme not in ("http", "https") or not self._url.host:
            raise ConfigurationError(f"base_url {base_url!r} must be http://host or https://host")
        if self._url.query or self._url.fragment:
            raise ConfigurationError("base_url holds a query or a fragment, which no request would carry")
        port = self._url.port or (443 if self._url.scheme == "https" else 80)
        self.addresses: Final = Addresses(self._url.host, port, resolver, clock)
        self.random: Final = random

    def tls(self, verify: ssl.SSLContext | bool) -> ssl.SSLContext:
        """One context for all connections: to load the system's certificates takes tens of milliseconds."""
        if self._url.scheme == "http":
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return httpx2.create_ssl_context(verify=verify)

    def request(self, command: Send, address: str) -> httpx2.Request:
        path = (self._url.raw_path.rstrip(b"/") + command.request.path.encode()) or b"/"
        url = self._url.copy_with(host=address, raw_path=path)
        timeout = {
            "connect": command.connect_s,
            "read": command.head_s,
            "write": command.head_s,
            "pool": None,
        }
        return httpx2.Request(
            command.request.method,
            url,
            headers={
                "host": self._url.netloc.decode("ascii"),
                "user-agent": USER_AGENT,
                **command.headers,
            },
            content=command.request.content(),
            extensions={"timeout": timeout, "sni_hostname": self._url.host},
        )


def header_value(name: str, value: str) -> str:
    """Raises ConfigurationError; the message does not quote the value, which may be a secret."""
    if not (value.isascii() and value.isprintable() and value == value.strip()):
        raise ConfigurationError(
            f"{name} holds what an HTTP header cannot: a line end, a space around, or non-ASCII"
        )
    return value


def tell(hook: EventHook, event: Event) -> None:
    """What a hook raises is logged: who counts retries must not cost a request (as with the callbacks of
    concurrent.futures)."""
    try:
        hook(event)
    except Exception:  # noqa: BLE001  somebody else's code
        _LOG.exception("on_event failed for %r", event)


def head_of(response: httpx2.Response) -> Head:
    return Head(response.status_code, {name.lower(): value for name, value in response.headers.items()})


# What an exchange may raise: httpx2's own errors, a timeout of ours, a look-up that found nothing.
FOREIGN: Final = (httpx2.RequestError, OSError)


def failure(exc: Exception, *, began: bool, others_left: bool = False) -> Failure:
    """`began`: the response's head had arrived."""
    detail = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
    if distrust := _distrust(exc):
        return Failure(
            "unreachable", f"the certificate is not trusted: {distrust}", retryable=False, cause=exc
        )
    if isinstance(exc, (httpx2.ConnectError, httpx2.ConnectTimeout)):
        return Failure("unreachable", detail, others_left=others_left, cause=exc)
    if isinstance(exc, (httpx2.TimeoutException, TimeoutError)):
        return Failure("timeout", "silent for too long", cause=exc)
    if isinstance(exc, OSError):
        return Failure("unreachable", f"the host's address could not be looked up: {detail}", cause=exc)
    return Failure("cut" if began else "lost", detail, cause=exc)


def _distrust(exc: BaseException) -> ssl.SSLCertVerificationError | None:
    """httpx2 raises the same error for a refused connection and for a certificate; only the cause differs."""
    cause: BaseException | None = exc
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    return cause
