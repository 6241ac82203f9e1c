"""Carries scripts out on asyncio."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Generic, Self, TypeVar

import httpx2

from ._addresses import Route
from ._plan import BodyEnd, Command, Emit, HangUp, Head, Read, Reply, Script, Send, Tell, Wait
from ._retry import Failure
from ._wire import FOREIGN, FRESH, KEEPALIVE, KEPT, Endpoint, failure, head_of, tell
from .errors import ConfigurationError, GoldenfleetError
from .types import Chunk, EventHook, Generation

T = TypeVar("T")


class AsyncPools:
    """A client's connections: kept ones for first attempts, a fresh one for every later attempt."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._kept, self._fresh = (
            httpx2.AsyncClient(
                transport=httpx2.AsyncHTTPTransport(
                    verify=tls, limits=limits, trust_env=False, socket_options=KEEPALIVE
                ),
                trust_env=False,
            )
            for limits in (KEPT, FRESH)
        )

    async def send(self, request: httpx2.Request, *, fresh: bool) -> httpx2.Response:
        """Raises ConfigurationError where connections would be another event loop's."""
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise ConfigurationError("an AsyncClient serves one event loop: make one for each asyncio.run")
        return await (self._fresh if fresh else self._kept).send(request, stream=True)

    async def aclose(self) -> None:
        await self._kept.aclose()
        await self._fresh.aclose()


class AsyncWire:
    """The exchanges of one call, one at a time."""

    def __init__(self, endpoint: Endpoint, pools: AsyncPools) -> None:
        self._endpoint = endpoint
        self._pools = pools
        self._route = Route()
        self._response: httpx2.Response | None = None
        self._body: AsyncIterator[bytes] | None = None

    async def send(self, command: Send) -> Head | Failure:
        addresses, address = self._endpoint.addresses, ""
        try:
            async with asyncio.timeout(command.head_s):
                known = addresses.kept() or await asyncio.to_thread(addresses.look_up)
                address = self._route.choose(known, addresses.shunned(), self._endpoint.random())
                request = self._endpoint.request(command, address)
                self._response = await self._pools.send(request, fresh=command.fresh)
        except FOREIGN as exc:
            failed = failure(exc, began=False, others_left=self._route.others_left(addresses.kept()))
            if failed.kind == "unreachable" and address:
                addresses.shun(address)
            return failed
        # From here on each read is timed by itself.
        request.extensions["timeout"]["read"] = None
        self._body = self._response.aiter_bytes()
        return head_of(self._response)

    async def read(self, command: Read) -> bytes | BodyEnd | Failure:
        assert self._body is not None
        try:
            async with asyncio.timeout(command.timeout_s):
                return await anext(self._body, BodyEnd())
        except FOREIGN as exc:
            return failure(exc, began=True)

    async def hang_up(self) -> None:
        if self._response is not None:
            response, self._response = self._response, None
            await response.aclose()


class AsyncRun(Generic[T]):
    """One script on its way; ends its exchange however it ends."""

    def __init__(self, script: Script[T], wire: AsyncWire, tell: EventHook) -> None:
        self._script = script
        self._wire = wire
        self._tell = tell
        self._reply: Reply = None
        self.result: T | None = None

    async def advance(self) -> object | None:
        """The next piece, or None when the script has ended and `result` is set."""
        try:
            while not isinstance(command := self._script.send(self._reply), Emit):
                self._reply = await self._perform(command)
        except StopIteration as end:
            self.result = end.value
            await self.aclose()
            return None
        except BaseException:
            await self.aclose()
            raise
        self._reply = None
        return command.piece

    async def _perform(self, command: Command) -> Reply:
        match command:
            case Send():
                return await self._wire.send(command)
            case Read():
                return await self._wire.read(command)
            case HangUp():
                await self._wire.hang_up()
            case Wait():
                await asyncio.sleep(command.seconds)
            case Tell():
                tell(self._tell, command.event)
        return None

    async def aclose(self) -> None:
        self._script.close()
        await self._wire.hang_up()


class AsyncStream:
    """Iterate for the chunks; `result` afterwards. Leaving the `async with` block early closes the
    connection, so that the service stops generating."""

    def __init__(self, run: AsyncRun[Generation]) -> None:
        self._run = run

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        chunk = await self._run.advance()
        if chunk is None:
            raise StopAsyncIteration
        assert isinstance(chunk, Chunk)
        return chunk

    @property
    def result(self) -> Generation:
        """Raises GoldenfleetError while the stream has not been read to its end."""
        if self._run.result is None:
            raise GoldenfleetError("the stream has no result yet: iterate to its end first")
        return self._run.result

    async def aclose(self) -> None:
        await self._run.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.aclose()
