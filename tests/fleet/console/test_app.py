"""The console over a real socket: what it answers to whom."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from fleet.console.app import MOST_VIEWERS
from fleet.control.drain import LONGEST_DRAIN_S
from tests.fleet.console.fleets import Fleet, Served, fleet_of, served

OPENER = build_opener(ProxyHandler({}))
ORDER = {"instance_id": "i-0123456789abcdef0", "reason": "bad disk", "deadline_s": 60}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


def ask(site: Served, path: str, body: object = None, **changed: str | None) -> Answer:
    """As the page itself would, but for what is changed."""
    headers: dict[str, str | None] = {
        "cookie": f"{site.known.name}={site.known.key}",
        "origin": site.origin,
        "sec-fetch-site": "same-origin",
        "content-type": "application/json",
        "x-goldenfleet-token": site.known.token,
        **{name.replace("_", "-"): value for name, value in changed.items()},
    }
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {name: value for name, value in headers.items() if value is not None}
    request = Request(site.origin + path, data=data, headers=given)
    OPENER.addheaders = []
    try:
        with OPENER.open(request, timeout=10) as answer:
            return Answer(answer.status, dict(answer.headers), answer.read(100_000))
    except OSError as refusal:
        if not hasattr(refusal, "code"):
            raise
        said: Any = refusal
        return Answer(said.code, dict(said.headers), said.read())


@pytest.fixture
def fleet() -> Fleet:
    return fleet_of()


@pytest.fixture
def site(fleet: Fleet) -> Iterator[Served]:
    with served(fleet, allow_drain=True) as site:
        yield site


def test_a_console_that_only_shows_drains_nothing(fleet: Fleet) -> None:
    """Whatever is sent: the page that could is not the one that decides."""
    with served(fleet) as site:
        answer = ask(site, "/drain", ORDER)
        assert (answer.status, answer.error) == (403, "read_only")
        assert ask(site, "/undrain", {"instance_id": ORDER["instance_id"]}).status == 403
    assert fleet.asked == []


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"x_goldenfleet_token": None}, 403),
        ({"cookie": None}, 401),
        ({"origin": "http://evil.example"}, 403),
        ({"sec_fetch_site": "cross-site", "origin": None}, 403),
        ({"host": "evil.example"}, 421),
        ({"content_type": "text/plain"}, 415),
    ],
)
def test_forged_drains_are_refused(site: Served, fleet: Fleet, changed: dict[str, Any], status: int) -> None:
    """One thing missing is enough, and nothing was asked of the fleet."""
    assert ask(site, "/drain", ORDER, **changed).status == status
    assert fleet.asked == []


@pytest.mark.parametrize(
    "order",
    [
        b"",
        b"[1",
        {},
        {**ORDER, "instance_id": "i-1; reboot"},
        {**ORDER, "instance_id": "i-0123456789abcdef0\n"},
        {**ORDER, "reason": ""},
        {**ORDER, "reason": "x" * 201},
        {**ORDER, "deadline_s": 0},
        {**ORDER, "deadline_s": LONGEST_DRAIN_S + 1},
        {**ORDER, "force": True},
        b'{"instance_id": "i-0123456789abcdef0", "reason": "x", "deadline_s": NaN}',
        b"x" * 1_000_000,
    ],
    ids=range(12),
)
def test_orders_that_make_no_sense_are_refused(site: Served, fleet: Fleet, order: object) -> None:
    """With what is wrong, and without asking the fleet."""
    answer = ask(site, "/drain", order)
    assert (answer.status, answer.error) == (400, "invalid_request")
    assert fleet.asked == []


def test_a_drain_that_aws_refuses_is_told(site: Served, fleet: Fleet) -> None:
    """AWS's own words come back, and no drain is claimed."""
    fleet.down = True
    answer = ask(site, "/drain", ORDER)
    assert (answer.status, answer.error) == (502, "not_taken")
    assert json.loads(answer.body)["error"]["hint"] == "Check the network."


def test_every_time_that_the_page_offers_is_taken(site: Served, fleet: Fleet) -> None:
    """The control handler gives nobody longer: what a person chose is what the node has."""
    offered = re.findall(r'<option value="(\d+)"', ask(site, "/").body.decode().partition("ask-deadline")[2])
    assert len(offered) == 4
    for seconds in offered:
        assert ask(site, "/drain", {**ORDER, "deadline_s": int(seconds)}).status == 202


def test_a_drain_is_handed_on(site: Served, fleet: Fleet) -> None:
    """As it was asked for, once."""
    assert ask(site, "/drain", ORDER).status == 202
    assert ask(site, "/undrain", {"instance_id": ORDER["instance_id"]}).status == 202
    assert fleet.asked == [("drain", *ORDER.values()), ("undrain", ORDER["instance_id"])]


def test_every_answer_keeps_to_itself(site: Served) -> None:
    """No cache, no sniffing, no frame, no referrer; the page runs its own script and style only."""
    for path in ("/", "/nothing", "/drain"):
        headers = ask(site, path).headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "server" not in headers
    page = ask(site, "/")
    policy = page.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "http" not in policy
    nonce = policy.partition("script-src 'nonce-")[2].partition("'")[0]
    assert len(nonce) > 20
    assert nonce in page.body.decode()
    assert nonce not in ask(site, "/").body.decode()


def test_the_page_asks_nobody_else(site: Served) -> None:
    """No address in it leads off this machine, but for a namespace's name."""
    text = ask(site, "/").body.decode().replace("http://www.w3.org/2000/svg", "")
    assert "http" not in text.replace("http-equiv", "")
    assert "//" not in "".join(line for line in text.splitlines() if "url(" in line or "src=" in line)


def test_too_many_pages_are_refused(fleet: Fleet) -> None:
    """A page left open in every tab does not eat the machine; those that are open go on."""
    with served(fleet) as site, ExitStack() as pages:
        streams = [pages.enter_context(_open(site)) for _ in range(MOST_VIEWERS)]
        for stream in streams:
            read_until(stream, b"event: fleet")
        assert ask(site, "/events").error == "too_many_viewers"
        read_until(streams[0], b"event: fleet")


def read_until(stream: socket.socket, words: bytes) -> None:
    said = b""
    while words not in said:
        piece = stream.recv(65536)
        assert piece, said
        said += piece


def _open(site: Served) -> socket.socket:
    port = int(site.origin.rpartition(":")[2])
    stream = socket.create_connection(("127.0.0.1", port), timeout=10)
    cookie = f"{site.known.name}={site.known.key}"
    stream.sendall(f"GET /events HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncookie: {cookie}\r\n\r\n".encode())
    return stream


async def test_a_viewer_that_takes_nothing_is_let_go(fleet: Fleet) -> None:
    """Its stream ends once its buffers are full, and the feed forgets it."""
    fleet.nodes = fleet.nodes * 300
    with served(fleet, interval_s=0.02) as site:
        console = replace(site.console, slowest_send_s=0.05)
        stuck = asyncio.Event()

        async def send(message: Any) -> None:
            if message.get("body"):
                await stuck.wait()

        async def receive() -> Any:
            await stuck.wait()

        host = [(b"host", b"localhost"), (b"cookie", f"{site.known.name}={site.known.key}".encode())]
        scope = {"type": "http", "method": "GET", "path": "/events", "query_string": b"", "headers": host}
        async with asyncio.timeout(10):
            await console.app()(scope, receive, send)
        assert site.feed.viewers == 0
