"""JSON answers into results. What is missing or of another type raises ValueError: it is no answer."""

from __future__ import annotations

from ._plan import Call
from ._transcript import GIVEN_UP
from .types import Generation, Model, Usage


def parse_generation(answer: object, call: Call) -> Generation:
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise ValueError("no choices")
    choice = choices[0]
    text = _text(choice)
    reason = choice.get("finish_reason")
    if not isinstance(text, str) or not isinstance(reason, str):
        raise ValueError("a choice without text or finish reason")
    usage = _usage(answer.get("usage") if isinstance(answer, dict) else None)
    if reason == GIVEN_UP:
        raise ValueError("the engine gave it up")
    return Generation(text, reason, usage, call.means.request_id, call.attempts, resumes=0)


def _text(choice: dict[str, object]) -> object:
    message = choice.get("message")
    if not isinstance(message, dict):
        return choice.get("text")
    # Null where a model came to its limit while it was thinking (vllm-project/vllm#52640).
    return "" if message.get("content") is None else message["content"]


def _usage(usage: object) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return Usage(prompt, completion) if isinstance(prompt, int) and isinstance(completion, int) else None


def parse_models(answer: object, _call: Call) -> tuple[Model, ...]:
    listed = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(listed, list):
        raise ValueError("no list of models")
    return tuple(_model(entry) for entry in listed)


def _model(entry: object) -> Model:
    name = entry.get("id") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(name, str):
        raise ValueError("a model without id")
    owner = entry.get("owned_by")
    return Model(name, owner if isinstance(owner, str) else None)
