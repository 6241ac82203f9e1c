"""Every public name of goldenfleet_client, used as its users would: mypy reads it, and a test runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from goldenfleet_client import (
    AsyncClient,
    AsyncStream,
    Chunk,
    Client,
    ConfigurationError,
    ConnectionFailed,
    DeadlineExceeded,
    Event,
    EventHook,
    GaveUp,
    Generation,
    GoldenfleetError,
    InvalidRequest,
    Message,
    Model,
    NotAuthorised,
    Options,
    RateLimited,
    RequestRefused,
    Resumed,
    Retried,
    RetryPolicy,
    ServerFailed,
    ServiceError,
    Stream,
    StreamTruncated,
    Timeouts,
    Usage,
)

LIMITS = Timeouts(connect=1.0, first_token=5.0, read=5.0, total=10.0)
POLICY = RetryPolicy(retries=2, resumes=2, base_s=0.01, cap_s=0.1, longest_wait_s=1.0)
QUESTION: Sequence[Message] = [{"role": "user", "content": "Sing!"}]
SAMPLING: Options = {"max_tokens": 64, "temperature": 0.5, "top_p": 0.9, "seed": 3, "extra": {"top_k": 4}}


def told(event: Event) -> str:
    """What an event hook can know."""
    match event:
        case Retried(request_id, attempt, reason, wait_s):
            return f"{request_id}: attempt {attempt + 1} in {wait_s:.1f} s, for {reason}"
        case Resumed(request_id, _, reason, tokens_before, exact):
            return f"{request_id}: goes on after {tokens_before} tokens, exact {exact}, for {reason}"
        case GaveUp(request_id, attempts, reason):
            return f"{request_id}: given up after {attempts} attempts, for {reason}"
    assert_never(event)


def explained(error: GoldenfleetError) -> str:
    """What each error can know, beside its words; each handler's type is narrower than the one below it."""
    if isinstance(error, RateLimited):
        return f"wait {error.retry_after_s} s"
    if isinstance(error, NotAuthorised | InvalidRequest):
        return f"status {error.status}, code {error.code}"
    if isinstance(error, RequestRefused | ServerFailed):
        return f"the service's words: {error.envelope}"
    if isinstance(error, ServiceError):
        return "an answer of another kind"
    if isinstance(error, StreamTruncated):
        return f"so far: {error.text}"
    if isinstance(error, ConfigurationError | ConnectionFailed | DeadlineExceeded):
        return f"{type(error).__name__} after {error.attempts} attempts"
    return f"request {error.request_id}"


def counted(generation: Generation) -> int:
    usage: Usage | None = generation.usage
    return usage.total_tokens if usage is not None else 0


def text_of(stream: Stream) -> str:
    chunks: list[Chunk] = list(stream)
    return "".join(chunk.text for chunk in chunks)


async def text_of_async(stream: AsyncStream) -> str:
    return "".join([chunk.text async for chunk in stream])


def blocking(url: str, hook: EventHook) -> list[str]:
    with Client(url, api_key="k", model="m", timeouts=LIMITS, retry=POLICY, on_event=hook) as client:
        models: tuple[Model, ...] = client.models()
        whole = client.generate("Sing!", **SAMPLING)
        chat = client.chat(QUESTION, stop=["."])
        with client.generate_stream("Sing!") as stream, client.chat_stream(QUESTION) as chat_stream:
            streamed = [text_of(stream), text_of(chat_stream)]
        assert counted(stream.result) == counted(whole)
        return [models[0].id, whole.text, chat.text, *streamed]


async def awaited(url: str, hook: EventHook) -> list[str]:
    async with AsyncClient(url, model="m", timeouts=LIMITS, retry=POLICY, on_event=hook) as client:
        models = await client.models(timeouts=LIMITS)
        whole = await client.generate("Sing!", request_id="r1")
        chat = await client.chat(QUESTION, model="n", timeouts=LIMITS)
        async with client.generate_stream("Sing!") as stream, client.chat_stream(QUESTION) as chat_stream:
            streamed = [await text_of_async(stream), await text_of_async(chat_stream)]
        return [models[0].id, whole.text, chat.text, *streamed]
