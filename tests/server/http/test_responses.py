"""Responses that a handler gets wrong, or breaks off."""

import pytest

from server.http.server import Exchange
from tests.server.http.scripts import GET, body_of


async def raise_early(_: Exchange) -> None:
    raise ValueError("secret prompt")


async def answer_nothing(_: Exchange) -> None:
    return


async def split_response(exchange: Exchange) -> None:
    await exchange.respond(200, [(b"x-a", b"b\r\nx-injected: 1")], b"")


async def split_by_name(exchange: Exchange) -> None:
    await exchange.start(200, [(b"x-a: b\r\nx-injected", b"1")])


async def nul_in_value(exchange: Exchange) -> None:
    await exchange.start(200, [(b"x-a", b"b\0")])


async def two_lengths(exchange: Exchange) -> None:
    await exchange.respond(200, [(b"content-length", b"9")], b"body")


async def own_framing(exchange: Exchange) -> None:
    await exchange.start(200, [(b"transfer-encoding", b"chunked")])


@pytest.mark.parametrize(
    "handler",
    [raise_early, answer_nothing, split_response, split_by_name, nul_in_value, own_framing, two_lengths],
)
async def test_a_handler_that_fails_before_it_starts_is_500(serve, handler):
    """The client gets a 500 envelope that says nothing of the failure, which is reported to `failed`."""
    serving = await serve(handler)
    answer = await serving.ask(GET)
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert body_of(answer)["error"]["code"] == "internal_error"
    assert b"secret" not in answer
    assert b"injected" not in answer
    assert len(serving.failures) == 1


async def raise_late(exchange: Exchange) -> None:
    await exchange.start(200, [])
    await exchange.write(b"part")
    raise ValueError("late")


async def forget_the_end(exchange: Exchange) -> None:
    await exchange.start(200, [])
    await exchange.write(b"part")


async def abort(exchange: Exchange) -> None:
    await exchange.start(200, [])
    await exchange.write(b"part")
    exchange.abort()


@pytest.mark.parametrize("handler", [raise_late, forget_the_end, abort])
async def test_a_response_that_fails_midway_never_ends_cleanly(serve, handler):
    """The client sees what was written and then a cut: no final chunk."""
    answer = await (await serve(handler)).ask(GET)
    assert answer.endswith(b"4\r\npart\r\n")


@pytest.mark.parametrize("sent", [b"par", b"part and more"])
async def test_a_response_of_the_wrong_length_never_looks_whole(serve, sent):
    """Fewer or more bytes than the promised content-length end in a cut, and in a report."""

    async def handler(exchange: Exchange) -> None:
        await exchange.start(200, [(b"content-length", b"4")])
        await exchange.write(sent)
        await exchange.end()

    serving = await serve(handler)
    answer = await serving.ask(GET)
    assert len(answer.partition(b"\r\n\r\n")[2]) < 4
    assert len(serving.failures) == 1


async def test_http_1_0_gets_no_chunks(serve):
    """An HTTP/1.0 client reads a stream to the end of its connection."""

    async def handler(exchange: Exchange) -> None:
        await exchange.start(200, [])
        await exchange.write(b"one")
        await exchange.write(b"two")
        await exchange.end()

    answer = await (await serve(handler)).ask(b"GET / HTTP/1.0\r\n\r\n")
    assert answer.endswith(b"\r\n\r\nonetwo")
    assert b"chunked" not in answer


async def test_http_1_0_is_reset_when_its_stream_is_cut(serve):
    """Where the close is the end, a cut is a reset: it must not look like the end."""
    client = await (await serve(abort)).connect()
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        await client.rest()
