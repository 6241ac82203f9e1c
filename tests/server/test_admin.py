"""The admin port over a real socket: what it shows, what it changes, what it refuses."""

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from random import Random

import aiohttp
import pytest

from server.admin import Admin, bound, serve_admin
from server.drain import Drain
from server.readiness import Readiness
from server.telemetry import Telemetry, open_log
from server.upstreams import NodeSet


@dataclass
class Node:
    base: str
    session: aiohttp.ClientSession
    drain: Drain
    readiness: Readiness
    telemetry: Telemetry
    log: io.StringIO
    admin: Admin

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(self.base + path) as response:
            return response.status, await response.text()

    async def post(self, path: str, body: object = None) -> tuple[int, dict[str, object]]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.session.post(self.base + path, data=data) as response:
            return response.status, await response.json()


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    file = io.StringIO()
    log = open_log(role="model", instance_id="i-1", file=file)
    telemetry = Telemetry(log)
    readiness = Readiness(["engine"], bool)
    loop = asyncio.get_running_loop()
    drain = Drain(clock=time.time, call_later=loop.call_later, log=log, entered=str)
    admin = Admin("i-1", "model", drain, readiness, telemetry, time.time, 12.5)
    with bound("127.0.0.1", 0) as listener:
        async with serve_admin(admin.app(), listener) as port, aiohttp.ClientSession() as session:
            yield Node(f"http://127.0.0.1:{port}", session, drain, readiness, telemetry, file, admin)
    drain.cancel()


async def test_state_is_the_whole_picture(node):
    """Identity, phase, deadline, work in flight and readiness, in one look."""
    status, text = await node.get("/state")
    assert status == 200
    assert json.loads(text) == {
        "instance_id": "i-1",
        "role": "model",
        "phase": "serving",
        "reason": None,
        "source": None,
        "deadline": None,
        "drain_started_at": None,
        "binding": False,
        "in_flight": 0,
        "ready": False,
        "missing": ["engine"],
        "started_at": 12.5,
        "engine": None,
        "nodes": [],
        "limits": {"concurrency_limit": 0.0, "queued": 0.0, "limits_shared": 0.0},
    }


async def test_state_shows_nodes_and_limits(node):
    """Which nodes there are, what they do, and what bounds requests now: limits set and limits learned."""
    nodes = NodeSet(Random(1), lambda: 5.0)
    nodes.replace({"i-2": ("127.0.0.2", 8080)})
    node.telemetry.metrics.read("concurrency_limit", lambda: 12.0)
    admin = replace(node.admin, nodes=nodes.snapshot, limits={"requests_per_minute": 60})
    shown = admin.snapshot()
    assert shown["nodes"] == [
        {
            "id": "i-2",
            "address": "127.0.0.2:8080",
            "state": "ready",
            "in_flight": 0,
            "failures": 0,
            "ejections": 0,
        }
    ]
    assert shown["limits"]["requests_per_minute"] == 60
    assert shown["limits"]["concurrency_limit"] == 12.0


async def test_an_order_to_drain_starts_it(node):
    """POST /drain begins the drain with its deadline counted from now, and shows the new state."""
    node.readiness.set("engine", True)
    before = time.time()
    with node.drain.in_flight():
        status, state = await node.post("/drain", {"reason": "repair", "deadline_s": 60})
        assert status == 202
        assert (state["changed"], state["phase"], state["reason"], state["source"]) == (
            True,
            "accepting",
            "repair",
            "admin",
        )
        assert (state["in_flight"], state["ready"]) == (1, False)
    assert before + 60 <= node.drain.deadline <= time.time() + 60


async def test_the_same_order_again_is_harmless(node):
    """A second order with a later deadline is answered, and changes nothing."""
    await node.post("/drain", {"reason": "a", "deadline_s": 60})
    first = node.drain.deadline
    status, state = await node.post("/drain", {"reason": "b", "deadline_s": 90})
    assert (status, state["changed"], state["reason"], node.drain.deadline) == (202, False, "a", first)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "body"),
        (b"junk", "body"),
        (b"[]", "body"),
        ({"reason": "x"}, "deadline_s"),
        ({"deadline_s": 5}, "reason"),
        ({"reason": "", "deadline_s": 5}, "reason"),
        ({"reason": "x" * 201, "deadline_s": 5}, "reason"),
        ({"reason": "x", "deadline_s": -1}, "deadline_s"),
        ({"reason": "x", "deadline_s": 1e9}, "deadline_s"),
        (b'{"reason": "x", "deadline_s": NaN}', "deadline_s"),
        ({"reason": "x", "deadline_s": "soon"}, "deadline_s"),
        ({"reason": "x", "deadline_s": 5, "force": True}, "force"),
    ],
)
async def test_a_bad_order_drains_nothing(node, body, named):
    """400 with the envelope that names the field; the node goes on serving."""
    status, answer = await node.post("/drain", body)
    assert status == 400
    assert answer["error"]["message"].startswith(named) or named == "body"
    assert node.drain.phase == "serving"


async def test_a_deadline_of_now_lets_go_at_once(node):
    """An order that comes too late for any timeline is still an order."""
    status, state = await node.post("/drain", {"reason": "x", "deadline_s": 0})
    assert (status, state["phase"]) == (202, "empty")


async def test_an_endless_order_is_cut_short(node):
    """A body over a few kilobytes is 413 before it is parsed."""
    status, answer = await node.post("/drain", b"x" * 5000)
    assert (status, answer["error"]["code"]) == (413, "body_too_large")


async def test_undrain_serves_again(node):
    """A person's drain is undone; undoing nothing is harmless."""
    assert (await node.post("/undrain"))[0] == 200
    await node.post("/drain", {"reason": "x", "deadline_s": 60})
    status, state = await node.post("/undrain")
    assert (status, state["phase"]) == (200, "serving")


async def test_undrain_is_refused_when_aws_takes_the_instance(node):
    """409: the node would be lost with whatever it accepted."""
    node.drain.start("spot", time.time() + 60, "imds")
    status, answer = await node.post("/undrain")
    assert (status, answer["error"]["code"]) == (409, "drain_binding")
    assert node.drain.phase == "accepting"


async def test_metrics_are_prometheus_text(node):
    """Counters and gauges of this process, by the names that dashboards use."""
    node.telemetry.metrics.notices.labels(kind="spot").inc()
    node.telemetry.metrics.read("in_flight", lambda: node.drain.running)
    with node.drain.in_flight():
        status, text = await node.get("/metrics")
    assert status == 200
    assert 'goldenfleet_notices_total{kind="spot"} 1.0' in text
    assert "goldenfleet_in_flight 1.0" in text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1/models", 404, "not_found"),
        ("GET", "/drain", 405, "method_not_allowed"),
        ("DELETE", "/state", 405, "method_not_allowed"),
    ],
)
async def test_what_it_has_not_is_refused_in_the_envelope(node, method, path, status, code):
    """404 and 405 have the one error shape."""
    async with node.session.request(method, node.base + path) as response:
        answer = await response.json()
    assert (response.status, answer["error"]["code"]) == (status, code)


async def test_a_taken_port_is_an_oserror(node):
    """The caller hears of it, instead of the process ending."""
    port = int(node.base.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"), bound("127.0.0.1", port):
        pass


def test_two_processes_metrics_do_not_meet():
    """Each Telemetry has its own registry: nothing is global."""
    log = open_log(role="model", instance_id="i-1", file=io.StringIO())
    first, second = Telemetry(log), Telemetry(log)
    first.metrics.notices.labels(kind="spot").inc()
    assert b'kind="spot"' not in second.exposition()


def test_a_log_line_says_who_when_and_what():
    """One JSON object a line with event, ts, role and instance_id, and the event's own fields."""
    file = io.StringIO()
    log = open_log(role="gateway", instance_id="i-9", clock=lambda: 5.25, file=file)
    log.info("notice.seen", kind="spot", deadline=7.0)
    assert json.loads(file.getvalue()) == {
        "event": "notice.seen",
        "ts": 5.25,
        "role": "gateway",
        "instance_id": "i-9",
        "level": "info",
        "kind": "spot",
        "deadline": 7.0,
    }


def test_a_failure_is_logged_without_what_it_quotes():
    """An exception's message may hold a prompt or a key: only its type and place are told."""
    file = io.StringIO()
    telemetry = Telemetry(open_log(role="model", instance_id="i-1", file=file))
    try:
        raise ValueError("canary-prompt sk-canary-key")
    except ValueError as exc:
        telemetry.failed(exc)
    assert "canary" not in file.getvalue()
    line = json.loads(file.getvalue())
    assert (line["event"], line["error"]) == ("request.failed", "ValueError")
    assert line["at"][-1].startswith("test_admin.py:")
    assert b"goldenfleet_handler_failures_total 1.0" in telemetry.exposition()


def test_readiness_needs_every_condition_and_tells_changes():
    """Ready when all hold; each change of the whole is told once."""
    told: list[bool] = []
    readiness = Readiness(["a", "b"], told.append)
    assert readiness.set("a", True)
    assert (readiness.ready, readiness.missing, told) == (False, ("b",), [])
    readiness.set("b", True)
    assert not readiness.set("b", True)
    readiness.set("a", False)
    assert (readiness.ready, told) == (False, [True, False])
    with pytest.raises(KeyError):
        readiness.set("c", True)
