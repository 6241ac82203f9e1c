"""The engine beside a model node: started where it is ours, and asked for a token again and again."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from server.drain import EventLog
from server.http.client import UpstreamPool
from server.http.errors import BodyTooLarge, UpstreamError
from server.readiness import Readiness
from server.settings import Settings

_LOADING_POLL_S = 0.2
# A probe that waits behind a burst may fail once without the engine being sick.
_SICK_AFTER = 2
_MAX_ANSWER = 1024 * 1024


class EngineFailed(Exception):
    """The engine ended, or never became ready: this node is of no use."""


async def start_engine(settings: Settings) -> asyncio.subprocess.Process:
    """The embedded engine as a child in our process group, so that what ends us ends it. Raises OSError."""
    arguments = ("--host", settings.address, "--port", str(settings.engine_port))
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "server.engine", *arguments)


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

    vLLM's own /health may stay 200 after a GPU fault (vllm#36960), so the proof is one token.
    """

    def __init__(
        self,
        base_url: str,
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
        parts = urlsplit(base_url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
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
            await self._sleep(self._interval_s)
            problem = await self.problem()
            failures = failures + 1 if problem else 0
            self._set(failures < _SICK_AFTER, problem)

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
            await self._sleep(_LOADING_POLL_S)
        self._set(True, None)

    async def _one_token(self) -> str | None:
        models = await self._ask("GET", "/v1/models", b"")
        model = json.loads(models)["data"][0]["id"]
        order = {"model": model, "prompt": "a", "max_tokens": 1, "temperature": 0}
        answer = await self._ask("POST", "/v1/completions", json.dumps(order).encode())
        return None if json.loads(answer)["choices"] else "the engine answered without a choice"

    async def _ask(self, method: str, target: str, body: bytes) -> bytes:
        headers = [(b"content-type", b"application/json")]
        async with self._pool.request(self._address, method, target, headers, body) as response:
            answer = await response.read(_MAX_ANSWER)
            if response.status != 200:
                raise ValueError(f"status {response.status}")
            return answer

    def _set(self, holds: bool, problem: str | None) -> None:
        if self._readiness.set("engine", holds):
            self._log.info("engine.ready" if holds else "engine.sick", problem=problem)
