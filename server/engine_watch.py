"""The engine beside a model node: started where it is ours, and asked for a token again and again."""

import asyncio
import ipaddress
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Literal
from urllib.parse import urlsplit

from server.drain import EventLog
from server.engines import Adapter
from server.engines.load import Load, read_load
from server.http.client import UpstreamPool
from server.http.errors import BodyTooLarge, UpstreamError
from server.readiness import Readiness
from server.settings import Settings
from server.wire.jsonbody import Json

_LOADING_POLL_S = 0.2
# A probe that waits behind a burst may fail once without the engine being sick.
_SICK_AFTER = 2
_MAX_ANSWER = 4 * 1024 * 1024
_FULL = "the engine is full"


class EngineFailed(Exception):
    """The engine ended, or never became ready: this node is of no use."""


async def start_engine(settings: Settings) -> asyncio.subprocess.Process:
    """The embedded engine as a child that ends when we do, however that comes. Raises OSError."""
    host, port = engine_address(settings.engine_base)
    arguments = ["--host", host, "--port", str(port), "--ends-with", str(os.getpid())]
    if settings.engine_model is not None:
        arguments += ["--served-model", settings.engine_model]
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "server.engine", *arguments)


def engine_address(base_url: str) -> tuple[str, int]:
    """Where the engine is. On a node that serves on every address it is loopback, closed to outside."""
    parts = urlsplit(base_url)
    host = parts.hostname or "127.0.0.1"
    try:
        unspecified = ipaddress.ip_address(host).is_unspecified
    except ValueError:
        unspecified = False
    return "127.0.0.1" if unspecified else host, parts.port or 80


async def stop_engine(engine: asyncio.subprocess.Process, grace_s: float) -> None:
    """Ask it to end, then end it."""
    if engine.returncode is not None:
        return
    engine.terminate()
    try:
        await asyncio.wait_for(engine.wait(), grace_s)
    except TimeoutError:
        engine.kill()
        await engine.wait()


class EngineProbe:
    """Keeps the condition `engine` of `readiness`: a health check that generates.

    vLLM's own /health may stay 200 after a GPU fault (vllm#36960), so the proof is one token. An engine that
    refuses for being full is as well as it was. `load` is what the engine's own metrics said last.
    """

    def __init__(
        self,
        base_url: str,
        adapter: Adapter,
        pool: UpstreamPool,
        readiness: Readiness,
        *,
        log: EventLog,
        interval_s: float,
        timeout_s: float,
        start_s: float,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.load = Load()
        self.problem_seen: str | None = "not asked yet"
        self._adapter = adapter
        self._loaded = False
        self._address = engine_address(base_url)
        self._pool = pool
        self._readiness = readiness
        self._log = log
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._start_s = start_s
        self._clock = clock
        self._sleep = sleep

    async def run(self) -> None:
        """Until cancelled. Raises EngineFailed when the engine does not become ready in `start_s` seconds."""
        await self._first_token()
        failures = 0
        while True:
            await self._read_load()
            await self._sleep(self._interval_s)
            problem = await self.problem()
            if problem == _FULL:
                continue
            failures = failures + 1 if problem else 0
            self._set(failures < _SICK_AFTER, problem)

    @property
    def state(self) -> Literal["loading", "ready", "sick"]:
        if not self._loaded:
            return "loading"
        return "sick" if self.problem_seen else "ready"

    def snapshot(self) -> dict[str, object]:
        """What GET /state shows of the engine."""
        return {
            "kind": self._adapter.kind,
            "state": self.state,
            "problem": self.problem_seen,
            "queued": self.load.queued,
            "running": self.load.running,
            "kv_used_ratio": self.load.kv_used_ratio,
        }

    async def problem(self) -> str | None:
        """Why the engine gives no token, or None if it gives one."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._one_token()
        except (UpstreamError, BodyTooLarge, TimeoutError) as exc:
            return str(exc) or "no token in time"
        except (ValueError, KeyError, IndexError, TypeError) as exc:
            return f"the engine's answer is not the OpenAI API: {type(exc).__name__}"

    async def _first_token(self) -> None:
        give_up_at = self._clock() + self._start_s
        while problem := await self.problem():
            if self._clock() > give_up_at:
                raise EngineFailed(f"the engine gave no token in {self._start_s:g} s: {problem}")
            self.problem_seen = problem
            await self._sleep(_LOADING_POLL_S)
        self._loaded = True
        self._set(True, None)

    async def _one_token(self) -> str | None:
        status, models = await self._ask("GET", "/v1/models", b"")
        if status != 200:
            return _said(status)
        model = json.loads(models)["data"][0]["id"]
        order: Json = {"model": model, "prompt": "a", "max_tokens": 1, "temperature": 0}
        if self._adapter.request is not None:
            order = self._adapter.request("completions", order)
        status, answer = await self._ask("POST", "/v1/completions", json.dumps(order).encode())
        if status != 200:
            return _said(status)
        return None if json.loads(answer)["choices"] else "the engine answered without a choice"

    async def _read_load(self) -> None:
        """What cannot be read is not known; it says nothing of the engine's health."""
        try:
            async with asyncio.timeout(self._timeout_s):
                status, text = await self._ask("GET", "/metrics", b"")
            self.load = read_load(self._adapter.gauges, text.decode()) if status == 200 else Load()
        except (UpstreamError, BodyTooLarge, TimeoutError, ValueError):
            self.load = Load()

    async def _ask(self, method: str, target: str, body: bytes) -> tuple[int, bytes]:
        headers = [(b"content-type", b"application/json")]
        async with self._pool.request(self._address, method, target, headers, body) as response:
            return response.status, await response.read(_MAX_ANSWER)

    def _set(self, holds: bool, problem: str | None) -> None:
        self.problem_seen = None if holds else problem
        if self._readiness.set("engine", holds):
            self._log.info("engine.ready" if holds else "engine.sick", problem=problem)


def _said(status: int) -> str:
    """TGI refuses with 429 what is beyond its --max-concurrent-requests."""
    return _FULL if status == 429 else f"the engine answered {status}"
