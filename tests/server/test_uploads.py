"""Requests that take their time to arrive: whose time it is, and what they count as."""

import asyncio
from typing import Any

import pytest

from server.errors import DeadlineExceeded
from server.handover import Handover
from server.http.server import HttpServer
from tests.server.http.scripts import body_of, half_a_request

PATIENCE_S = 15.0
CHUNKED = b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"


async def test_an_upload_is_part_of_the_request_s_time(stage: Any) -> None:
    """The deadline runs from the head: who names one is told by then, whatever is still on its way."""
    gateway = await stage.gateway((await stage.engine()).address)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(half_a_request(b"x-request-timeout-ms: 100"))
    async with asyncio.timeout(PATIENCE_S):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert body_of(answer)["error"]["code"] == "deadline_exceeded"


async def test_time_that_was_spent_counts(stage: Any) -> None:
    """In quarters of a second, so that requests which took none share one length."""
    handover = Handover((await stage.gateway("127.0.0.1:1")).drain)
    assert [handover.within(1.0, spent_s).seconds for spent_s in (0.0, 0.2, 0.3, 0.99, 7.0)] == [
        1.0,
        1.0,
        0.75,
        0.25,
        0.0,
    ]
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(DeadlineExceeded):
            async with handover.within(600.0, 600.0):
                await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [(half_a_request(), 408, "body_timeout"), (CHUNKED, 413, "body_too_large")],
)
async def test_what_the_http_layer_refuses_is_counted_as_that(
    stage: Any, until: Any, request_bytes: bytes, status: int, code: str
) -> None:
    """It is the client's fault, and not its leaving: metrics and the access log say which."""
    gateway = await stage.gateway((await stage.engine()).address)
    server = HttpServer(gateway.app.handle, body_deadline_s=0.05, max_body_bytes=1024)
    stage.stack.push_async_callback(server.aclose, 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", await server.listen("127.0.0.1", 0))
    writer.write(request_bytes)
    await until(lambda: gateway.drain.running == 1)
    if status == 413:
        writer.write(b"800\r\n" + b"x" * 2048)
    async with asyncio.timeout(PATIENCE_S):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    await until(lambda: bool(gateway.events("request.ended")))
    [ended] = gateway.events("request.ended")
    assert (ended["outcome"], ended["status"]) == (code, status)
