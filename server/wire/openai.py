"""OpenAI's wire format: what a client asked, and what an engine's chunk carries.

Only what the gateway acts on is checked here; the engine validates the rest. Token ids use vLLM's field
names (`return_token_ids`, `token_ids`, `prompt_token_ids`).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from server.errors import BadRequest, EngineRefused, WireError
from server.wire.jsonbody import Json, dump, optional_bool, optional_int, parse_object, string_list
from server.wire.refusals import engine_refusal
from server.wire.unsafe import refuse_unsafe

Kind = Literal["chat", "completions"]
# Puts a request into an engine's own words.
IntoDialect = Callable[[Kind, Json], Json]

TARGETS: dict[Kind, str] = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}
CHUNK_OBJECTS: dict[Kind, str] = {"chat": "chat.completion.chunk", "completions": "text_completion"}

_GIVEN_UP = re.compile(rb'"finish_reason"\s*:\s*"abort"')

MAX_CHOICES = 16
MAX_TOKENS = 1_000_000
MAX_STOPS = 4
# OpenAI's default for completions, sent explicitly: engines' own differ, and a resume must know it.
DEFAULT_COMPLETION_TOKENS = 16
# What an engine says with these is about itself, or about us; 424 is TGI's for a model that failed.
NODE_STATUSES = frozenset({401, 403, 407, 408, 424, 429})
# Model names that TGI's clients send for "whatever is served here".
SERVED_MODEL_ALIASES = frozenset({"tgi", "dummy"})


class Generation(NamedTuple):
    """One generation that a client asked for, validated; `body` is its JSON with a default made explicit."""

    kind: Kind
    body: Json
    stream: bool
    wants_ids: bool
    wants_usage: bool
    choices: int
    max_tokens: int | None

    @property
    def target(self) -> str:
        return TARGETS[self.kind]


def read_generation(kind: Kind, raw: bytes) -> Generation:
    """Raises BadRequest."""
    return check_generation(kind, parse_object(raw))


def check_generation(kind: Kind, body: Json) -> Generation:
    """Raises BadRequest."""
    stops = string_list(body, "stop", MAX_STOPS) if "stop" in body else None
    if stops and max(map(len, stops)) > 1000:
        raise BadRequest("A stop sequence may have at most 1000 characters.", param="stop")
    refuse_unsafe(body)
    model = body.get("model")
    if model is not None and not isinstance(model, str):
        raise BadRequest("`model` must be a string.", param="model")
    n = (optional_int(body, "n", 1, MAX_CHOICES) or 1) if "n" in body else 1
    if "best_of" in body:
        optional_int(body, "best_of", 1, MAX_CHOICES)
    if kind == "completions" and body.get("max_tokens") is None:
        body = body | {"max_tokens": DEFAULT_COMPLETION_TOKENS}
    most = optional_int(body, "max_completion_tokens", 0, MAX_TOKENS)
    older = optional_int(body, "max_tokens", 0, MAX_TOKENS)
    return Generation(
        kind=kind,
        body=body,
        stream=optional_bool(body, "stream"),
        wants_ids=optional_bool(body, "return_token_ids"),
        wants_usage=_wants_usage(body),
        choices=n * _prompts(body.get("prompt")),
        max_tokens=older if most is None else most,
    )


def upstream_unary(generation: Generation, into_dialect: IntoDialect | None = None) -> bytes:
    body = _served_here(generation.body)
    return dump(into_dialect(generation.kind, body) if into_dialect else body)


def upstream_stream(kind: Kind, body: Mapping[str, Any], into_dialect: IntoDialect | None = None) -> bytes:
    """A streaming request to the engine: with usage, and with token ids, so that it can be continued."""
    options = body.get("stream_options")
    asked = _served_here(body) | {
        "stream": True,
        "return_token_ids": True,
        "stream_options": {**(options if isinstance(options, dict) else {}), "include_usage": True},
    }
    return dump(into_dialect(kind, asked) if into_dialect else asked)


@dataclass(slots=True)
class Delta:
    """What one chunk adds. `opaque` names content that cannot be continued on another node; `made` is the
    number of tokens that the engine has made in all, where it says so.
    """

    text: str = ""
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    finished: int = 0
    usage: Json | None = None
    opaque: str | None = None
    role_only: bool = False
    made: int | None = None


def read_chunk(kind: Kind, chunk: Json) -> Delta:
    """Raises WireError if the chunk is not what OpenAI's streams carry."""
    choices = chunk.get("choices")
    if not isinstance(choices, list):
        raise WireError("a chunk of the engine's stream has no choices")
    usage = chunk.get("usage")
    delta = Delta(usage=usage if isinstance(usage, dict) else None)
    delta.prompt_token_ids = _ids(chunk.get("prompt_token_ids"))
    delta.made = _made(chunk.get("timings"))
    for choice in choices:
        if not isinstance(choice, dict):
            raise WireError("a choice in the engine's stream is not an object")
        _read_choice(kind, choice, delta)
    return delta


def check_answer(raw: bytes) -> None:
    """Raises WireError for a whole answer that is none. It goes on as it came: looked at, and not parsed, for
    a proxy's page, half an answer and an error under 200 all lack one of these.
    """
    whole = raw[:64].lstrip().startswith(b"{") and raw[-64:].rstrip().endswith(b"}")
    if not (whole and b'"choices"' in raw):
        raise WireError("the node's answer is not a whole completion")


def is_given_up(chunk: Json) -> bool:
    """Engines end what they give up, as when they shut down, with a finish reason that is none, and [DONE]
    after it: vLLM and SGLang (vllm-project/vllm#57082)."""
    choices = chunk.get("choices")
    listed = choices if isinstance(choices, list) else []
    return any(isinstance(choice, dict) and choice.get("finish_reason") == "abort" for choice in listed)


def holds_given_up(answer: bytes) -> bool:
    """The same of a whole answer, which is not parsed: quotes inside its text have a backslash first."""
    return _GIVEN_UP.search(answer) is not None


@dataclass(frozen=True, slots=True)
class EngineError:
    """An error event in an engine's stream; `refusal` is set when it is about the request itself."""

    code: str
    refusal: EngineRefused | None


def read_error(chunk: Json) -> EngineError | None:
    error = chunk.get("error")
    if error is None:
        return None
    fields = error if isinstance(error, dict) else {}
    code = fields.get("code")
    refused = _is_validation(fields.get("type"), code)
    status = code if isinstance(code, int) else 400
    return EngineError(str(code), engine_refusal(status, fields) if refused else None)


def read_refusal(status: int, raw: bytes) -> EngineRefused:
    """The engine's 4xx as it is passed on; what is not an error as some engine says it is not relayed."""
    try:
        body = parse_object(raw)
    except BadRequest:
        body = {}
    error = body.get("error")
    if isinstance(error, str) and "error_type" in body:
        # TGI: {"error": text, "error_type"}.
        error = {"message": error, "type": "invalid_request_error", "code": body.get("error_type")}
    elif error is None and body.get("object") == "error":
        # SGLang: the fields at the top.
        error = body
    return engine_refusal(status, error if isinstance(error, dict) else {})


def strip_ids(chunk: Json) -> None:
    chunk.pop("prompt_token_ids", None)
    for choice in chunk["choices"]:
        choice.pop("token_ids", None)
        choice.pop("prompt_token_ids", None)


def _served_here(body: Mapping[str, Any]) -> Json:
    if body.get("model") in SERVED_MODEL_ALIASES:
        return {name: value for name, value in body.items() if name != "model"}
    return dict(body)


def _wants_usage(body: Json) -> bool:
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise BadRequest("`stream_options` must be an object.", param="stream_options")
    return optional_bool(options or {}, "include_usage")


def _prompts(prompt: object) -> int:
    """How many prompts a completion request holds: a list of strings or of token lists is a batch."""
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list):
        return len(prompt)
    return 1


def _read_choice(kind: Kind, choice: Json, delta: Delta) -> None:
    delta.prompt_token_ids = delta.prompt_token_ids or _ids(choice.get("prompt_token_ids"))
    ids = _ids(choice.get("token_ids"))
    if ids is not None:
        delta.token_ids = (delta.token_ids or []) + ids
    if choice.get("finish_reason") is not None:
        delta.finish_reason = str(choice["finish_reason"])
        delta.stop_reason = choice.get("stop_reason")
        delta.finished += 1
    if kind == "completions":
        delta.text += _text(choice.get("text"))
        return
    message = choice.get("delta")
    if not isinstance(message, dict):
        raise WireError("a chat chunk of the engine's stream has no delta")
    delta.text += _text(message.get("content"))
    others = [name for name, value in message.items() if value and name not in ("role", "content")]
    delta.opaque = others[0] if others else delta.opaque
    delta.role_only = "role" in message and not delta.text and not others and not delta.finished


def _text(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise WireError("the text of a chunk in the engine's stream is not a string")
    return value


def _ids(value: object) -> list[int] | None:
    return value if isinstance(value, list) and all(type(item) is int for item in value) else None


def _made(timings: object) -> int | None:
    """llama-server's `timings_per_token`."""
    made = timings.get("predicted_n") if isinstance(timings, dict) else None
    return made if type(made) is int and made > 0 else None


def _is_validation(kind: object, code: object) -> bool:
    if isinstance(code, int):
        return 400 <= code < 500 and code not in NODE_STATUSES
    return isinstance(kind, str) and kind in ("invalid_request_error", "BadRequestError")
