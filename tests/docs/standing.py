"""The rehearsal's stack as the person on call meets it: an emulated AWS, nodes with admin ports, control.

In this process but for the control handler. Nodes serve nobody: what is real of them is their drain, their
readiness and their admin port.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from fleet.oncall import kept
from fleet.rehearsal.cloud import Cloud, InstanceView
from fleet.rehearsal.engine import PulumiEngine
from fleet.rehearsal.nodes import REGION, aws_environment
from server.admin import Admin, bound, serve_admin
from server.drain import Drain
from server.readiness import Readiness
from server.telemetry import Telemetry, open_log

PROJECT = Path(__file__).parents[2]
STACK = "rehearsal"
TIME_SCALE = 0.1
DEADLINE_S = 60.0
SERVING_PORT, ADMIN_PORT = 8080, 9090


class Node:
    """What answers on an instance's address."""

    def __init__(self, instance: InstanceView, home: Path) -> None:
        self._instance = instance
        home.mkdir(parents=True)
        self._file = (home / "log.jsonl").open("w", encoding="utf-8", buffering=1)
        self.log = open_log(role=instance.tier or "", instance_id=instance.instance_id, file=self._file)
        loop = asyncio.get_running_loop()
        self.drain = Drain(clock=time.time, call_later=loop.call_later, log=self.log, entered=str)
        self._open = AsyncExitStack()

    async def start(self) -> None:
        telemetry, readiness = Telemetry(self.log), Readiness([], bool)
        admin = Admin(
            self._instance.instance_id,
            self._instance.tier or "",
            self.drain,
            readiness,
            telemetry,
            time.time,
            time.time(),
        )
        listener = self._open.enter_context(bound(self._instance.address, ADMIN_PORT))
        await self._open.enter_async_context(serve_admin(admin.app(), listener))
        server = await asyncio.start_server(self._answer, self._instance.address, SERVING_PORT)
        await self._open.enter_async_context(server)
        self.log.info("server.ready")

    def lose_a_request(self) -> None:
        """As a gateway that had no node to ask."""
        self.log.info("request.ended", outcome="no_nodes", status=503, attempts=3, nodes=["10.0.16.5"])

    async def stop(self) -> None:
        await self._open.aclose()
        self._file.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """GET /ready, which is all that a health check asks."""
        await reader.readuntil(b"\r\n\r\n")
        status = b"503 Service Unavailable" if self.drain.draining else b"200 OK"
        writer.write(b"HTTP/1.1 %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
        await writer.drain()
        writer.close()


@dataclass
class Nodes:
    """The cloud's listener: every instance gets its node, on one event loop in a thread."""

    home: Path
    running: dict[str, Node] = field(default_factory=dict)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def launched(self, instance: InstanceView) -> None:
        self._do(self._launch(instance))

    def killed(self, instance_id: str) -> None:
        if instance_id in self.running:
            self._do(self.running.pop(instance_id).stop())

    def hold(self, instance_id: str, requests: int) -> None:
        """So many requests begin there, and do not end."""

        async def enter() -> None:
            for _ in range(requests):
                self.running[instance_id].drain.enter()

        self._do(enter())

    def close(self) -> None:
        for instance_id in list(self.running):
            self.killed(instance_id)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _launch(self, instance: InstanceView) -> None:
        node = Node(instance, self.home / "nodes" / instance.instance_id)
        await node.start()
        self.running[instance.instance_id] = node

    def _do(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE_S)


@dataclass
class Standing:
    cloud: Cloud
    nodes: Nodes
    outputs: Mapping[str, Any]
    environment: Mapping[str, str]
    """By which any program finds the fleet, as it finds one on AWS."""

    def client(self, service: str) -> Any:
        given = self.environment
        return boto3.client(  # type: ignore[call-overload]
            service,
            endpoint_url=given["AWS_ENDPOINT_URL"],
            region_name=REGION,
            aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
        )

    def of(self, tier: str, option: str | None = None) -> list[InstanceView]:
        """In service and healthy, oldest first."""
        return [
            one
            for one in self.cloud.instances()
            if one.tier == tier
            and one.purchase_option in (option or one.purchase_option)
            and (one.lifecycle_state, one.target_state) == ("InService", "healthy")
        ]


@contextmanager
def standing(home: Path) -> Iterator[Standing]:
    """All of it, once every node serves."""
    nodes = Nodes(home)
    try:
        with Cloud(time_scale=TIME_SCALE, seed=1, listener=nodes) as cloud:
            outputs = _apply(cloud, home)
            fleet = Standing(cloud, nodes, outputs, _environment(cloud.endpoint_url, home))
            with _control(fleet, home), _kept(fleet, home):
                until(lambda: len(fleet.of("gateway")) >= 2 and len(fleet.of("model")) >= 3)
                for gateway in fleet.of("gateway"):
                    nodes.running[gateway.instance_id].lose_a_request()
                yield fleet
    finally:
        nodes.close()


def _apply(cloud: Cloud, home: Path) -> Mapping[str, Any]:
    document = yaml.safe_load((PROJECT / f"Pulumi.{STACK}.yaml").read_text())
    for tier in document["config"]["goldenfleet:tiers"]:
        cloud.register_image(tier["recipe"], STACK, tier["channel"])
    state = home / "state.json"
    return PulumiEngine(PROJECT, STACK, endpoint_url=cloud.endpoint_url, state_file=state).up().outputs


def _environment(endpoint_url: str, home: Path) -> dict[str, str]:
    programs = Path(sys.executable).parent
    return {
        **aws_environment(endpoint_url),
        "GOLDENFLEET_REHEARSAL": "1",
        "GOLDENFLEET_STACK": STACK,
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PATH": f"{_aws_command(home)}:{programs}:/usr/local/bin:/usr/bin:/bin",
        "XDG_STATE_HOME": str(home),
    }


def _aws_command(home: Path) -> Path:
    """A folder with an `aws` that finds every service where AWS_ENDPOINT_URL says: version 1 of the AWS CLI
    does not, for SQS (awscli/customizations/overridesslcommonname.py), and version 2 does.
    """
    programs = home / "bin"
    programs.mkdir()
    command = programs / "aws"
    real = Path(sys.executable).with_name("aws")
    command.write_text(f'#!/bin/sh\nexec {real} --endpoint-url "$AWS_ENDPOINT_URL" "$@"\n')
    command.chmod(0o700)
    return programs


@contextmanager
def _kept(fleet: Standing, home: Path) -> Iterator[None]:
    """Commands find it as they find a rehearsal that is kept."""
    pid = os.getpid()
    there = kept.Kept(
        pid, kept.born(pid) or "", STACK, REGION, fleet.cloud.endpoint_url, "", str(home), TIME_SCALE
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(home))
        with kept.told(there):
            yield


@contextmanager
def _control(fleet: Standing, home: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "fleet.control", "--queue-url", fleet.outputs["noticeQueueUrl"]]
    command += ["--stack", STACK, "--time-scale", str(TIME_SCALE), "--recheck-seconds", "1"]
    command += ["--log-group", f"/goldenfleet/{STACK}/control"]
    with (home / "control.out").open("w") as out:
        process = subprocess.Popen(command, env=dict(fleet.environment), cwd=home, stdout=out, stderr=out)
        try:
            yield
        finally:
            process.terminate()
            process.wait(DEADLINE_S)


def until(condition: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    limit, tick = time.monotonic() + deadline_s, threading.Event()
    while not condition():
        assert time.monotonic() < limit, "did not happen in time"
        tick.wait(0.02)


def missing_programs() -> list[str]:
    return [
        name for name in ("bash", "jq") if shutil.which(name, path=os.defpath + ":/usr/local/bin") is None
    ]
