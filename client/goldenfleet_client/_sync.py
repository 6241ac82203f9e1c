"""Carries scripts out with blocking sockets."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

import httpx2

from ._addresses import Route
from ._plan import BodyEnd, Command, Emit, HangUp, Head, Read, Reply, Script, Send, Tell, Wait
from ._read_limit import ReadLimit
from ._retry import Failure
from ._wire import FOREIGN, FRESH, KEEPALIVE, KEPT, Endpoint, failure, head_of, tell
from .errors import GoldenfleetError
from .types import Chunk, EventHook, Generation

T = TypeVar("T")


class Pools:
    """A client's connections: kept ones for first attempts, a fresh one for every later attempt."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._kept, self._fresh = (
            httpx2.Client(
                transport=httpx2.HTTPTransport(
                    verify=tls, limits=limits, trust_env=False, socket_options=KEEPALIVE
                ),
                trust_env=False,
            )
            for limits in (KEPT, FRESH)
        )
        self.limit: Final = ReadLimit()

    def send(self, request: httpx2.Request, *, fresh: bool) -> httpx2.Response:
        return (self._fresh if fresh else self._kept).send(request, stream=True)

    def close(self) -> None:
        self._kept.close()
        self._fresh.close()


class Wire:
    """The exchanges of one call, one at a time."""

    def __init__(self, endpoint: Endpoint, pools: Pools) -> None:
        self._endpoint = endpoint
        self._pools = pools
        self._route = Route()
        self._response: httpx2.Response | None = None
        self._body: Iterator[bytes] = iter(())

    def send(self, command: Send) -> Head | Failure:
        addresses, address = self._endpoint.addresses, ""
        self._pools.limit.lift()
        try:
            known = addresses.kept() or addresses.look_up()
            address = self._route.choose(known, addresses.shunned(), self._endpoint.random())
            request = self._endpoint.request(command, address)
            self._response = self._pools.send(request, fresh=command.fresh)
        except FOREIGN as exc:
            failed = failure(exc, began=False, others_left=self._route.others_left(addresses.kept()))
            if failed.kind == "unreachable" and address:
                addresses.shun(address)
            return failed
        # From here on each read is timed by itself.
        self._pools.limit.keep(self._response.extensions["network_stream"])
        self._body = self._response.iter_bytes()
        return head_of(self._response)

    def read(self, command: Read) -> bytes | BodyEnd | Failure:
        assert self._response is not None
        try:
            with self._pools.limit.within(command.timeout_s):
                return next(self._body, BodyEnd())
        except FOREIGN as exc:
            return failure(exc, began=True)

    def hang_up(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None


class Run(Generic[T]):
    """One script on its way; ends its exchange however it ends."""

    def __init__(self, script: Script[T], wire: Wire, tell: EventHook) -> None:
        self._script = script
        self._wire = wire
        self._tell = tell
        self._reply: Reply = None
        self.result: T | None = None

    def advance(self) -> object | None:
        """The next piece, or None when the script has ended and `result` is set."""
        try:
            while not isinstance(command := self._script.send(self._reply), Emit):
                self._reply = self._perform(command)
        except StopIteration as end:
            self.result = end.value
            self.close()
            return None
        except BaseException:
            self.close()
            raise
        self._reply = None
        return command.piece

    def _perform(self, command: Command) -> Reply:
        match command:
            case Send():
                return self._wire.send(command)
            case Read():
                return self._wire.read(command)
            case HangUp():
                self._wire.hang_up()
            case Wait():
                time.sleep(command.seconds)
            case Tell():
                tell(self._tell, command.event)
        return None

    def close(self) -> None:
        self._script.close()
        self._wire.hang_up()


class Stream:
    """Iterate for the chunks; `result` afterwards. Leaving the `with` block early closes the connection,
    so that the service stops generating."""

    def __init__(self, run: Run[Generation]) -> None:
        self._run = run

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        chunk = self._run.advance()
        if chunk is None:
            raise StopIteration
        assert isinstance(chunk, Chunk)
        return chunk

    @property
    def result(self) -> Generation:
        """Raises GoldenfleetError while the stream has not been read to its end."""
        if self._run.result is None:
            raise GoldenfleetError("the stream has no result yet: iterate to its end first")
        return self._run.result

    def close(self) -> None:
        self._run.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()
