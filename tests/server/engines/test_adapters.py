"""What each adapter says, as tables; and that nothing an engine says breaks one."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engines import ADAPTERS, UNKNOWN, capabilities_of
from server.engines.load import Load, read_load

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "error", "finish_reason", "data", "meta", "text"]), inner
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("kind", "route", "body", "sent"),
    [
        ("tgi", "chat", {"model": "qwen", "stop": "x"}, {"model": "tgi", "stop": ["x"]}),
        ("tgi", "chat", {"max_completion_tokens": 5}, {"model": "tgi", "max_tokens": 5}),
        (
            "tgi",
            "completions",
            {"prompt": "a", "stop": ["x"]},
            {"prompt": "a", "stop": ["x"], "model": "tgi"},
        ),
        ("sglang", "chat", {"stream": True, "return_token_ids": True}, {"stream": True}),
        ("sglang", "chat", {"return_token_ids": True}, {"return_token_ids": True}),
        (
            "sglang",
            "completions",
            {"stream": True, "return_token_ids": True},
            {"stream": True, "return_token_ids": True},
        ),
        ("llama-server", "chat", {"stream": True}, {"stream": True, "timings_per_token": True}),
        ("llama-server", "chat", {"stream": False}, {"stream": False}),
    ],
)
def test_a_request_in_the_engine_s_words(kind: str, route: Any, body: Any, sent: Any) -> None:
    """What an engine would refuse or misread is put as it wants it; the client's own body stays as it is."""
    request = ADAPTERS[kind].request
    assert request is not None
    before = dict(body)
    assert request(route, body) == sent
    assert body == before


@pytest.mark.parametrize(("said", "reason"), [("", None), ("length", "length"), (None, None)])
def test_a_reason_of_tgi_is_openai_s(said: Any, reason: Any) -> None:
    """TGI's completions have an empty reason until the last chunk."""
    chunk = ADAPTERS["tgi"].chunk
    assert chunk is not None
    assert chunk({"choices": [{"text": "a", "finish_reason": said}]})["choices"] == [
        {"text": "a", "finish_reason": reason}
    ]


def test_the_end_token_of_tgi_is_no_text() -> None:
    """A completion that streams ends with its end token's own text, which is nobody's answer."""
    chunk = ADAPTERS["tgi"].chunk
    assert chunk is not None
    [choice] = chunk({"choices": [{"text": "<|im_end|>", "finish_reason": "eos_token"}]})["choices"]
    assert choice == {"text": "", "finish_reason": "stop"}


@pytest.mark.parametrize(("kind", "code"), [("validation", 422), ("overloaded", 429), ("generation", 500)])
def test_an_error_event_of_tgi_has_a_code(kind: str, code: int) -> None:
    """Only a validation error is the request's fault."""
    chunk = ADAPTERS["tgi"].chunk
    assert chunk is not None
    assert chunk({"error": "text", "error_type": kind})["error"]["code"] == code


@given(said=st.dictionaries(st.sampled_from(["choices", "error", "data", "error_type"]), JSON))
def test_no_answer_breaks_an_adapter(said: dict[str, Any]) -> None:
    """Whatever JSON object an engine sends, it is put into OpenAI's words or left as it is."""
    for adapter in ADAPTERS.values():
        for read in (adapter.chunk, adapter.models):
            assert read is None or isinstance(read(said), dict)


def test_an_engine_that_nobody_named_is_unknown() -> None:
    """Neither a missing nor an unknown name is taken for some engine."""
    assert capabilities_of(None) is UNKNOWN
    assert capabilities_of("triton") is UNKNOWN
    assert all(capabilities_of(kind) is adapter.capabilities for kind, adapter in ADAPTERS.items())


def test_gauges_that_are_not_there_are_unknown() -> None:
    """An engine without metrics, or with older names, is not one without load."""
    assert read_load(ADAPTERS["tgi"].gauges, "") == Load()
    old = "vllm:gpu_cache_usage_perc 0.5\nvllm:num_requests_running NaN\n"
    assert read_load(ADAPTERS["vllm"].gauges, old) == Load(kv_used_ratio=0.5)
