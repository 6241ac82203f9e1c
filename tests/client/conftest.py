"""A scripted service, and both clients behind one face."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from goldenfleet_client import AsyncClient, Chunk, Client, Event, Generation, GoldenfleetError

from tests.client.scripted import Acts, Service


@dataclass
class Outcome:
    chunks: list[str]
    result: Generation | None
    error: GoldenfleetError | None

    @property
    def text(self) -> str:
        return "".join(self.chunks)


class Caller:
    """Client or AsyncClient, called the same way."""

    def __init__(self, kind: str, url: str, **settings: Any) -> None:
        self.events: list[Event] = []
        settings = {"model": "m", "random": lambda: 0.0, "on_event": self.events.append, **settings}
        self._runner = asyncio.Runner() if kind == "async" else None
        self.client: Any = AsyncClient(url, **settings) if self._runner else Client(url, **settings)

    def call(self, method: str, *args: Any, **options: Any) -> Any:
        made = getattr(self.client, method)(*args, **options)
        return self._runner.run(made) if self._runner else made

    def outcome(self, method: str, *args: Any, **options: Any) -> Outcome:
        """Of a call that is not streamed."""
        try:
            return Outcome([], self.call(method, *args, **options), None)
        except GoldenfleetError as exc:
            return Outcome([], None, exc)

    def read(self, chat: bool = False, take: int | None = None, **options: Any) -> Outcome:
        """A stream, to its end or to `take` chunks and then closed."""
        what = [{"role": "user", "content": "Sing!"}] if chat else "Sing!"
        return self.read_of("chat_stream" if chat else "generate_stream", what, take, **options)

    def read_of(self, method: str, what: Any, take: int | None = None, **options: Any) -> Outcome:
        stream = getattr(self.client, method)(what, **options)
        chunks: list[str] = []
        try:
            self._iterate(stream, chunks, take)
        except GoldenfleetError as exc:
            return Outcome(chunks, None, exc)
        return Outcome(chunks, None if take is not None else stream.result, None)

    def _iterate(self, stream: Any, chunks: list[str], take: int | None) -> None:
        async def iterate() -> None:
            async with stream:
                async for chunk in stream:
                    chunks.append(chunk.text)
                    if len(chunks) == take:
                        return

        if self._runner:
            self._runner.run(iterate())
            return
        with stream:
            for chunk in stream:
                assert isinstance(chunk, Chunk)
                chunks.append(chunk.text)
                if len(chunks) == take:
                    return

    def close(self) -> None:
        if self._runner:
            self._runner.run(self.client.aclose())
            self._runner.close()
        else:
            self.client.close()


@pytest.fixture
def acts() -> type[Acts]:
    return Acts


@pytest.fixture
def services() -> Iterator[Callable[..., Service]]:
    """Makes services; closes them all."""
    made: list[Service] = []

    def make(*args: Any) -> Service:
        made.append(Service(*args))
        return made[-1]

    yield make
    for service in made:
        service.close()


@pytest.fixture
def service(services: Callable[..., Service]) -> Service:
    return services()


@pytest.fixture(params=["sync", "async"])
def callers(request: pytest.FixtureRequest) -> Iterator[Callable[..., Caller]]:
    """Makes callers of one kind; closes them all."""
    made: list[Caller] = []

    def make(url: str, **settings: Any) -> Caller:
        made.append(Caller(request.param, url, **settings))
        return made[-1]

    yield make
    for caller in made:
        caller.close()


@pytest.fixture
def caller(callers: Callable[..., Caller], service: Service) -> Caller:
    return callers(service.url)
