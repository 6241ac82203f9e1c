"""Addresses: where a call goes, and to which other one when that fails."""

from __future__ import annotations

import gzip
import json
import os
import socket
from contextlib import suppress
from typing import Any

import pytest
from goldenfleet_client import (
    ConnectionFailed,
    Retried,
)


def test_an_unknown_host(callers: Any) -> None:
    """A name without an address is a failed connection, not a foreign exception."""

    def nowhere(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    caller = callers("http://fleet.invalid", resolver=nowhere)
    assert isinstance(caller.outcome("models").error, ConnectionFailed)


def test_a_redirection_is_not_followed(caller: Any, service: Any, acts: Any) -> None:
    """The key and the prompt go nowhere else; the error names the place."""
    service.then(acts.answer(301, b"", "location: https://llm.example/"))
    assert "https://llm.example/: name that as base_url" in str(caller.outcome("generate", "x").error)
    assert len(service.seen) == 1


def test_a_retry_goes_to_another_address(callers: Any, services: Any, acts: Any) -> None:
    """Where the name has several addresses, the next attempt goes to one not yet tried."""
    first = services("127.0.0.21").then(acts.refuse(503))
    second = services("127.0.0.22", first.port).then(acts.whole)
    caller = callers(f"http://fleet.test:{first.port}", resolver=lambda *_: ["127.0.0.21", "127.0.0.22"])
    assert caller.outcome("generate", "x").result.attempts == 2
    assert [len(first.seen), len(second.seen)] == [1, 1]
    assert second.seen[0].headers["host"] == f"fleet.test:{first.port}"


def test_a_resume_goes_to_another_address(callers: Any, services: Any, acts: Any) -> None:
    """So does the continuation of a stream."""
    first = services("127.0.0.23").then(acts.speak(events=2, cut=acts.reset))
    second = services("127.0.0.24", first.port).then(acts.speak())
    caller = callers(f"http://fleet.test:{first.port}", resolver=lambda *_: ["127.0.0.23", "127.0.0.24"])
    assert caller.read().text == acts.text
    assert len(second.seen) == 1


def test_a_refused_address_costs_nothing(callers: Any, services: Any, acts: Any) -> None:
    """Nothing was sent to an address that refuses: the next one is asked without wait or budget, and the
    refusing one is avoided by later calls."""
    alive = services("127.0.0.25").then(acts.whole)
    caller = callers(
        f"http://fleet.test:{alive.port}",
        resolver=lambda *_: ["127.0.0.26", "127.0.0.27", "127.0.0.25"],
        budget_minimum=0,
    )
    assert caller.outcome("generate", "x").result.attempts == 3
    assert caller.outcome("generate", "x").result.attempts == 1
    assert [event.wait_s for event in caller.events if isinstance(event, Retried)] == [0.0, 0.0]


def test_first_attempts_share_a_connection(caller: Any, service: Any, acts: Any) -> None:
    """Calls that go well use one connection, streams included."""
    service.then(acts.whole, acts.speak(), acts.whole)
    caller.call("generate", "x")
    caller.read()
    caller.call("generate", "x")
    assert [seen.connection for seen in service.seen] == [0, 0, 0]


def test_a_base_url_with_a_path(callers: Any, service: Any, acts: Any) -> None:
    """Requests go below it, whether or not it ends in /v1, and answers may be compressed by what is there."""
    whole = {"choices": [{"text": "so", "finish_reason": "stop"}]}
    service.then(acts.answer(200, gzip.compress(json.dumps(whole).encode()), "content-encoding: gzip"))
    for end in ("/llm", "/llm/", "/llm/v1", "/llm/v1/"):
        assert callers(service.url + end).call("generate", "x").text == "so"
    assert {seen.path for seen in service.seen} == {"/llm/v1/completions"}


def test_an_ipv6_address(callers: Any, services: Any, acts: Any) -> None:
    """A literal one is asked, and named in Host, in brackets; a name may have one beside an IPv4 address."""
    six = services("::1").then(acts.refuse(503), acts.whole)
    four = services("127.0.0.28", six.port).then(acts.whole)
    assert callers(f"http://[::1]:{six.port}", budget_minimum=9).call("generate", "x").attempts == 2
    assert {seen.headers["host"] for seen in six.seen} == {f"[::1]:{six.port}"}
    six.then(acts.refuse(503))
    caller = callers(f"http://fleet.test:{six.port}", resolver=lambda *_: ["::1", "127.0.0.28"])
    assert caller.call("generate", "x").attempts == 2
    assert [len(four.seen), four.seen[0].headers["host"]] == [1, f"fleet.test:{six.port}"]


@pytest.mark.parametrize("before", [0, 1])
def test_every_connection_finds_out_that_an_instance_vanished(
    callers: Any, service: Any, acts: Any, before: int
) -> None:
    """In half a minute, whether it waits for an answer or for a request to be acknowledged (tcp(7))."""
    found: list[tuple[int, int]] = []

    def look(connection: Any, seen: Any) -> bool:
        with _our_end(connection.sock.getpeername()) as end:
            keepalive = end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            found.append((keepalive, end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)))
        return bool(acts.whole(connection, seen))

    service.then(*[acts.reset] * before, look)
    callers(service.url).call("generate", "x")
    assert found == [(1, 30_000)]


def _our_end(name: object) -> socket.socket:
    """The socket of this process that has this name."""
    for number in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):
            end = socket.socket(fileno=os.dup(number))
            if end.getsockname() == name:
                return end
            end.close()
    raise AssertionError(f"no socket is {name}")
