"""Who may ask what. A loopback port is open to every program and every web page of the machine it is on.

- Host: a foreign name that resolves to 127.0.0.1 (DNS rebinding) would make another site's page same-origin.
- Sec-Fetch-Site: browsers say where a request comes from (W3C, "Fetch Metadata Request Headers"); only a
  navigation to the page itself may come from elsewhere, such as a chat.
- Origin: where a browser says it, it must be ours.
- Key: of this start, in the printed address at first, in a SameSite=Strict cookie then. Other users of this
  machine reach the port too.
- Token: of this start, in a header, on everything that changes something. No other page can read it, and no
  form can send it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "goldenfleet-console"
TOKEN_HEADER = "x-goldenfleet-token"  # noqa: S105  its name
KEY = "key"
_READING = frozenset({"GET", "HEAD"})
_HEADERS = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_ONLY_DATA = "default-src 'none'; frame-ancestors 'none'"


def _random() -> str:
    return secrets.token_urlsafe(24)


@dataclass(frozen=True)
class Secrets:
    """Made at each start, and gone with it. Ports share their cookies: each console names its own."""

    key: str = field(default_factory=_random)
    token: str = field(default_factory=_random)
    name: str = field(default_factory=lambda: f"{COOKIE}-{secrets.token_hex(4)}")

    @property
    def cookie(self) -> str:
        return f"{self.name}={self.key}; Path=/; HttpOnly; SameSite=Strict"


@dataclass(frozen=True)
class Refusal:
    status: int
    code: str
    message: str


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    query: str
    headers: Mapping[str, str]


def judge(asked: Asked, known: Secrets) -> Refusal | None:
    """None where the request may go on."""
    return _where_to(asked) or _where_from(asked) or _who(asked, known) or _meant(asked, known)


def _where_to(asked: Asked) -> Refusal | None:
    host = asked.headers.get("host", "")
    if "@" not in host and _is_ours(host):
        return None
    return Refusal(421, "host_refused", "this is the console of 127.0.0.1 and answers to no other name")


def _is_ours(host: str) -> bool:
    """On any port: it may be forwarded. An address cannot be rebound, and of names only this one is safe."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def _where_from(asked: Asked) -> Refusal | None:
    headers = asked.headers
    refusal = Refusal(403, "origin_refused", "another page may not ask the console")
    origin = headers.get("origin")
    if origin is not None and origin != f"http://{headers.get('host')}":
        return refusal
    if headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none"):
        return None
    led_here = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return None if led_here and asked.method in _READING and asked.path == "/" else refusal


def _who(asked: Asked, known: Secrets) -> Refusal | None:
    # Not http.cookies, which reads none at all where one is odd: other programs here leave theirs, too.
    given = [cookie_parser(asked.headers.get("cookie", "")).get(known.name, "")]
    if asked.path == "/":
        given += parse_qs(asked.query).get(KEY, [])
    if any(_equal(key, known.key) for key in given):
        return None
    return Refusal(401, "key_missing", "open the address that goldenfleet console printed: it has the key")


def _meant(asked: Asked, known: Secrets) -> Refusal | None:
    if asked.method in _READING:
        return None
    if not _equal(asked.headers.get(TOKEN_HEADER, ""), known.token):
        return Refusal(403, "token_missing", "load the page anew: it was made by an earlier start")
    if asked.headers.get("content-type") != "application/json":
        return Refusal(415, "not_json", "send application/json")
    return None


def _equal(given: str, known: str) -> bool:
    return secrets.compare_digest(given.encode(), known.encode())


class Guard:
    """ASGI middleware: refuses by `judge`, and puts headers on every answer that keep it to itself."""

    def __init__(self, app: ASGIApp, known: Secrets) -> None:
        self._app = app
        self._known = known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        refusal = judge(_asked(scope), self._known)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("content-security-policy", _ONLY_DATA)
                if refusal is None and scope["path"] == "/":
                    headers.append("set-cookie", self._known.cookie)
            await send(message)

        await (_answer(refusal, scope["path"]) if refusal else self._app)(scope, receive, send_guarded)


def _asked(scope: Scope) -> Asked:
    return Asked(
        scope["method"], scope["path"], scope["query_string"].decode("latin-1"), Headers(scope=scope)
    )


def _answer(refusal: Refusal, path: str) -> Response:
    if path == "/":
        return PlainTextResponse(f"goldenfleet console: {refusal.message}\n", refusal.status)
    return refused(refusal)


def refused(refusal: Refusal, hint: str = "") -> Response:
    error = {"code": refusal.code, "message": refusal.message, "hint": hint}
    return JSONResponse({"error": error}, refusal.status)
