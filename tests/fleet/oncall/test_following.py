"""Drains that are followed: real nodes' admin ports on loopback, a clock of the test's own."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from fleet.control.node import ADMIN_PORT
from fleet.oncall.answers import UNDRAINED, await_undrained
from fleet.oncall.following import Follower
from fleet.oncall.outcome import Drained, Ended, Observed, judge
from fleet.oncall.waiting import exit_code, wait_for

START = 1_000.0


class Node:
    """An admin port whose /state the test sets; closed, nothing listens there."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {"phase": "serving", "in_flight": 0}
        node = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(node.state).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                del args

        self.server = self._listen(Handler)
        self.address = str(self.server.server_address[0])
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()
        self.open = True

    @staticmethod
    def _listen(handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
        for number in range(4, 250):
            try:
                return ThreadingHTTPServer((f"127.0.250.{number}", ADMIN_PORT), handler)
            except OSError:
                continue
        raise AssertionError("no loopback address is free")

    def drains(self, phase: str, in_flight: int, **fields: Any) -> None:
        self.state = {"phase": phase, "in_flight": in_flight, **fields}

    def close(self) -> None:
        if self.open:
            self.open = False
            self.server.shutdown()
            self.server.server_close()
            self.thread.join()


@pytest.fixture
def node() -> Iterator[Node]:
    made = Node()
    yield made
    made.close()


@pytest.fixture
def gateway() -> Iterator[Node]:
    made = Node()
    yield made
    made.close()


Follow = Callable[..., list[Drained]]


@pytest.fixture
def follow(aws: Any, make_node: Any, node: Node, gateway: Node) -> Follow:
    """Follows `node`; after each look the next of `steps` happens, `seconds` pass."""

    aws.instance_is("running")

    def run(*steps: Callable[[], object], seconds: float = 1.0) -> list[Drained]:
        now, left = [START], list(steps)

        def pause(_: float) -> None:
            now[0] += seconds
            if left:
                left.pop(0)()

        target = make_node(address=node.address, in_flight=5)
        other = make_node("i-0gateway", address=gateway.address, role="gateway")
        follower = Follower(aws.access(), [target], START, clock=lambda: now[0], pause=pause)
        for _ in follower.looks():
            assert now[0] < START + 10_000, "it follows for ever"
        return follower.results([other])

    return run


def test_a_node_that_never_hears_of_its_drain_is_given_up(follow: Follow) -> None:
    """After half a minute: the control handler does not work."""
    [drained] = follow()
    assert (drained.observed.ended, drained.ok) == ("not in time", False)
    assert drained.observed.seconds == 30.0


def test_a_node_that_does_not_become_empty_is_given_up_after_its_deadline(follow: Follow, node: Node) -> None:
    """And counts as late, for it worked on."""
    [drained] = follow(lambda: node.drains("refusing", 3, deadline=START + 60))
    assert (drained.observed.ended, drained.observed.overdue) == ("not in time", True)
    assert drained.observed.seconds == 80.0


@pytest.mark.parametrize(("seconds", "late"), [(1.0, False), (1.5, True)])
def test_a_node_that_was_late_stays_late(follow: Follow, node: Node, seconds: float, late: bool) -> None:
    """Though it became empty in the end: clocks differ by a second and no more."""
    [drained] = follow(
        lambda: node.drains("refusing", 3, deadline=START),
        lambda: node.drains("empty", 0, deadline=START),
        seconds=seconds,
    )
    assert (drained.observed.ended, drained.observed.overdue, drained.ok) == ("empty", late, not late)


def test_a_node_whose_process_dies_is_no_success(follow: Follow, node: Node) -> None:
    """While EC2 still runs the instance; what was in flight is not accounted for."""
    [drained] = follow(lambda: node.drains("refusing", 3, deadline=START + 5), node.close)
    assert (drained.observed.ended, drained.uncounted, drained.ok) == ("dead", 3, False)


def test_a_node_that_went_with_its_work_is_no_success(follow: Follow, node: Node, aws: Any) -> None:
    """The instance was ended before it was empty."""

    def end() -> None:
        node.close()
        aws.instance_is("shutting-down")

    [drained] = follow(lambda: node.drains("refusing", 2, deadline=START + 60), end)
    assert (drained.observed.ended, drained.uncounted, drained.ok) == ("gone", 2, False)


def test_a_drain_that_somebody_took_back_ends_the_wait(follow: Follow, node: Node) -> None:
    """The node serves again, so that nobody waits for ever; it is not drained."""
    [drained] = follow(
        lambda: node.drains("accepting", 2, deadline=START + 60), lambda: node.drains("serving", 2)
    )
    assert (drained.observed.ended, drained.ok) == ("undrained", False)


def test_a_node_becomes_empty(follow: Follow, node: Node) -> None:
    """What ran on it finished there."""
    [drained] = follow(
        lambda: node.drains("accepting", 5, deadline=START + 120),
        lambda: node.drains("refusing", 1, deadline=START + 120),
        lambda: node.drains("empty", 0, deadline=START + 120),
    )
    assert (drained.observed.ended, drained.ok, drained.observed.at_first) == ("empty", True, 5)
    assert drained.observed.seconds == 3.0


def test_a_node_that_is_gone_when_it_is_next_looked_at(follow: Follow, node: Node, aws: Any) -> None:
    """Its last word was that nothing runs: EC2 may have forgotten it by now."""

    def end() -> None:
        node.close()
        del aws.answers["DescribeInstances"]
        aws.status = 400
        aws.body = (
            "<Response><Errors><Error><Code>InvalidInstanceID.NotFound</Code><Message>no</Message></Error>"
            "</Errors><RequestID>1</RequestID></Response>"
        )

    [drained] = follow(lambda: node.drains("accepting", 0, deadline=START + 60), end)
    assert (drained.observed.ended, drained.ok) == ("gone", True)


def test_gateways_are_asked_what_became_of_what_was_handed_over(
    follow: Follow, node: Node, gateway: Node
) -> None:
    """They may take a moment; what none of them knows of is told as such."""
    handed = {"handed_over": 2, "handed_over_ids": ["r1", "r2"], "deadline": START + 120}
    told = {**handed, "drain_started_at": START}
    [drained] = follow(
        lambda: node.drains("empty", 0, **told),
        lambda: setattr(gateway, "state", {"moved": {"r1": "running"}}),
    )
    assert dict(drained.became) == {"r1": "running", "r2": "unknown"}
    assert [*drained.cut_over] == ["r2"]
    assert not drained.short


@pytest.mark.parametrize(("given_s", "short"), [(120, False), (30, True)])
def test_a_drain_that_somebody_else_asked_for_has_the_time_that_its_node_says(
    follow: Follow, node: Node, given_s: int, short: bool
) -> None:
    """From its begin to its deadline: `watch` was told of neither."""
    [drained] = follow(
        lambda: node.drains("empty", 0, drain_started_at=START - 60, deadline=START - 60 + given_s)
    )
    assert (drained.observed.granted_s, drained.short) == (given_s, short)


@pytest.fixture
def mute() -> Iterator[str]:
    """An address whose admin port takes connections and never answers."""
    with socket.socket() as listener:
        for number in range(4, 250):
            try:
                listener.bind((f"127.0.251.{number}", ADMIN_PORT))
                break
            except OSError:
                continue
        listener.listen()
        yield str(listener.getsockname()[0])


def test_a_node_that_nobody_reaches_is_judged_by_the_control_handler(
    aws: Any, make_node: Any, mute: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for until EC2 says that it is gone; the history says whether it was empty then."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    aws.instance_is("terminated")
    line = {"event": "hook.completed", "ts": START, "instance_id": "i-1", "reason": "empty"}
    aws.body = json.dumps({"events": [{"message": json.dumps(line)}]})
    node = make_node("i-1", address=mute, phase=None, in_flight=None)
    follower = Follower(aws.access(kept=False), [node], START, clock=lambda: START + 3)
    assert [one.ended for looks in follower.looks() for one in looks] == ["gone"]
    [drained] = follower.results([])
    assert (drained.ok, drained.let_go) == (True, "empty")


def test_what_was_seen_is_told_though_the_history_cannot_be_read(
    aws: Any, make_node: Any, mute: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Throttled, or not allowed, after a long wait: the outcome says so, and is no success."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    aws.instance_is("terminated")
    aws.failing = {"Logs_20140328.FilterLogEvents"}
    aws.answers["FilterLogEvents"] = json.dumps({"__type": "AccessDeniedException", "message": "no logs"})
    node = make_node("i-1", address=mute, phase=None, in_flight=None)
    follower = Follower(aws.access(kept=False), [node], START, clock=lambda: START + 3)
    assert [one.ended for looks in follower.looks() for one in looks] == ["gone"]
    [drained] = follower.results([])
    assert not drained.ok
    assert "not allowed: logs.filter_log_events" in str(drained)


def test_an_undrain_waits_for_its_answer_though_aws_fails(aws: Any) -> None:
    """It was asked for already: whoever asked wants to know what came of it."""
    aws.failing = {"Logs_20140328.FilterLogEvents"}
    failed = json.dumps({"__type": "OperationAbortedException"})
    line = {"event": "node.undrained", "ts": START, "instance_id": "i-1"}
    answered = json.dumps({"events": [{"message": json.dumps(line)}]})
    aws.answers["FilterLogEvents"] = failed

    def pause(_: float) -> None:
        aws.failing, aws.answers["FilterLogEvents"] = set(), answered

    found = await_undrained(aws.access(), ["i-1"], START, clock=lambda: START, pause=pause)
    assert found == {"i-1": UNDRAINED}


def test_the_control_function_tells_of_nodes_that_are_out_of_reach(
    aws: Any, make_node: Any, mute: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says stands for the node's own word."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    aws.answers["gf-prod-control/invocations"] = json.dumps({"states": {"i-1": {"phase": "empty"}}})
    follower = Follower(
        aws.access(kept=False), [make_node("i-1", address=mute)], START, clock=lambda: START + 3
    )
    assert [one.ended for looks in follower.looks() for one in looks] == ["empty"]


def ended(how: Ended) -> Drained:
    return judge(Observed("i-1", "model", "model", how, 1.0, 0), {}, 1.0)


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        (("empty", "gone"), 0),
        (("empty", "dead"), 4),
        (("undrained",), 4),
        (("empty", "not in time"), 9),
        (("dead", "not in time"), 9),
    ],
)
def test_a_wait_ends_by_its_worst_drain(ends: tuple[Ended, ...], code: int) -> None:
    """One that is still not empty is told before those that came to a bad end."""
    assert exit_code([ended(how) for how in ends]) == code


def test_many_requests_that_were_cut_over_are_named_in_json(
    aws: Any, make_node: Any, node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    """People see the first twenty of them, how many more there are, and why they count."""
    names = [f"r{number}" for number in range(25)]
    node.drains("empty", 0, handed_over=27, handed_over_ids=names)
    target = make_node(address=node.address)
    assert wait_for(aws.access(), [target], [target], time.time(), granted_s=1.0) == 4
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[1] == "  r0  cut over, no gateway went on with it"
    assert lines[20:] == [
        "  r19  cut over, no gateway went on with it",
        "  and 5 more (--json names them)",
        "  2 more, of which no id is known",
    ]
    assert "shorter than a spot notice's" in said.err
    assert wait_for(aws.access(), [target], [target], time.time(), granted_s=1.0, as_json=True) == 4
    (told,) = json.loads(capsys.readouterr().out)["nodes"]
    assert [one["request_id"] for one in told["cut_over"]] == names
