"""Requests offered at a steady rate, whatever becomes of them, and what their clients notice."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import aiohttp

from tests.server.faults.engine import text_of

STREAM_TOKENS = 64
UNARY_TOKENS = 16
PATIENCE_S = 40.0


@dataclass
class Load:
    """`seconds` of 12 plain requests and 6 streams a second. `noticed` is all that clients saw go wrong."""

    session: aiohttp.ClientSession
    url: str
    rng: Random
    seconds: float = 5.0
    unary_per_s: float = 12.0
    streams_per_s: float = 6.0
    noticed: list[str] = field(default_factory=list)
    tokens: int = 0
    answered: int = 0
    offered: int = 0
    _marks: dict[int, asyncio.Event] = field(default_factory=dict)

    def seen(self, tokens: int) -> asyncio.Event:
        """Set when clients have got so many tokens of streams in all."""
        return self._marks.setdefault(tokens, asyncio.Event())

    async def run(self) -> None:
        """Until every request is over, well or not."""
        loop = asyncio.get_running_loop()
        tasks: list[asyncio.Task[None]] = []
        done = asyncio.Event()
        self.offered = 0
        for rate, ask in ((self.unary_per_s, self._unary), (self.streams_per_s, self._stream)):
            for number in range(int(self.seconds * rate)):
                at = (number + self.rng.random()) / rate
                loop.call_later(at, lambda ask=ask: tasks.append(loop.create_task(self._try(ask))))
                self.offered += 1
        loop.call_later(self.seconds, done.set)
        await done.wait()
        await asyncio.gather(*tasks)

    async def _try(self, ask: Callable[[str], Any]) -> None:
        prompt = "p" * self.rng.randrange(1, 40)
        try:
            async with asyncio.timeout(PATIENCE_S):
                problem = await ask(prompt)
        except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
            problem = f"{ask.__name__}: {type(exc).__name__} {exc}"
        if problem:
            self.noticed.append(problem)
        self.answered += 1

    async def _unary(self, prompt: str) -> str | None:
        body = {"prompt": prompt, "max_tokens": UNARY_TOKENS}
        async with self.session.post(f"{self.url}/v1/completions", json=body) as response:
            answer = await response.json()
            if response.status != 200:
                return f"unary: {response.status} {answer}"
            return _compare("unary", answer["choices"][0]["text"], text_of(len(prompt), UNARY_TOKENS))

    async def _stream(self, prompt: str) -> str | None:
        body = {"prompt": prompt, "max_tokens": STREAM_TOKENS, "stream": True}
        text, reason, done = "", None, False
        async with self.session.post(f"{self.url}/v1/completions", json=body) as response:
            if response.status != 200:
                return f"stream: {response.status} {await response.text()}"
            async for line in response.content:
                if not line.startswith(b"data: "):
                    continue
                done = line == b"data: [DONE]\n"
                chunk = {} if done else json.loads(line[6:])
                if "error" in chunk:
                    return f"stream: {chunk['error']}"
                for choice in chunk.get("choices", ()):
                    text += choice["text"]
                    reason = choice["finish_reason"] or reason
                    self._count(len(choice["text"]))
        if not done or reason != "length":
            return f"stream: truncated after {len(text)} tokens"
        return _compare("stream", text, text_of(len(prompt), STREAM_TOKENS))

    def _count(self, tokens: int) -> None:
        self.tokens += tokens
        for mark, event in self._marks.items():
            if self.tokens >= mark:
                event.set()


def _compare(what: str, got: str, expected: str) -> str | None:
    return None if got == expected else f"{what}: {got!r} instead of {expected!r}"
