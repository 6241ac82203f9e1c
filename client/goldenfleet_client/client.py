"""`Client` and `AsyncClient`: the same calls, blocking or awaited."""

from __future__ import annotations

import random as chance
import ssl
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Self, TypedDict, TypeVar, Unpack

from ._addresses import Resolver, system_resolver
from ._answers import parse_generation, parse_models
from ._async import AsyncPools, AsyncRun, AsyncStream, AsyncWire
from ._calls import Message, Request, generation
from ._plan import Means, Script, stream, unary
from ._retry import RetryBudget
from ._sync import Pools, Run, Stream, Wire
from ._wire import Endpoint, header_value
from .errors import ConfigurationError
from .types import Event, EventHook, Generation, Model, RetryPolicy, Timeouts

T = TypeVar("T")

_DEFAULT_MAX_TOKENS = 256


class Options(TypedDict, total=False):
    """What a call may add. `extra` goes into the request as it is; a stream that was cut is continued only
    if `extra` holds nothing that could change meaning in a continuation (top_k, min_p, user are known)."""

    model: str
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    stop: str | Sequence[str]
    extra: Mapping[str, object]
    timeouts: Timeouts
    request_id: str


_SAMPLING = ("temperature", "top_p", "seed", "stop")


def _new_id() -> str:
    return uuid.uuid4().hex


def _ignore(_event: Event) -> None:
    return None


class _Calls:
    """What both clients share: from a call's arguments to its script; no I/O.

    `api_key` goes out as a bearer token. `model` is what calls use that name none. One retry budget
    (`budget_ratio` of the requests of the last 10 s, at least `budget_minimum`) serves all calls.
    `on_event` is called in the caller's own thread or task; what it raises is logged and goes no further.
    `verify` as in httpx2; proxies from the environment are not used. `resolver` gives every address of a
    host. `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        model: str | None = None,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        budget_ratio: float = 0.2,
        budget_minimum: int = 3,
        on_event: EventHook = _ignore,
        verify: ssl.SSLContext | bool = True,
        resolver: Resolver = system_resolver,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = chance.random,
        new_id: Callable[[], str] = _new_id,
    ) -> None:
        self._endpoint = Endpoint(base_url, resolver, clock, random)
        self._budget = RetryBudget(clock, ratio=budget_ratio, minimum=budget_minimum)
        self._headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if api_key == "":
            raise ConfigurationError("api_key is empty: is its environment variable set?")
        if api_key is not None:
            self._headers["authorization"] = f"Bearer {header_value('api_key', api_key)}"
        self._model = model
        self._timeouts = timeouts or Timeouts()
        self._policy = retry or RetryPolicy()
        self._on_event = on_event
        self._clock = clock
        self._random = random
        self._new_id = new_id
        self._closed = False
        self._open(self._endpoint.tls(verify))

    def _open(self, tls: ssl.SSLContext) -> None:
        """The client's own connections."""

    def _whole(
        self, prompt: str | Sequence[int] | None, messages: Sequence[Message] | None, options: Options
    ) -> Script[Generation]:
        request = self._request(prompt, messages, options, streamed=False)
        return unary(self._means(options), request, parse_generation)

    def _streamed(
        self, prompt: str | Sequence[int] | None, messages: Sequence[Message] | None, options: Options
    ) -> Script[Generation]:
        return stream(self._means(options), self._request(prompt, messages, options, streamed=True))

    def _models(self, timeouts: Timeouts | None) -> Script[tuple[Model, ...]]:
        means = self._means({} if timeouts is None else {"timeouts": timeouts})
        return unary(means, Request("GET", "/v1/models"), parse_models)

    def _request(
        self,
        prompt: str | Sequence[int] | None,
        messages: Sequence[Message] | None,
        options: Options,
        *,
        streamed: bool,
    ) -> Request:
        if unknown := sorted(options.keys() - Options.__annotations__.keys()):
            raise ConfigurationError(f"unknown option {', '.join(unknown)}: pass fields of the API in extra")
        return generation(
            model=options.get("model", self._model),
            prompt=prompt,
            messages=messages,
            max_tokens=options.get("max_tokens", _DEFAULT_MAX_TOKENS),
            stream=streamed,
            options={name: options.get(name) for name in _SAMPLING},
            extra=options.get("extra", {}),
        )

    def _means(self, options: Options) -> Means:
        if self._closed:
            raise ConfigurationError("the client is closed")
        return Means(
            clock=self._clock,
            today=lambda: datetime.now(UTC),
            random=self._random,
            budget=self._budget,
            policy=self._policy,
            timeouts=options.get("timeouts", self._timeouts),
            headers=self._headers,
            request_id=header_value("request_id", options.get("request_id") or self._new_id()),
        )


class Client(_Calls):
    """Calls a Goldenfleet endpoint, or anything that speaks OpenAI's API. Threads may share one.

    Every call raises GoldenfleetError (see errors.py). A single trickling response head is limited only
    by the silence between its bytes, a name's look-up by the system's resolver; all else by the deadline.
    """

    def _open(self, tls: ssl.SSLContext) -> None:
        self._pools = Pools(tls)

    def generate(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Generation:
        return self._finish(self._whole(prompt, None, options))

    def generate_stream(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Stream:
        """Nothing is sent before the first iteration."""
        return Stream(self._start(self._streamed(prompt, None, options)))

    def chat(self, messages: Sequence[Message], **options: Unpack[Options]) -> Generation:
        return self._finish(self._whole(None, messages, options))

    def chat_stream(self, messages: Sequence[Message], **options: Unpack[Options]) -> Stream:
        """Nothing is sent before the first iteration."""
        return Stream(self._start(self._streamed(None, messages, options)))

    def models(self, *, timeouts: Timeouts | None = None) -> tuple[Model, ...]:
        return self._finish(self._models(timeouts))

    def _start(self, script: Script[T]) -> Run[T]:
        return Run(script, Wire(self._endpoint, self._pools), self._on_event)

    def _finish(self, script: Script[T]) -> T:
        run = self._start(script)
        run.advance()
        assert run.result is not None
        return run.result

    def close(self) -> None:
        self._closed = True
        self._pools.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient(_Calls):
    """Client's calls, awaited; for one asyncio event loop. Cancelling a call closes its connection."""

    def _open(self, tls: ssl.SSLContext) -> None:
        self._pools = AsyncPools(tls)

    async def generate(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Generation:
        return await self._finish(self._whole(prompt, None, options))

    def generate_stream(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> AsyncStream:
        """Nothing is sent before the first iteration."""
        return AsyncStream(self._start(self._streamed(prompt, None, options)))

    async def chat(self, messages: Sequence[Message], **options: Unpack[Options]) -> Generation:
        return await self._finish(self._whole(None, messages, options))

    def chat_stream(self, messages: Sequence[Message], **options: Unpack[Options]) -> AsyncStream:
        """Nothing is sent before the first iteration."""
        return AsyncStream(self._start(self._streamed(None, messages, options)))

    async def models(self, *, timeouts: Timeouts | None = None) -> tuple[Model, ...]:
        return await self._finish(self._models(timeouts))

    def _start(self, script: Script[T]) -> AsyncRun[T]:
        return AsyncRun(script, AsyncWire(self._endpoint, self._pools), self._on_event)

    async def _finish(self, script: Script[T]) -> T:
        run = self._start(script)
        await run.advance()
        assert run.result is not None
        return run.result

    async def aclose(self) -> None:
        self._closed = True
        await self._pools.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.aclose()
