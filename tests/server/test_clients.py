"""The clients that people use, against a gateway, a node and the embedded engine."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest
import text_generation
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import ValidationError
from text_generation.errors import GenerationError, OverloadedError
from text_generation.errors import ValidationError as TgiValidationError
from text_generation.types import FinishReason, Message

PROMPT = "A notice is"
TOKENS = 12
QUESTION = [{"role": "user", "content": "What is a node?"}]
MODEL = "goldenfleet-embedded"

# text-generation 0.7 calls pydantic 2 by its old name.
old_pydantic = pytest.mark.filterwarnings("ignore:The `dict` method is deprecated")


@dataclass(frozen=True)
class Served:
    """A fleet of one node over the embedded engine, and what that engine says undisturbed."""

    url: str
    gateway: Any
    text: str
    chat: str


@pytest.fixture
async def served(stage: Any, trained: Any) -> Served:
    engine = await stage.embedded(trained)
    node = await stage.node(engine)
    gateway = await stage.gateway(node.address)
    ask = {"prompt": PROMPT, "max_tokens": TOKENS}
    text = (await gateway.post("/v1/completions", ask)).json["choices"][0]["text"]
    chat = (await gateway.post("/v1/chat/completions", {"messages": QUESTION, "max_tokens": TOKENS})).json
    return Served(gateway.url, gateway, text, chat["choices"][0]["message"]["content"])


@pytest.fixture
async def sdk(served: Served) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(api_key="k", base_url=f"{served.url}/v1", max_retries=0) as client:
        yield client


async def test_openai_sdk_chats(served: Served, sdk: openai.AsyncOpenAI) -> None:
    """A chat through the OpenAI SDK is the engine's answer, streamed or whole, with usage."""
    ask: Any = {"model": MODEL, "messages": QUESTION, "max_tokens": TOKENS}
    whole = await sdk.chat.completions.create(**ask)
    stream = await sdk.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    assert whole.choices[0].message.content == served.chat
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == served.chat
    assert chunks[-1].usage == whole.usage
    assert whole._request_id is not None


async def test_openai_sdk_completes_and_lists_models(served: Served, sdk: openai.AsyncOpenAI) -> None:
    """Completions and the model list work through the OpenAI SDK."""
    whole = await sdk.completions.create(model=MODEL, prompt=PROMPT, max_tokens=TOKENS)
    stream = await sdk.completions.create(model=MODEL, prompt=PROMPT, max_tokens=TOKENS, stream=True)
    assert whole.choices[0].text == served.text
    assert "".join([chunk.choices[0].text async for chunk in stream]) == served.text
    assert [model.id async for model in sdk.models.list()] == [MODEL]


async def test_openai_sdk_is_told_what_was_wrong(sdk: openai.AsyncOpenAI) -> None:
    """Our refusals and the engine's become the OpenAI SDK's own exceptions, with codes and request ids."""
    with pytest.raises(openai.NotFoundError) as unknown:
        await sdk.chat.completions.create(model="other", messages=QUESTION)  # type: ignore[arg-type]
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as many:
        await sdk.completions.create(model=MODEL, prompt=PROMPT, n=1000)
    assert many.value.param == "n"
    assert many.value.request_id
    with pytest.raises(openai.BadRequestError) as long:
        await sdk.completions.create(model=MODEL, prompt="x" * 100_000)
    assert long.value.code == "context_length_exceeded"


async def test_openai_sdk_sees_a_lost_stream_as_an_error(stage: Any, plan: Any) -> None:
    """A stream that cannot be saved ends in an APIError with our code, never in silence."""
    engine = await stage.engine(default=plan(tokens=3, end="reset"))
    gateway = await stage.gateway(engine.address)
    async with openai.AsyncOpenAI(api_key="k", base_url=f"{gateway.url}/v1", max_retries=0) as client:
        stream = await client.completions.create(model="m", prompt="p", presence_penalty=1, stream=True)
        with pytest.raises(openai.APIError) as lost:
            [chunk async for chunk in stream]
    assert lost.value.code == "resume_unsupported"


@old_pydantic
async def test_text_generation_generates(served: Served) -> None:
    """text-generation's two clients read the engine's text, its tokens and its details."""
    client = text_generation.Client(served.url)
    whole = await asyncio.to_thread(client.generate, PROMPT, max_new_tokens=TOKENS)
    other = await text_generation.AsyncClient(served.url).generate(PROMPT, max_new_tokens=TOKENS)
    assert whole == other
    assert whole.generated_text == served.text
    assert "".join(token.text for token in whole.details.tokens) == served.text
    assert whole.details.generated_tokens == len(whole.details.tokens) == TOKENS
    assert whole.details.finish_reason is FinishReason.Length


@old_pydantic
async def test_text_generation_streams(served: Served) -> None:
    """text-generation's streams hold each token once, and end in the whole text with its details."""
    stream = text_generation.AsyncClient(served.url).generate_stream(PROMPT, max_new_tokens=TOKENS)
    events = [event async for event in stream]
    client = text_generation.Client(served.url)
    others = await asyncio.to_thread(lambda: list(client.generate_stream(PROMPT, max_new_tokens=TOKENS)))
    assert events == others
    assert "".join(event.token.text for event in events) == served.text
    assert [event.generated_text for event in events] == [None] * (TOKENS - 1) + [served.text]
    assert events[-1].details is not None
    assert events[-1].details.generated_tokens == TOKENS


@old_pydantic
async def test_text_generation_chats(served: Served) -> None:
    """text-generation's chat, which fails on [DONE] and on absent fields, reads ours to its end."""
    messages = [Message(**message) for message in QUESTION]
    client = text_generation.Client(served.url)
    whole = await asyncio.to_thread(client.chat, messages, max_tokens=TOKENS)
    chunks = await asyncio.to_thread(lambda: list(client.chat(messages, max_tokens=TOKENS, stream=True)))
    stream = await text_generation.AsyncClient(served.url).chat(messages, max_tokens=TOKENS, stream=True)
    others = [chunk async for chunk in stream]
    assert whole.choices[0].message.content == served.chat
    for got in (chunks, others):
        assert "".join(chunk.choices[0].delta.content or "" for chunk in got) == served.chat
        assert got[-1].choices[0].finish_reason == "length"


@old_pydantic
async def test_text_generation_is_told_what_was_wrong(served: Served, stage: Any, plan: Any) -> None:
    """A refusal, a drain and a loss in mid-stream become text-generation's own exceptions."""
    with pytest.raises(TgiValidationError, match="best_of"):
        await text_generation.AsyncClient(served.url).generate(PROMPT, best_of=2, do_sample=True)
    served.gateway.drain.start("test", 0.0, "admin")
    with pytest.raises(OverloadedError, match="draining"):
        await text_generation.AsyncClient(served.url).generate(PROMPT)
    engine = await stage.engine(default=plan(tokens=0, end="engine_stopped"))
    gateway = await stage.gateway(engine.address)
    with pytest.raises(GenerationError):
        [e async for e in text_generation.AsyncClient(gateway.url).generate_stream(PROMPT)]


async def test_huggingface_hub_generates(served: Served) -> None:
    """huggingface_hub's text generation reads text, details and streams."""
    client = InferenceClient(model=served.url)
    ask: dict[str, Any] = {"max_new_tokens": TOKENS}
    assert await asyncio.to_thread(client.text_generation, PROMPT, **ask) == served.text
    pieces = await asyncio.to_thread(lambda: list(client.text_generation(PROMPT, stream=True, **ask)))
    assert "".join(pieces) == served.text
    async with AsyncInferenceClient(model=served.url) as other:
        detailed = await other.text_generation(PROMPT, details=True, **ask)
    assert detailed.generated_text == served.text
    assert detailed.details is not None
    assert detailed.details.generated_tokens == TOKENS


async def test_huggingface_hub_chats(served: Served) -> None:
    """huggingface_hub's chat works with the URL as its model, streamed or whole."""
    async with AsyncInferenceClient(base_url=served.url) as client:
        whole = await client.chat_completion(QUESTION, max_tokens=TOKENS)
        stream = await client.chat_completion(QUESTION, max_tokens=TOKENS, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert whole.choices[0].message.content == served.chat
    assert text == served.chat


async def test_huggingface_hub_is_told_what_was_wrong(served: Served) -> None:
    """A parameter that we cannot honour is a ValidationError to huggingface_hub."""
    client = InferenceClient(model=served.url)
    with pytest.raises(ValidationError, match="top_n_tokens"):
        await asyncio.to_thread(client.text_generation, PROMPT, top_n_tokens=3, details=True)
