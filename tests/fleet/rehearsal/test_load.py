from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from goldenfleet_client import AsyncClient, RetryPolicy

from fleet.rehearsal.answers import EMBEDDED_MODEL, Answer, judge, questions
from fleet.rehearsal.load import ask, run_load, undisturbed
from fleet.rehearsal.ports import free_port, listens
from fleet.rehearsal.processes import Processes

HOST = "127.0.0.1"
ASKED = tuple(replace(question, max_tokens=24) for question in questions())


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port(HOST)
    argv = [sys.executable, "-m", "server.engine", "--host", HOST, "--port", str(port)]
    with Processes() as processes:
        processes.start("engine", argv, env=dict(os.environ), cwd=Path(tmp_path_factory.mktemp("engine")))
        while not listens(HOST, port):
            assert processes.ended("engine") is None
        yield f"http://{HOST}:{port}"


@pytest.fixture(scope="module")
def expected(engine: str) -> Mapping[str, str]:
    return asyncio.run(undisturbed(engine, questions()))


async def test_nobody_there() -> None:
    """An endpoint that is down makes answers that say so; the load goes on."""
    url = f"http://{HOST}:{free_port(HOST)}"
    async with AsyncClient(url, model=EMBEDDED_MODEL, retry=RetryPolicy(retries=0)) as api:
        for kind in ("chat", "generate_stream"):
            answer = await ask(api, ASKED[0], kind)  # type: ignore[arg-type]
            assert judge(answer, {}) == "lost"
            assert answer.error is not None
            assert answer.error.startswith("ConnectionFailed")


async def test_cut_stream() -> None:
    """A stream that is cut and cannot go on is an answer that was cut, with what had arrived."""

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        event = b'data: {"id":"x","object":"text_completion","choices":[{"index":0,"text":"one"}]}\n\n'
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(head + b"%x\r\n%s\r\n" % (len(event), event))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(cut, HOST, 0) as server:
        url = f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
        async with AsyncClient(url, model=EMBEDDED_MODEL, retry=RetryPolicy(retries=0, resumes=0)) as api:
            answer = await ask(api, ASKED[0], "generate_stream")
    assert judge(answer, {}) == "truncated"
    assert answer.text == "one"
    assert answer.ttft_s is not None


async def test_every_kind_says_the_same(engine: str) -> None:
    """Streamed or whole, an undisturbed answer is the expected one."""
    texts = await undisturbed(engine, ASKED)
    async with AsyncClient(engine, model=EMBEDDED_MODEL) as api:
        for question in (ASKED[0], ASKED[-1]):
            kinds = ("chat", "chat_stream") if question.chat else ("generate", "generate_stream")
            answers = [await ask(api, question, kind) for kind in kinds]  # type: ignore[arg-type]
            assert [judge(answer, texts) for answer in answers] == ["ok", "ok"]


async def test_load(engine: str, expected: Mapping[str, str]) -> None:
    """Half the clients stream, all are answered as expected, and told to stop they finish what runs."""
    stop, answers = asyncio.Event(), list[Answer]()

    def record(answer: Answer) -> None:
        answers.append(answer)
        if {a.client for a in answers} == set(range(6)):
            stop.set()

    async with asyncio.timeout(60):
        await run_load(engine, 6, 7, record, stop)
    assert {answer.client for answer in answers if answer.streamed} == {0, 2, 4}
    assert [judge(answer, expected) for answer in answers] == ["ok"] * len(answers)
