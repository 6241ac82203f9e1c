"""A stream that is cut anywhere reaches its client as if nothing had happened."""

import asyncio
from typing import Any

import pytest

CUTS = ["reset", "eof", "half", "node_draining", "engine_stopped", "done_early", "garbage", "abort"]
TOKENS = 9


def chat(**more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "hi"}], "max_tokens": TOKENS, "stream": True} | more


def completion(**more: Any) -> dict[str, Any]:
    return {"prompt": "hello", "max_tokens": TOKENS, "stream": True} | more


ROUTES = [("/v1/chat/completions", chat), ("/v1/completions", completion)]


async def undisturbed(stage: Any, path: str, body: Any) -> Any:
    gateway = await stage.gateway((await stage.engine()).address)
    return await gateway.post(path, body)


@pytest.mark.parametrize("end", CUTS)
@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_a_stream_cut_after_any_token_is_one_stream(
    stage: Any, plan: Any, path: str, body: Any, end: str
) -> None:
    """Wherever and however nodes are lost, the client reads the undisturbed stream: one id, one finish."""
    expected = await undisturbed(stage, path, body(stream_options={"include_usage": True}))
    for cut_after in range(TOKENS + 1):
        engines = [await stage.engine(plan(tokens=cut_after, end=end)) for _ in range(2)]
        engines.append(await stage.engine())
        gateway = await stage.gateway(*(engine.address for engine in engines))
        got = await gateway.post(path, body(stream_options={"include_usage": True}))
        assert (got.text, got.clean, got.data[-1]) == (expected.text, True, "[DONE]")
        chunks = [item for item in got.data if isinstance(item, dict)]
        assert len({chunk["id"] for chunk in chunks}) == 1
        reasons = [c["finish_reason"] for chunk in chunks for c in chunk["choices"] if c["finish_reason"]]
        assert reasons == ["length"]
        assert chunks[-1]["usage"] == expected.data[-2]["usage"]
        assert sum("role" in c.get("delta", ()) for chunk in chunks for c in chunk["choices"]) <= 1
        assert b"token_ids" not in got.body


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_a_resume_asks_for_what_is_missing(
    stage: Any, plan: Any, path: str, body: Any, ids: bool
) -> None:
    """With token ids the next node continues them exactly, without it continues the text; it is logged."""
    first = await stage.engine(plan(tokens=4, end="reset", ids=ids), default=plan(ids=ids))
    gateway = await stage.gateway(first.address)
    expected = await undisturbed(stage, path, body())
    got = await gateway.post(path, body())
    target, asked = first.asked[1]
    if ids:
        prompt = "<user>hi</><assistant>" if path.endswith("chat/completions") else "hello"
        assert target == "/v1/completions"
        assert asked["prompt"] == [*map(ord, prompt), *map(ord, expected.text[:4])]
    elif path.endswith("chat/completions"):
        assert asked["messages"][-1] == {"role": "assistant", "content": expected.text[:4]}
        assert (asked["continue_final_message"], asked["add_generation_prompt"]) == (True, False)
    else:
        assert asked["prompt"] == "hello" + expected.text[:4]
    assert asked["max_tokens"] == TOKENS - 4
    assert got.text == expected.text
    [event] = gateway.events("request.resumed")
    assert (event["mode"], event["tokens"]) == ("tokens" if ids else "text", 4)
    assert "hello" not in gateway.log_lines.getvalue()


async def test_a_chat_without_a_limit_resumes_to_the_end_of_the_context(stage: Any, plan: Any) -> None:
    """A continuation as completions has a default limit, so the context's length is asked for and given."""
    body = chat(max_tokens=None)
    expected = await undisturbed(stage, "/v1/chat/completions", body)
    engine = await stage.engine(plan(tokens=4, end="eof"))
    got = await (await stage.gateway(engine.address)).post("/v1/chat/completions", body)
    assert got.text == expected.text
    assert engine.asked[1][0] == "/v1/completions"
    assert engine.asked[1][1]["max_tokens"] == len(expected.text) - 4


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_a_client_that_asked_for_token_ids_gets_each_once(
    stage: Any, plan: Any, path: str, body: Any
) -> None:
    """Token ids in a resumed stream are those of the undisturbed one, so that the client can resume too."""
    engine = await stage.engine(plan(tokens=4, end="half"))
    got = await (await stage.gateway(engine.address)).post(path, body(return_token_ids=True))
    choices = [c for item in got.data if isinstance(item, dict) for c in item["choices"]]
    assert [i for c in choices for i in c.get("token_ids") or ()] == [ord(c) for c in got.text]
    assert b"prompt_token_ids" in got.body


async def test_a_stop_sequence_still_ends_a_resumed_stream(stage: Any, plan: Any) -> None:
    """The continuation keeps the stop sequences, and its finish reason is the stream's."""
    whole = await undisturbed(stage, "/v1/completions", completion())
    body = completion(stop=[whole.text[6:8]])
    engine = await stage.engine(plan(tokens=4, end="reset"))
    got = await (await stage.gateway(engine.address)).post("/v1/completions", body)
    assert got.text == whole.text[:6]
    assert got.data[-2]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("cut_after", range(TOKENS + 1))
@pytest.mark.parametrize("stream", [True, False])
async def test_a_tgi_answer_survives_a_cut(stage: Any, plan: Any, cut_after: int, stream: bool) -> None:
    """TGI's answers, streamed or whole, are the same with and without a loss on the way."""
    body = {"inputs": "hello", "parameters": {"max_new_tokens": TOKENS, "details": True}, "stream": stream}
    expected = await undisturbed(stage, "/", body)
    engine = await stage.engine(plan(tokens=cut_after, end="reset"))
    got = await (await stage.gateway(engine.address)).post("/", body)
    assert (got.body, got.clean) == (expected.body, True)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"n": 2}, "more than one choice"),
        ({"logprobs": True}, "logprobs"),
        ({"presence_penalty": 0.5}, "penalty"),
        ({"response_format": {"type": "json_object"}}, "format"),
    ],
)
async def test_what_cannot_be_resumed_says_so(stage: Any, plan: Any, more: dict[str, Any], why: str) -> None:
    """A stream that cannot be continued faithfully ends in an error event, never in silence or a guess."""
    engine = await stage.engine(plan(tokens=4, end="reset"))
    got = await (await stage.gateway(engine.address)).post("/v1/chat/completions", chat(**more))
    assert got.error["code"] == "resume_unsupported"
    assert why in got.error["message"]
    assert got.error["request_id"] == got.headers["x-request-id"]
    assert b"[DONE]" not in got.body
    assert len(engine.asked) == 1


async def test_what_cannot_be_resumed_is_retried_while_nothing_was_sent(stage: Any, plan: Any) -> None:
    """Before its first token any stream may start again on another node."""
    engine = await stage.engine(plan(tokens=0, end="reset"))
    got = await (await stage.gateway(engine.address)).post("/v1/chat/completions", chat(logprobs=True))
    assert (got.clean, got.data[-1]) == (True, "[DONE]")


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_a_stream_whose_nodes_all_fail_ends_in_an_error(
    stage: Any, plan: Any, until: Any, path: str, body: Any
) -> None:
    """When the attempts are used up a truncated stream does not look finished to its client."""
    first = await stage.engine(plan(tokens=4, end="hang"))
    broken = [await stage.engine(default=plan(tokens=0, end="engine_stopped")) for _ in range(3)]
    gateway = await stage.gateway(first.address)
    task = asyncio.create_task(gateway.post(path, body()))
    await until(lambda: first.asked)
    gateway.nodes.replace({name: at for engine in broken for name, at in engine.found.items()})
    first.release.set()
    got = await task
    assert got.error["code"] == "nodes_failed"
    assert b"[DONE]" not in got.body
    assert b"secret" not in got.body
    assert sum(len(engine.asked) for engine in broken) == 2


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/generate_stream"])
@pytest.mark.parametrize("cut_after", [0, 1, 7, 20])
async def test_the_real_engine_goes_on_bit_for_bit(
    stage: Any, trained: Any, path: str, cut_after: int
) -> None:
    """Over the embedded engine a stream that is cut reads as the undisturbed one, to the last byte."""
    body = {
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "Was heißt „drain“ 💧?"}]},
        "/v1/completions": {"prompt": "A drain follows a notice. 💧"},
        "/generate_stream": {"inputs": "A node is 💧", "parameters": {"max_new_tokens": 40}},
    }[path] | ({} if path == "/generate_stream" else {"max_tokens": 40, "stream": True})
    engine = await stage.embedded(trained)
    expected = await (await stage.gateway(engine)).post(path, body)
    gateway = await stage.gateway((await stage.cutter(engine, cut_after)).address)
    got = await gateway.post(path, body)
    assert gateway.events("request.resumed") or gateway.events("request.retried")
    assert got.text == expected.text
    assert got.clean
    assert _ending(got) == _ending(expected)


def _ending(answer: Any) -> Any:
    """How a stream ended: its finish reason and, in TGI's, its whole text."""
    if answer.data[-1] != "[DONE]":
        return answer.data[-1]
    return answer.data[-2]["choices"][0]["finish_reason"]
