"""A stream that is cut anywhere reaches its client as if nothing had happened."""

from typing import Any

import pytest

CUTS = ["reset", "eof", "half", "node_draining", "engine_stopped", "done_early", "garbage"]
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
    """Wherever and however a node is lost, the client reads the undisturbed text, one id, one finish reason."""
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
