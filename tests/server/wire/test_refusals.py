"""An engine's refusal, as each engine words it, in our own words."""

from typing import Any

import pytest

from server.wire.refusals import engine_refusal

VLLM_LENGTH = "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens. canary"


@pytest.mark.parametrize(
    ("status", "error", "code", "param", "words"),
    [
        (
            400,
            {"message": VLLM_LENGTH, "type": "BadRequestError", "code": 400},
            "context_length_exceeded",
            None,
            "8192",
        ),
        (
            400,
            {"message": "canary", "code": "context_length_exceeded", "param": "prompt"},
            "context_length_exceeded",
            "prompt",
            "context",
        ),
        (
            400,
            {"message": "canary", "type": "exceed_context_size_error", "code": 400},
            "context_length_exceeded",
            None,
            "context",
        ),
        (
            404,
            {"message": "The model `canary` does not exist.", "code": 404, "param": "model"},
            "model_not_found",
            "model",
            "/v1/models",
        ),
        (
            422,
            {"message": "canary in /root/canary.py", "param": "temperature"},
            "invalid_request",
            "temperature",
            "`temperature`",
        ),
        (
            400,
            {"message": "canary", "param": "canary", "code": "canary", "type": "canary"},
            "invalid_request",
            None,
            "fields",
        ),
        (400, {"message": 5, "param": [], "code": {}, "type": None}, "invalid_request", None, "fields"),
        (400, {}, "invalid_request", None, "fields"),
    ],
)
def test_what_is_recognised_is_said_in_our_words(
    status: int, error: dict[str, Any], code: str, param: str | None, words: str
) -> None:
    """Code, field and the model's context go on; nothing else that the engine wrote does."""
    refusal = engine_refusal(status, error)
    assert (refusal.status, refusal.code, refusal.param) == (status, code, param)
    assert words in refusal.message
    assert refusal.type == "invalid_request_error"
    assert "canary" not in f"{refusal.message} {refusal.code} {refusal.type} {refusal.param}"
