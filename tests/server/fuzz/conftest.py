"""A gateway in which nothing may go wrong unseen, and clients that check what they get."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import h11
import pytest

from server.http.server import HttpServer
from tests.server.auth.conftest import write_keys
from tests.server.conftest import Serving, Stage

__all__ = ["write_keys"]

CODE_FIELDS = {"message", "type", "param", "code"}


@dataclass
class Troubles:
    """What must never happen: handlers that raise, and callbacks that raise into the loop."""

    raised: list[BaseException | str] = field(default_factory=list)

    def handle(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.raised.append(context.get("exception") or str(context.get("message")))


@pytest.fixture
async def troubles() -> AsyncIterator[Troubles]:
    """Asserted to be none when the test ends."""
    found = Troubles()
    asyncio.get_running_loop().set_exception_handler(found.handle)
    yield found
    assert found.raised == []


@dataclass
class Port:
    """A serving port with deadlines short enough to be waited for."""

    serving: Serving
    server: HttpServer
    port: int
    served: list[tuple[str, str, bytes]] = field(default_factory=list)

    async def exchange(self, sent: list[bytes], *, shut: bool = False) -> bytes:
        """All that comes back for `sent` until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        got = b""
        try:
            for piece in sent:
                if writer.transport.is_closing():
                    break
                writer.write(piece)
                await asyncio.sleep(0)
            if shut and not writer.transport.is_closing():
                writer.write_eof()
            while data := await reader.read(65536):
                got += data
        except ConnectionError:
            # Cut: what came before counts.
            return got
        finally:
            writer.transport.abort()
        return got


@pytest.fixture
async def port(stage: Stage, troubles: Troubles) -> AsyncIterator[Callable[[Serving], Awaitable[Port]]]:
    opened: list[Port] = []

    async def start(serving: Serving) -> Port:
        server = HttpServer(
            serving.app.handle,
            failed=troubles.raised.append,
            header_deadline_s=0.1,
            body_deadline_s=0.1,
            keep_alive_s=0.1,
        )
        opened.append(Port(serving, server, await server.listen("127.0.0.1", 0)))
        stage.stack.push_async_callback(server.aclose, 0)
        return opened[-1]

    yield start
    for one in opened:
        assert not one.serving.events("request.failed")


def responses_in(data: bytes, asked: int) -> list[tuple[int, dict[str, str], bytes]]:
    """Status, headers and body of each whole response, read by another implementation (h11)."""
    found: list[tuple[int, dict[str, str], bytes]] = []
    while data:
        connection = h11.Connection(h11.CLIENT)
        connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
        connection.send(h11.EndOfMessage())
        connection.receive_data(data)
        head, body = None, b""
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                return found
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
        assert head is not None
        headers = {name.decode(): value.decode() for name, value in head.headers}
        found.append((head.status_code, headers, body))
        data = connection.trailing_data[0]
    assert len(found) <= asked
    return found


def check_refusal(status: int, headers: dict[str, str], body: bytes, *, tgi: bool = False) -> None:
    """An answer that is none of ours to be ashamed of: an envelope, an id, and no 500."""
    assert status != 500, body
    assert "x-request-id" in headers
    if status == 200:
        return
    assert headers["content-type"] == "application/json"
    said = json.loads(body)
    if tgi:
        assert set(said) == {"error", "error_type"}
        return
    assert set(said) == {"error"}
    assert set(said["error"]) == CODE_FIELDS
    assert isinstance(said["error"]["message"], str)
    assert said["error"]["message"]
