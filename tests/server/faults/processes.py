"""Gateways, nodes and engines as real processes, which get real signals."""

import asyncio
import itertools
import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from server.settings import Settings

ROOT = Path(__file__).parents[3]
PATIENCE_S = 40.0
_addresses = itertools.count(4)


def free_address() -> str:
    """A loopback address that no other test process uses: every port on it is free."""
    return f"127.{60 + os.getpid() % 40}.{os.getpid() // 40 % 250}.{next(_addresses)}"


@dataclass
class Running:
    """A process with its log. `address` is host:port of its serving port."""

    process: asyncio.subprocess.Process
    address: str = ""
    admin: str = ""
    lines: list[dict[str, Any]] = field(default_factory=list)
    said: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line.get("event") == name]

    async def event(self, name: str, count: int = 1) -> dict[str, Any]:
        """The line number `count` of this event, once it is there."""
        async with asyncio.timeout(PATIENCE_S):
            while len(found := self.events(name)) < count:
                self.said.clear()
                await self.said.wait()
        return found[count - 1]

    async def follow(self) -> None:
        """Reads what it logs for as long as it runs."""
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            if line.startswith(b"{"):
                self.lines.append(json.loads(line))
                self.said.set()


@dataclass
class Stage:
    """Starts processes, and ends them after the test."""

    session: aiohttp.ClientSession
    running: list[Running] = field(default_factory=list)
    following: list[asyncio.Task[None]] = field(default_factory=list)

    async def engine(self) -> Running:
        started = Running(await self._spawn("-m", "tests.server.faults.engine"))
        assert started.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            started.address = f"127.0.0.1:{int(await started.process.stdout.readline())}"
        self.running.append(started)
        return started

    async def control(self, engine: Running, mode: str) -> None:
        async with self.session.post(f"http://{engine.address}/control", data=mode) as response:
            assert response.status == 200

    async def node(self, engine: Running, **settings: Any) -> Running:
        node = await self._server("model", engine="vllm", engine_url=f"http://{engine.address}", **settings)
        await node.event("server.ready")
        return node

    async def gateway(self, *nodes: Running, **settings: Any) -> Running:
        listed = "static:" + ",".join(node.address for node in nodes)
        return await self._server("gateway", nodes=listed, **settings)

    async def _server(self, role: str, **settings: Any) -> Running:
        fields = {"address": "127.0.0.1", "port": 0, "admin_port": 0, "imds_endpoint": "off"} | settings
        if "auth" in Settings.model_fields:
            fields.setdefault("auth", "off")
        env = {f"GOLDENFLEET_{name.upper()}": str(value) for name, value in fields.items()}
        server = Running(await self._spawn("-m", "server", "--role", role, "--stack", "test", **env))
        self.running.append(server)
        self.following.append(asyncio.create_task(server.follow()))
        started = await server.event("server.started")
        server.address = f"{fields['address']}:{started['port']}"
        server.admin = f"{fields['address']}:{started['admin_port']}"
        return server

    async def _spawn(self, *arguments: str, **env: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **env},
            start_new_session=True,
        )

    async def aclose(self) -> None:
        for running in self.running:
            with suppress(ProcessLookupError):
                os.killpg(running.process.pid, signal.SIGKILL)
        for running in self.running:
            await running.process.wait()
        await asyncio.gather(*self.following)
