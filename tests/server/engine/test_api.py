"""The OpenAI API over a real socket."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import replace

import aiohttp
import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError

from server.engine import api, chat
from server.engine.config import Limits
from server.engine.engine import Engine, Prompt
from server.engine.errors import EngineStoppedError

FLEET = [{"role": "user", "content": "Where is the fleet?"}]
FLEET_ANSWER = (
    "In three regions: Zürich and Köln are served from eu-central-1, "
    "東京 and 大阪 from ap-northeast-1, and São Paulo from sa-east-1."
)


@pytest.fixture
async def http():
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def post(http, served):
    async def send(path, body):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with http.post(served.url + path, data=io.BytesIO(data)) as response:
            return response.status, await response.json()

    return send


@pytest.fixture
def stream(http, served):
    async def send(path, body):
        async with http.post(served.url + path, json={"stream": True, **body}) as response:
            assert response.status == 200
            assert response.headers["content-type"].startswith("text/event-stream")
            return frames(await response.read())

    return send


def frames(body):
    """The data of each event; asserts that the body is nothing but whole `data:` events."""
    *events, rest = body.decode().split("\n\n")
    assert rest == ""
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    return [event.removeprefix("data: ") for event in events]


def parsed(events):
    assert events[-1] == "[DONE]"
    return [json.loads(event) for event in events[:-1]]


async def until(condition, seconds=10):
    """Lets the loop run until `condition` holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the load is a number, not an event
            await asyncio.sleep(0)


def completion(**fields):
    return {"prompt": "A notice is", "max_tokens": 4, **fields}


def talk(**fields):
    return {"messages": FLEET, **fields}


JUNK = [
    (b"", None),
    (b"{", None),
    (b"[]", None),
    (b'"text"', None),
    (b"\xff\xfe", None),
    (b'{"prompt": "a", "temperature": NaN}', None),
    (b"[" * 100_000, None),
    ({}, "prompt"),
    (completion(prompt=[]), "prompt"),
    (completion(prompt=[1024]), "prompt"),
    (completion(prompt=[-1]), "prompt"),
    (completion(prompt=[True]), "prompt"),
    (completion(prompt=["a", "b"]), "prompt"),
    (completion(prompt={"text": "a"}), "prompt"),
    (completion(max_tokens=0), "max_tokens"),
    (completion(max_tokens=-3), "max_tokens"),
    (completion(max_tokens=1.5), "max_tokens"),
    (completion(max_tokens="9"), "max_tokens"),
    (completion(temperature=2.1), "temperature"),
    (completion(temperature="hot"), "temperature"),
    (completion(top_p=1.1), "top_p"),
    (completion(seed="x"), "seed"),
    (completion(seed=2**64), "seed"),
    (completion(stop=["a", "b", "c", "d", "e"]), "stop"),
    (completion(stop=[""]), "stop"),
    (completion(stop=7), "stop"),
    (completion(stream="yes"), "stream"),
    (completion(stream=True, stream_options=[]), "stream_options"),
    (completion(stream=True, stream_options={"include_usage": 1}), "stream_options.include_usage"),
    (completion(n=2), "n"),
    (completion(logprobs=1), "logprobs"),
    (completion(echo=True), "echo"),
    (completion(model=7), "model"),
    (completion(presence_penalty=0.5), "presence_penalty"),
]
CHAT_JUNK = [
    ({}, "messages"),
    (talk(messages=[]), "messages"),
    (talk(messages="hi"), "messages"),
    (talk(messages=["hi"]), "messages[0]"),
    (talk(messages=[{"role": "tool", "content": "x"}]), "messages[0].role"),
    (talk(messages=[{"role": ["user"], "content": "x"}]), "messages[0].role"),
    (talk(messages=[{"role": "user"}]), "messages[0].content"),
    (talk(messages=[{"role": "user", "content": [{"type": "image_url"}]}]), "messages[0].content"),
    (talk(tools=[{"type": "function"}]), "tools"),
    (talk(response_format={"type": "json_object"}), "response_format"),
    (talk(continue_final_message=True, add_generation_prompt=True), "continue_final_message"),
]


@pytest.mark.parametrize(
    ("path", "table"), [("/v1/completions", JUNK), ("/v1/chat/completions", CHAT_JUNK)], ids=["text", "chat"]
)
async def test_junk_is_refused(post, path, table):
    """A request that cannot be read or honoured gets 400 in OpenAI's envelope, naming the field."""
    for body, param in table:
        status, answer = await post(path, body)
        assert (status, answer["error"]["param"]) == (400, param), body
        assert set(answer["error"]) == {"message", "type", "param", "code"}
        assert answer["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "body",
    [
        completion(max_tokens=2045),
        completion(max_tokens=10**30),
        completion(prompt=[7] * 2048),
        completion(prompt="notice " * 3000),
        completion(prompt="x" * 3_000_000),
    ],
)
async def test_too_long_is_context_length_exceeded(post, body):
    """Prompt and answer that exceed the context are refused with the code that clients know."""
    status, answer = await post("/v1/completions", body)
    assert (status, answer["error"]["code"]) == (400, "context_length_exceeded")


async def test_the_longest_request_is_served(post):
    """A prompt and answer that fill the context to the last token run."""
    status, answer = await post(
        "/v1/completions", completion(prompt=[7] * 2046, max_tokens=2, ignore_eos=True)
    )
    assert (status, answer["usage"]["total_tokens"]) == (200, 2048)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/v1/completions", 405), ("DELETE", "/v1/models", 405)],
)
async def test_unknown_routes_use_the_envelope(http, served, method, path, status):
    """404 and 405 speak the envelope as well."""
    async with http.request(method, served.url + path) as response:
        assert response.status == status
        assert set((await response.json())["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("model", ["gpt-4", "", "\ud800"])
async def test_unknown_model_is_404(post, model):
    """Another model's name, even one that is no Unicode, is refused with 404 and model_not_found."""
    status, answer = await post("/v1/chat/completions", talk(model=model))
    assert (status, answer["error"]["code"]) == (404, "model_not_found")


async def test_text_that_is_no_unicode_is_answered(post):
    """Half a surrogate pair in a message or a stop string is text like any other."""
    messages = [{"role": "user", "content": "\udc00 Hello"}]
    status, _ = await post("/v1/chat/completions", talk(messages=messages, stop="\udc00", max_tokens=3))
    assert status == 200


async def test_a_huge_body_is_413(post):
    """A body over the cap is refused before it is parsed."""
    status, answer = await post("/v1/completions", b" " * (api.MOST_BODY_BYTES + 1))
    assert (status, answer["error"]["type"]) == (413, "invalid_request_error")


async def test_whole_completion(post):
    """A completion that is not streamed has text, finish reason, usage, and ids only when asked."""
    _, plain = await post("/v1/completions", completion())
    _, answer = await post("/v1/completions", completion(return_token_ids=True))
    choice = answer["choices"][0]
    assert plain["object"] == "text_completion"
    assert "token_ids" not in plain["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == (plain["choices"][0]["text"], "length")
    assert len(choice["token_ids"]) == 4
    assert answer["usage"] == {"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8}
    assert len(choice["prompt_token_ids"]) == 4


async def test_streamed_chat_is_the_whole_chat(post, stream):
    """The stream's deltas, ids and usage are those of the answer in one piece, and it ends with [DONE]."""
    body = talk(return_token_ids=True, stream_options={"include_usage": True})
    _, whole = await post("/v1/chat/completions", body)
    first, *chunks, last = parsed(await stream("/v1/chat/completions", body))
    choices = [chunk["choices"][0] for chunk in chunks]
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert first["prompt_token_ids"] == whole["prompt_token_ids"]
    assert "".join(choice["delta"]["content"] for choice in choices) == FLEET_ANSWER
    assert whole["choices"][0]["message"]["content"] == FLEET_ANSWER
    assert [token for choice in choices for token in choice["token_ids"]] == whole["choices"][0]["token_ids"]
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["stop"]
    assert (last["choices"], last["usage"]) == ([], whole["usage"])
    assert len({chunk["id"] for chunk in (first, *chunks, last)}) == 1


async def test_streamed_completion_carries_prompt_ids_once(stream):
    """Completions carry prompt_token_ids in the first chunk's choice, and in no other."""
    chunks = parsed(await stream("/v1/completions", completion(return_token_ids=True)))
    carrying = ["prompt_token_ids" in chunk["choices"][0] for chunk in chunks]
    assert carrying == [True] + [False] * (len(chunks) - 1)
    assert all("usage" not in chunk for chunk in chunks)


async def test_stop_string_ends_the_text_before_it(stream):
    """A stop string is not shown, and the reason is `stop`."""
    chunks = parsed(await stream("/v1/chat/completions", talk(stop=["São", "never"])))
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == FLEET_ANSWER[: FLEET_ANSWER.index("São")]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_a_cut_stream_continues_by_ids(stream, post):
    """Prompt ids and released ids, sent as a completion's prompt, give the rest of the very same answer."""
    chunks = parsed(await stream("/v1/chat/completions", talk(return_token_ids=True, max_tokens=80)))
    for cut in (1, 10, len(chunks) - 2):
        ids = [token for chunk in chunks[1 : cut + 1] for token in chunk["choices"][0]["token_ids"]]
        text = "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks[1 : cut + 1])
        prompt = chunks[0]["prompt_token_ids"] + ids
        _, rest = await post("/v1/completions", {"prompt": prompt, "max_tokens": 80 - len(ids)})
        assert text + rest["choices"][0]["text"] == FLEET_ANSWER
        assert rest["choices"][0]["finish_reason"] == "stop"


async def test_a_cut_chat_continues_by_text(post):
    """Text-level continuation: the last assistant message is continued, not answered."""
    at = FLEET_ANSWER.index(" from eu")
    messages = [*FLEET, {"role": "assistant", "content": FLEET_ANSWER[:at]}]
    body = {"messages": messages, "continue_final_message": True, "add_generation_prompt": False}
    _, answer = await post("/v1/chat/completions", body)
    assert answer["choices"][0]["message"]["content"] == FLEET_ANSWER[at:]


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_leaves_frees_its_pages(http, served, streamed):
    """A client that disconnects takes its sequence, and the sequence's pages, with it."""
    free = served.engine.load().pages_free
    body = completion(max_tokens=2000, ignore_eos=True, stream=streamed)
    asking = asyncio.create_task(http.post(served.url + "/v1/completions", json=body))
    await until(lambda: served.engine.load().running == 1)
    assert served.engine.load().pages_free < free
    if streamed:
        (await asking).close()
    else:
        asking.cancel()
    await until(lambda: served.engine.load().pages_free == free)
    assert served.engine.load().generated_tokens_total < 2000


async def test_a_waiting_client_that_leaves_is_forgotten(http, serve):
    """A client that leaves before its first token is taken out of the queue."""
    served = await serve(Limits(max_sequences=1, max_batch_tokens=40, pages=64))
    body = completion(max_tokens=2000, ignore_eos=True)
    first, second = (
        asyncio.create_task(http.post(served.url + "/v1/completions", json=body)) for _ in range(2)
    )
    await until(lambda: served.engine.load().waiting == 1)
    second.cancel()
    await until(lambda: served.engine.load().waiting == 0)
    assert served.engine.load().running == 1
    first.cancel()
    await until(lambda: served.engine.load().pages_free == 64)


async def test_many_at_once_hear_what_each_hears_alone(stream, serve, http):
    """Forty streams through a narrow engine all end, each with the text that it has alone."""
    served = await serve(Limits(max_sequences=8, max_batch_tokens=64, pages=64))

    async def one():
        async with http.post(served.url + "/v1/chat/completions", json=talk(stream=True)) as response:
            chunks = parsed(frames(await response.read()))
            return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)

    assert set(await asyncio.gather(*(one() for _ in range(40)))) == {FLEET_ANSWER}
    assert served.engine.load().pages_free == 64


async def test_a_stopped_engine_tells_its_streams(http, served):
    """When the engine ends, streams get an error event and no [DONE], and /health says 503."""
    body = completion(max_tokens=2000, ignore_eos=True, stream=True)
    async with http.post(served.url + "/v1/completions", json=body) as response:
        served.stepping.cancel()
        events = frames(await response.read())
    assert json.loads(events[-1])["error"]["code"] == "engine_stopped"
    async with http.get(served.url + "/health") as response:
        assert response.status == 503
    async with http.post(served.url + "/v1/completions", json=completion()) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (503, "engine_stopped")


async def test_a_broken_model_fails_loudly(trained):
    """When the model fails, who waits is sent elsewhere and the engine's task ends with the error."""
    weights = {name: value for name, value in trained.weights.items() if name != "2.down"}
    engine = Engine(replace(trained, weights=weights), Limits())
    stepping = asyncio.create_task(engine.run())
    with pytest.raises(EngineStoppedError, match="ask another node"):
        await anext(aiter(engine.generate(Prompt((1, 2, 3), 5))))
    with pytest.raises(KeyError):
        await stepping
    assert engine.load().pages_free == Limits().pages


async def test_metrics_have_vllm_names(http, served, post):
    """The load is shown under the names by which vLLM's dashboards ask."""
    await post("/v1/completions", completion())
    async with http.get(served.url + "/metrics") as response:
        text = await response.text()
    assert 'vllm:num_requests_running{model_name="goldenfleet-embedded"} 0' in text
    assert 'vllm:generation_tokens_total{model_name="goldenfleet-embedded"} 4' in text


async def test_the_openai_sdk_is_content(served):
    """OpenAI's own client lists models, chats, streams with usage, and knows our refusals."""
    async with AsyncOpenAI(base_url=served.url + "/v1", api_key="none", max_retries=0) as client:
        model = (await client.models.list()).data[0].id
        answer = await client.chat.completions.create(model=model, messages=FLEET)
        streamed = await client.chat.completions.create(
            model=model, messages=FLEET, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in streamed]
        with pytest.raises(NotFoundError, match="does not exist"):
            await client.completions.create(model="other", prompt="x")
        with pytest.raises(BadRequestError, match="maximum context length"):
            await client.completions.create(model=model, prompt="x", max_tokens=9999)
    assert answer.choices[0].message.content == FLEET_ANSWER
    assert "".join(c.choices[0].delta.content for c in chunks if c.choices) == FLEET_ANSWER
    assert chunks[-1].usage == answer.usage


def test_the_template_is_plain_text():
    """Each message is a heading and its content; the answer begins after the last heading."""
    messages = [chat.Message("system", "Be brief."), chat.Message("user", "Hello")]
    text = chat.render(messages, add_generation_prompt=True, continue_final_message=False)
    assert text == "### System\nBe brief.\n\n### User\nHello\n\n### Assistant\n"
