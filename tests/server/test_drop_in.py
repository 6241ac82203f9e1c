"""goldenfleet_client.text_generation beside text_generation on one gateway, and where that one fails."""

from __future__ import annotations

import asyncio
import gc
import inspect
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import goldenfleet_client.text_generation as drop_in
import pytest
import requests
import text_generation
from goldenfleet_client import ConnectionFailed, GoldenfleetError, Resumed, RetryPolicy
from text_generation.errors import GenerationError, OverloadedError, ValidationError
from text_generation.types import Message

from tests.client.shears import Shears

pytestmark = pytest.mark.filterwarnings("ignore:The `dict` method is deprecated")

PROMPTS = ["A notice is", "Über die Drähte", "日本"]
QUESTION = [Message(role="user", content="What is a node?")]
QUICKLY = RetryPolicy(base_s=0.001)


@pytest.fixture
async def gateway(stage: Any, trained: Any) -> Any:
    engine = await stage.embedded(trained)
    node = await stage.node(engine)
    return await stage.gateway(node.address)


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


async def outcome(client: Any, method: str, *args: Any, **kwargs: Any) -> Any:
    """What came of a call: the answer, all pieces of a stream, or the type and words of what was raised."""
    try:
        if inspect.iscoroutinefunction(inspect.unwrap(getattr(client, method))):
            said = await getattr(client, method)(*args, **kwargs)
        elif inspect.isasyncgenfunction(getattr(client, method)):
            said = getattr(client, method)(*args, **kwargs)
        else:
            return await asyncio.to_thread(_sync, getattr(client, method), *args, **kwargs)
        return [piece async for piece in said] if hasattr(said, "__aiter__") else said
    except Exception as exc:  # noqa: BLE001  whatever it is, the other client must raise the same
        return type(exc), str(exc)


def _sync(call: Any, *args: Any, **kwargs: Any) -> Any:
    said = call(*args, **kwargs)
    return list(said) if hasattr(said, "__next__") else said


def plain(said: Any) -> Any:
    """An answer without what differs from one request to the next."""
    if isinstance(said, list):
        return [plain(piece) for piece in said]
    if not hasattr(said, "model_dump"):
        return said
    return {name: value for name, value in said.model_dump().items() if name not in ("id", "created")}


async def same(gateway: Any, method: str, *args: Any, **kwargs: Any) -> Any:
    """The outcome, after all four clients had the same."""
    said = [
        plain(await outcome(made(gateway.url), method, *args, **kwargs))
        for made in (
            text_generation.Client,
            drop_in.Client,
            text_generation.AsyncClient,
            drop_in.AsyncClient,
        )
    ]
    assert said[1:] == said[:1] * 3
    return said[0]


@pytest.mark.parametrize("name", ["Client", "AsyncClient"])
def test_the_same_methods_with_the_same_parameters(name: str) -> None:
    """Names, order, defaults and kinds of every parameter; the constructor may have more, by name only."""
    real, ours = getattr(text_generation, name), getattr(drop_in, name)
    for method in ("generate", "generate_stream", "chat"):
        wanted = inspect.signature(getattr(real, method)).parameters.values()
        given = inspect.signature(getattr(ours, method)).parameters.values()
        assert [(p.name, p.kind, p.default) for p in given] == [(p.name, p.kind, p.default) for p in wanted]
        functions = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
        assert [is_it(getattr(ours, method)) for is_it in functions] == [
            is_it(getattr(real, method)) for is_it in functions
        ]
    parameters = list(inspect.signature(ours).parameters.values())
    wanted = list(inspect.signature(real).parameters.values())
    assert [(p.name, p.default) for p in parameters[: len(wanted)]] == [(p.name, p.default) for p in wanted]
    assert {p.kind for p in parameters[len(wanted) :]} == {inspect.Parameter.KEYWORD_ONLY}


async def test_the_same_answers(gateway: Any) -> None:
    """Answers, streams and chats are equal in every field, whatever is asked for."""
    for prompt in PROMPTS:
        await same(gateway, "generate", prompt, max_new_tokens=9)
        pieces = await same(gateway, "generate_stream", prompt, max_new_tokens=9)
        assert pieces[-1]["details"] is not None
    await same(gateway, "generate", PROMPTS[0], False, 5)
    await same(gateway, "generate", PROMPTS[0], return_full_text=True, stop_sequences=["e"])
    await same(gateway, "generate_stream", PROMPTS[0], return_full_text=True, stop_sequences=["e "])
    await same(gateway, "generate_stream", PROMPTS[0], do_sample=True, seed=3, top_k=5, temperature=1.5)
    await same(gateway, "chat", QUESTION, max_tokens=9)
    chunks = await same(gateway, "chat", QUESTION, max_tokens=9, stream=True)
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


async def test_the_same_errors(gateway: Any) -> None:
    """What is refused, here or by the service, is raised as the same type with the same words."""
    refused = [
        await same(gateway, "generate", ""),
        await same(gateway, "generate", "x", best_of=2),
        await same(gateway, "generate", "x", best_of=2, do_sample=True),
        await same(gateway, "generate_stream", "x", temperature=-1.0),
        await same(gateway, "generate_stream", "x", watermark=True),
        await same(gateway, "generate_stream", "x" * 100_000),
        await same(gateway, "chat", QUESTION, n=100),
    ]
    assert all(isinstance(kind, type) for kind, _ in refused)
    assert {kind for kind, _ in refused[:5]} == {ValidationError}


@asynccontextmanager
async def cut(gateway: Any, *lengths: int) -> AsyncIterator[str]:
    """A URL of the gateway whose connections are reset after so many bytes of answers, in turn."""
    shears = Shears([gateway.port], [*lengths, 10**9])
    try:
        yield shears.url
    finally:
        await asyncio.to_thread(shears.close)


@pytest.mark.parametrize("name", ["Client", "AsyncClient"])
async def test_a_cut_is_not_noticed(gateway: Any, name: str) -> None:
    """Streams that are cut several times hold each token once, as an undisturbed one does, and its details;
    so do chats. text_generation's client raises."""
    calls: list[tuple[str, Any, dict[str, Any]]] = [
        ("generate_stream", prompt, {"max_new_tokens": 24, **more})
        for prompt in PROMPTS
        for more in ({}, {"do_sample": True, "seed": 5, "return_full_text": True})
    ]
    calls.append(("chat", QUESTION, {"max_tokens": 24, "stream": True}))
    for method, what, parameters in calls:
        whole = plain(await outcome(getattr(text_generation, name)(gateway.url), method, what, **parameters))
        events: list[Any] = []
        async with cut(gateway, 900, 1500, 40, 1100) as url:
            ours = getattr(drop_in, name)(url, retry=QUICKLY, on_event=events.append)
            assert plain(await outcome(ours, method, what, **parameters)) == whole
        assert sum(isinstance(event, Resumed) for event in events) >= 2
        assert all(event.exact for event in events if isinstance(event, Resumed))
    async with cut(gateway, 900) as url:
        kind, _ = await outcome(getattr(text_generation, name)(url), "generate_stream", PROMPTS[0])
        assert isinstance(kind, type)


async def test_a_lost_answer_is_asked_for_again(gateway: Any) -> None:
    """A whole answer that is cut before or inside its body is made again."""
    whole = await outcome(text_generation.Client(gateway.url), "generate", PROMPTS[0])
    for made in (drop_in.Client, drop_in.AsyncClient):
        async with cut(gateway, 1, 400) as url:
            assert await outcome(made(url, retry=QUICKLY), "generate", PROMPTS[0]) == whole


async def test_what_cannot_be_continued_is_a_broken_body(stage: Any) -> None:
    """A cut stream with a penalty raises what text_generation's clients raise for a cut."""
    gateway = await stage.gateway((await stage.engine()).address)
    for made, broken in (
        (drop_in.Client, requests.exceptions.ChunkedEncodingError),
        (drop_in.AsyncClient, aiohttp.ClientPayloadError),
    ):
        async with cut(gateway, 900) as url:
            kind, words = await outcome(
                made(url, retry=QUICKLY), "generate_stream", "x", frequency_penalty=0.5
            )
        assert kind is broken
        assert "frequency_penalty" in words


async def test_no_service(closed_port: int) -> None:
    """With nobody there each client raises its library's connection error, after its attempts."""
    url, policy = f"http://127.0.0.1:{closed_port}", RetryPolicy(retries=1, base_s=0.001)
    with pytest.raises(requests.exceptions.ConnectionError) as sync:
        await asyncio.to_thread(drop_in.Client(url, retry=policy).generate, "x")
    with pytest.raises(aiohttp.ClientConnectionError) as other:
        await drop_in.AsyncClient(url, retry=policy).generate("x")
    for raised in (sync, other):
        assert isinstance(raised.value.__cause__, ConnectionFailed)
        assert raised.value.__cause__.attempts == 2
        assert raised.value.__cause__.request_id


async def test_the_timeout_holds(stage: Any, plan: Any) -> None:
    """`timeout` ends a call that is not answered, with all its retries."""
    engine = await stage.engine(default=plan(end="hang"))
    gateway = await stage.gateway(engine.address)
    with pytest.raises(requests.exceptions.ReadTimeout):
        await asyncio.to_thread(drop_in.Client(gateway.url, timeout=0.2).generate, "x")
    with pytest.raises(TimeoutError):
        await drop_in.AsyncClient(gateway.url, timeout=0.2).generate("x")


async def test_the_services_last_word(stage: Any, plan: Any, gateway: Any) -> None:
    """After the last attempt the service's own error is raised: a drain, and a generation that fails."""
    few = RetryPolicy(retries=1, losses=1, base_s=0.001)
    gateway.drain.start("test", 0.0, "admin")
    with pytest.raises(OverloadedError, match="draining") as draining:
        await drop_in.AsyncClient(gateway.url, retry=few).generate("x")
    assert isinstance(draining.value.__cause__, GoldenfleetError)
    engine = await stage.engine(default=plan(tokens=0, end="engine_stopped"))
    failing = await stage.gateway(engine.address)
    said = await outcome(drop_in.AsyncClient(failing.url, retry=few), "generate_stream", "x")
    assert said[0] is GenerationError


async def test_headers_and_cookies(stage: Any) -> None:
    """Both go out as they are at the time of the call."""
    engine = await stage.engine()
    cookies, once = {"a": "1", "b": "2"}, RetryPolicy(retries=0)
    url = f"http://{engine.address}"
    client = drop_in.AsyncClient(url, {"Authorization": "Bearer k"}, cookies, retry=once)
    await outcome(client, "chat", QUESTION)
    client.headers = {"Authorization": "Bearer other"}
    await outcome(client, "chat", QUESTION)
    assert [head["authorization"] for head in engine.heads] == ["Bearer k", "Bearer other"]
    assert engine.heads[0]["cookie"] == "a=1; b=2"


def test_connections_go_with_the_client() -> None:
    """A client that nobody closes leaves no thread and no socket behind when it is gone."""
    before = set(threading.enumerate())
    client = drop_in.Client("http://127.0.0.1:9")
    pools = client._pools
    del client
    gc.collect()
    assert pools._kept.is_closed
    assert set(threading.enumerate()) <= before
