"""The same requests by each client, while gateways are killed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

from bench.answers import prompt_of
from bench.clients.scene import Losses, Scene
from bench.clients.subjects import Kind, Subject
from bench.errors import OutOfTime
from bench.figures import quantile
from bench.tokens import KEYS, read_prompt, text_of

Verdict = Literal["ok", "lost", "unbegun", "cut", "short", "wrong"]


@dataclass(frozen=True)
class Crowd:
    """How many requests, by how many at once, of how many tokens; every second one streams."""

    requests: int = 2000
    at_once: int = 48
    tokens: int = 24
    kill_every_s: float = 5.0


@dataclass(frozen=True)
class Row:
    """What one client met. `lost`: whole answers that were none; `unbegun`: streams that failed before they
    began, and could have been asked for again; `cut`: streams that broke off later; `short`: answers
    that ended too early and without an error; `wrong`: other text than was asked for."""

    name: str
    counts: Counter[Verdict]
    losses: Losses
    resumed: int
    seconds: Sequence[float]
    errors: Counter[str]

    @property
    def asked(self) -> int:
        return self.counts.total()

    @property
    def p50_s(self) -> float:
        return quantile(self.seconds, 0.5)

    @property
    def slowest_s(self) -> float:
        return self.seconds[-1] if self.seconds else 0.0


async def measure(
    scene: Scene, kinds: Sequence[Kind], crowd: Crowd, limit_s: float, say: Callable[[str], None]
) -> list[Row]:
    """A row for each. Raises OutOfTime and ProcessFailed."""
    rows = []
    for kind in kinds:
        await scene.whole()
        try:
            async with asyncio.timeout(limit_s):
                rows.append(await _row(scene, kind, crowd))
        except TimeoutError as exc:
            raise OutOfTime(f"{kind.name} was not done in {limit_s:.0f} s: lower --requests") from exc
        say(_said(rows[-1]))
    return rows


def _said(row: Row) -> str:
    failed = ", ".join(f"{count} {verdict}" for verdict, count in row.counts.items() if verdict != "ok")
    errors = "; ".join(f"{count}x {error}" for error, count in row.errors.most_common(4))
    return (
        f"{row.name}: {row.losses.kills} kills, {failed or 'nothing lost'}{f' ({errors})' if errors else ''}"
    )


async def _row(scene: Scene, kind: Kind, crowd: Crowd) -> Row:
    subject, losses = kind.make(scene.base_url), Losses()
    killing = asyncio.create_task(scene.kill_in_turn(crowd.kill_every_s, losses))
    try:
        counted = await ask_all(subject, crowd)
    finally:
        killing.cancel()
        [ended] = await asyncio.gather(killing, return_exceptions=True)
        await subject.aclose()
    if isinstance(ended, Exception):
        raise ended
    return Row(kind.name, counted.counts, losses, subject.resumed, sorted(counted.seconds), counted.errors)


async def ask_all(subject: Subject, crowd: Crowd) -> Counted:
    """The whole crowd's requests."""
    counted = Counted(subject, crowd)
    async with asyncio.TaskGroup() as asking:
        for _ in range(crowd.at_once):
            asking.create_task(counted.ask_on())
    return counted


class Counted:
    """Workers take the next request as soon as they have had the last answer."""

    def __init__(self, subject: Subject, crowd: Crowd) -> None:
        self._subject = subject
        self._crowd = crowd
        self._numbers: Iterator[int] = iter(range(crowd.requests))
        self.counts: Counter[Verdict] = Counter()
        self.errors: Counter[str] = Counter()
        self.seconds: list[float] = []

    async def ask_on(self) -> None:
        for number in self._numbers:
            began = time.monotonic()
            verdict = await (self._stream(number) if number % 2 else self._whole(number))
            self.counts[verdict] += 1
            if verdict == "ok":
                self.seconds.append(time.monotonic() - began)

    async def _whole(self, number: int) -> Verdict:
        prompt, expected = self._asked(number)
        try:
            said = await self._subject.whole(prompt, self._crowd.tokens)
        except Exception as exc:  # noqa: BLE001  whatever a client raises, its user has no answer
            return self._failed(exc, "lost")
        return _judged(said, expected)

    async def _stream(self, number: int) -> Verdict:
        prompt, expected = self._asked(number)
        said, begun = "", False
        try:
            pieces: Any = self._subject.stream(prompt, self._crowd.tokens)
            async with aclosing(pieces):
                async for piece in pieces:
                    said, begun = said + piece, True
        except Exception as exc:  # noqa: BLE001  whatever a client raises, its user has no answer
            return self._failed(exc, "cut" if begun else "unbegun")
        return _judged(said, expected)

    def _asked(self, number: int) -> tuple[str, str]:
        key = number % KEYS
        prompt = prompt_of(key)
        return prompt, text_of(key, len(read_prompt({"prompt": prompt}).ids), self._crowd.tokens)

    def _failed(self, exc: Exception, verdict: Verdict) -> Verdict:
        # Without what differs from one request to the next.
        self.errors[f"{type(exc).__name__}: {str(exc).partition(' (request')[0][:120]}"] += 1
        return verdict


def _judged(said: str, expected: str) -> Verdict:
    if said == expected:
        return "ok"
    return "short" if expected.startswith(said) else "wrong"
