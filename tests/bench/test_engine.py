import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest

from bench.answers import Asked, StreamResult, ask, dechunked, status_of, text_in
from bench.engine import Engine, content_length
from bench.frames import Kind
from bench.load import Address, StreamClient, connected
from bench.processes import free_port
from bench.stage import control
from tests.bench.conftest import PATIENCE_S, until

Exchange = Callable[[bytes], Awaitable[bytes]]


async def streamed(address: Address, asked: Asked) -> StreamResult:
    async with asyncio.timeout(PATIENCE_S):
        client = await connected(address, StreamClient())
        result = await client.start(asked)
        client.hang_up()
        return result


@pytest.mark.parametrize("pace_s", [0.0, 0.001])
@pytest.mark.parametrize("kind", ["chat", "completions"])
async def test_a_stream_is_whole_at_any_pace(
    engine: Engine, address: Address, kind: Kind, pace_s: float
) -> None:
    """Paced or not, chat or completion, the client gets every token and the end."""
    engine.pace_s = pace_s
    result = await streamed(address, ask(5, 100, stream=True, headers={}, kind=kind))
    assert result.verdict == "ok"


async def test_a_plain_answer_is_whole(exchange: Exchange) -> None:
    """The text is what the prompt's key and length say."""
    asked = ask(5, 16, stream=False, headers={})
    assert text_in(await exchange(asked.raw)) == asked.expected


async def test_a_cut_stream_goes_on_by_its_ids(engine: Engine, exchange: Exchange) -> None:
    """Prompt ids and token ids of a stream, sent back, get the rest of its text: a resume can be exact."""
    body = {"prompt": "5 a b", "max_tokens": 4, "return_token_ids": True}
    first = json.loads(dechunked(await exchange(post(body))))["choices"][0]
    rest = {"prompt": first["prompt_token_ids"] + first["token_ids"], "max_tokens": 3}

    assert first["text"] + text_in(await exchange(post(rest))) == " 5.3 5.4 5.5 5.6 5.7 5.8 5.9"


async def test_an_engine_that_is_unavailable_answers_503(address: Address, exchange: Exchange) -> None:
    """It still answers its health check: only what it says of requests changed."""
    await control(address, "POST", {"failing": "unavailable"})

    assert status_of(await exchange(ask(5, 4, stream=False, headers={}).raw)) == 503
    assert status_of(await exchange(b"GET /health HTTP/1.1\r\n\r\n")) == 200


async def test_resets_hit_kept_connections_alone(address: Address) -> None:
    """The first request on a connection is served, the next one finds the connection gone."""
    await control(address, "POST", {"failing": "reset-kept"})
    client = await connected(address, StreamClient())
    asked = ask(5, 4, stream=True, headers={})

    async with asyncio.timeout(PATIENCE_S):
        assert (await client.start(asked)).verdict == "ok"
        assert (await client.start(asked)).verdict == "failed"


async def test_a_client_that_hangs_up_is_noticed(engine: Engine, address: Address) -> None:
    """The engine says for which request nobody reads any more, and works on it no longer."""
    engine.pace_s = 0.001
    client = await connected(address, StreamClient())
    result = client.start(ask(77, 100_000, stream=True, headers={}))
    await until(lambda: 77 in engine.running)
    left = client.hang_up()
    result.cancel()
    await until(lambda: 77 in engine.hung_up)

    assert engine.hung_up[77] >= left
    assert engine.running == []


async def test_a_slow_reader_holds_back_its_own_stream(engine: Engine, address: Address) -> None:
    """At full speed the engine keeps no more than its socket's buffers hold for one who does not read."""
    reader, writer = await asyncio.open_connection(*address, limit=1024)
    writer.write(ask(5, 1_000_000, stream=True, headers={}).raw)
    async with asyncio.timeout(PATIENCE_S):
        await reader.readuntil(b"data:")
        await until(lambda: any(connection.paused for connection in engine.connections))
        other = await streamed(address, ask(6, 50, stream=True, headers={}))
    writer.close()

    assert other.verdict == "ok"


@pytest.mark.parametrize("name", ["Content-Length", "content-length"])
def test_a_length_is_found_among_other_content_headers(name: str) -> None:
    """content-type comes first in most requests."""
    head = f"POST / HTTP/1.1\r\nContent-Type: application/json\r\n{name}: 12\r\nhost: x"
    assert content_length(head.encode()) == 12
    assert content_length(b"GET / HTTP/1.1") == 0


async def test_sigterm_cuts_what_runs_after_a_grace() -> None:
    """A stream that is longer than the grace is cut, and the process ends cleanly."""
    port = free_port("127.0.0.1")
    argv = [sys.executable, "-m", "bench.engine", "--port", str(port)]
    process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        assert await process.stdout.readline() == b"ready\n"
        await control(("127.0.0.1", port), "POST", {"pace_ms": 5})
        client = await connected(("127.0.0.1", port), StreamClient())
        result = client.start(ask(5, 10_000, stream=True, headers={}))
        process.send_signal(signal.SIGTERM)
        assert (await result).ended == "cut"
        assert await process.wait() == 0


def post(body: dict[str, object]) -> bytes:
    raw = json.dumps(body).encode()
    return b"POST /v1/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(raw), raw)
