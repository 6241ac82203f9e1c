"""Fleets in memory, in the words of the on-call package, and an AWS whose every answer a test sets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest

from fleet.oncall.aws import Aws
from fleet.oncall.kept import Kept
from fleet.oncall.snapshot import NodeView, Snapshot, TierView

NOW = 1_700_000_000.0

_GROUP = """<member><AutoScalingGroupName>g-{0}</AutoScalingGroupName><Instances/><Tags><member>
<Key>goldenfleet:stack</Key><Value>{0}</Value></member></Tags></member>"""
_INSTANCES = """<DescribeInstancesResponse><reservationSet><item><instancesSet><item>
<instanceId>i-1</instanceId><instanceState><code>0</code><name>{}</name></instanceState>
</item></instancesSet></item></reservationSet></DescribeInstancesResponse>"""

MakeNode = Callable[..., NodeView]
MakeTier = Callable[..., TierView]
MakeSnapshot = Callable[..., Snapshot]


@pytest.fixture
def make_node() -> MakeNode:
    def make(instance_id: str = "i-0aaa000000000000a", **fields: Any) -> NodeView:
        shape: dict[str, Any] = {
            "instance_id": instance_id,
            "tier": "model",
            "address": "10.0.16.4",
            "purchase_option": "spot",
            "instance_type": "g6.xlarge",
            "availability_zone": "us-east-1a",
            "launched_at": NOW - 3600,
            "lifecycle_state": "InService",
            "target_state": "healthy",
            "phase": "serving",
            "in_flight": 3,
            "deadline": None,
            "reason": None,
            "image_id": "ami-1",
            "hourly_price": 0.3,
            "name": "gf-prod-model",
            "role": "model",
            "ready": True,
            **fields,
        }
        return NodeView(**shape)

    return make


@pytest.fixture
def make_tier() -> MakeTier:
    def make(name: str = "model", **fields: Any) -> TierView:
        shape: dict[str, Any] = {
            "name": name,
            "role": "gateway" if name == "gateway" else "model",
            "group": f"gf-prod-{name}-1a2b3c4",
            "min": 1,
            "desired": 2,
            "max": 4,
            "in_service": 2,
            "pending": 0,
            "on_demand_base": 1,
            "image_id": "ami-1",
            "channel_image_id": "ami-1",
            "configured_base": 1,
            **fields,
        }
        return TierView(**shape)

    return make


@pytest.fixture
def make_snapshot(make_tier: MakeTier, make_node: MakeNode) -> MakeSnapshot:
    def make(
        nodes: tuple[NodeView, ...] | None = None, tiers: tuple[TierView, ...] | None = None, at: float = NOW
    ) -> Snapshot:
        if tiers is None:
            tiers = (make_tier("gateway"), make_tier("model"))
        return Snapshot(at, "prod", tiers, (make_node(),) if nodes is None else nodes)

    return make


class Answering:
    """AWS over HTTP: `answers` by action, or by the end of the path; else `body`, with `status`. What is
    `silent` is never answered."""

    def __init__(self) -> None:
        self.status, self.body = 200, ""
        self.answers: dict[str, str] = {}
        self.failing: set[str] = set()
        self.silent: set[str] = set()
        self.hangs, self.over = threading.Event(), threading.Event()
        answering = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
                action = self.headers.get("x-amz-target") or parse_qs(asked).get("Action", [self.path])[0]
                if action in answering.silent:
                    answering.hangs.set()
                    answering.over.wait()
                    return
                answer = answering.answer(action).encode()
                self.send_response(answering.status if action not in answering.failing else 400)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args: object) -> None:
                del args

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, action: str) -> str:
        return next((body for key, body in self.answers.items() if action.endswith(key)), self.body)

    def refuses(self, code: str, status: int = 403) -> None:
        self.status = status
        self.body = (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>no</Message></Error>"
            "<RequestId>1</RequestId></ErrorResponse>"
        )

    def has(self, *stacks: str) -> None:
        groups = "".join(_GROUP.format(stack) for stack in stacks)
        self.body = (
            "<DescribeAutoScalingGroupsResponse><DescribeAutoScalingGroupsResult><AutoScalingGroups>"
            f"{groups}</AutoScalingGroups></DescribeAutoScalingGroupsResult>"
            "</DescribeAutoScalingGroupsResponse>"
        )

    def instance_is(self, state: str) -> None:
        self.answers["DescribeInstances"] = _INSTANCES.format(state)

    def access(self, *, kept: bool = True) -> Aws:
        """As a command has it: to a rehearsal that is kept, or to AWS itself (AWS_ENDPOINT_URL is set)."""
        there = Kept(1, "1", "prod", "us-east-1", self.url, self.url, "/nowhere", 1.0)
        return Aws("prod", boto3.Session("a", "b", region_name="us-east-1"), there if kept else None)


@pytest.fixture
def aws() -> Iterator[Answering]:
    answering = Answering()
    thread = threading.Thread(target=answering.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield answering
    answering.over.set()
    answering.server.shutdown()
    answering.server.server_close()
    thread.join()
