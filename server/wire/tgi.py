"""TGI's native wire format (text-generation-inference 3), translated to OpenAI completions and back.

Differences from TGI: log probabilities are null and `prefill` is empty, for an engine is not asked for
them; a stop sequence is not part of the text, as OpenAI's engines cut it off.
More than TGI: with the parameter `return_token_ids` the first event of a stream has `prompt_token_ids`, and
with the parameter `prompt_token_ids` a generation goes on from those instead of `inputs`. A client whose
stream was cut continues it so, token by token.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Any

from server.errors import BadRequest
from server.wire.jsonbody import (
    Json,
    dump,
    optional_bool,
    optional_int,
    optional_number,
    parse_object,
    string_list,
)
from server.wire.openai import MAX_STOPS, MAX_TOKENS, Delta, Generation, check_generation

# TGI 3 generates this many tokens when a request does not say; text-generation 0.7 always says.
DEFAULT_MAX_NEW_TOKENS = 100
MAX_SEED = 2**63 - 1

# Parameters that would change the answer and have no counterpart in the OpenAI API.
_UNSUPPORTED = ("decoder_input_details", "watermark", "grammar", "top_n_tokens", "truncate", "adapter_id")
_NEUTRAL: tuple[object, ...] = (None, False, 0)


@dataclass(frozen=True, slots=True)
class TgiRequest:
    """A TGI generation, and what is to be generated for it. `seed` is set when sampling."""

    inputs: str
    generation: Generation
    stream: bool
    details: bool
    return_full_text: bool
    seed: int | None
    wants_ids: bool = False


def read_request(raw: bytes, rng: Random, *, stream: bool | None = None) -> TgiRequest:
    """`stream` is what the route says; None leaves it to the body. Raises BadRequest."""
    body = parse_object(raw)
    inputs = body.get("inputs")
    if not isinstance(inputs, str) or not inputs:
        raise BadRequest("`inputs` must be a string that is not empty.", param="inputs")
    parameters = body.get("parameters")
    parameters = {} if parameters is None else parameters
    if not isinstance(parameters, dict):
        raise BadRequest("`parameters` must be an object.", param="parameters")
    _refuse_unsupported(parameters)
    seed = _seed(parameters, rng)
    wanted = optional_bool(body, "stream") if stream is None else stream
    return TgiRequest(
        inputs=inputs,
        generation=check_generation("completions", _completion(inputs, parameters, seed)),
        stream=wanted,
        details=optional_bool(parameters, "details"),
        return_full_text=optional_bool(parameters, "return_full_text"),
        seed=seed,
        wants_ids=optional_bool(parameters, "return_token_ids"),
    )


@dataclass(slots=True)
class TgiAnswer:
    """Turns what completions chunks add into TGI's events and, at the end, its details."""

    request: TgiRequest
    text: str = ""
    tokens: list[Json] = field(default_factory=list)
    _prompt_ids: list[int] | None = None
    _held: Json | None = None
    _finish: Delta | None = None

    def events(self, delta: Delta) -> list[Json]:
        """The token events that can be sent now.

        The last token's event carries the details, so the token that reaches `max_new_tokens` waits for
        the finish reason, which an engine sends right behind it.
        """
        self._finish = delta if delta.finished else self._finish
        if not self.tokens:
            self._prompt_ids = delta.prompt_token_ids or self._prompt_ids
        fresh = self._add(delta)
        if self._finish is None and len(self.tokens) < (self.request.generation.max_tokens or 0):
            return fresh
        if fresh:
            ready = [*([self._held] if self._held else []), *fresh[:-1]]
            self._held = fresh[-1]
            return ready
        return []

    def last_event(self) -> Json:
        """The event that ends the stream. Call it once the generation has finished."""
        event = self._held or self._event({"id": 0, "text": "", "logprob": None, "special": True})
        return event | {
            "generated_text": self._full_text(),
            "details": {
                "finish_reason": self.finish_reason,
                "generated_tokens": len(self.tokens),
                "seed": self.request.seed,
            },
        }

    def response(self) -> Json:
        """The answer of a request that does not stream."""
        answer: Json = {"generated_text": self._full_text()}
        if self.request.details:
            answer["details"] = {
                "finish_reason": self.finish_reason,
                "generated_tokens": len(self.tokens),
                "seed": self.request.seed,
                "prefill": [],
                "tokens": self.tokens,
            }
        return answer

    @property
    def finish_reason(self) -> str:
        finish = self._finish or Delta(finish_reason="stop")
        if finish.finish_reason == "length":
            return "length"
        if isinstance(finish.stop_reason, str):
            return "stop_sequence"
        # Without vLLM's `stop_reason` a stop and the end of the text cannot be told apart.
        asked_to_stop = bool(self.request.generation.body.get("stop"))
        return "stop_sequence" if asked_to_stop and finish.stop_reason is None else "eos_token"

    def _add(self, delta: Delta) -> list[Json]:
        self.text += delta.text
        ids = delta.token_ids if delta.token_ids is not None else ([0] if delta.text else [])
        if not delta.text:
            # The end-of-text token is not counted; ids of half a character come again with its text.
            return []
        events = []
        for position, token_id in enumerate(ids, start=1):
            text = delta.text if position == len(ids) else ""
            token = {"id": token_id, "text": text, "logprob": None, "special": False}
            self.tokens.append(token)
            events.append(self._event(token))
        return events

    def _event(self, token: Json) -> Json:
        index = len(self.tokens) + (1 if token["special"] else 0)
        event = {"index": index, "token": token, "generated_text": None, "details": None}
        if index == 1 and self.request.wants_ids and self._prompt_ids is not None:
            event["prompt_token_ids"] = self._prompt_ids
        return event

    def _full_text(self) -> str:
        return self.request.inputs + self.text if self.request.return_full_text else self.text


def frame(event: Json) -> bytes:
    return b"data:%b\n\n" % dump(event)


def info(models: Json, version: str) -> Json:
    """GET /info, from an engine's model list: the fields of TGI's that are known of any engine."""
    listed = models.get("data")
    model = listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], dict) else {}
    return {
        "model_id": model.get("id", "unknown"),
        "model_sha": None,
        "model_pipeline_tag": "text-generation",
        "max_stop_sequences": MAX_STOPS,
        "max_best_of": 1,
        "max_total_tokens": model.get("max_model_len"),
        "router": "goldenfleet",
        "version": version,
    }


def _refuse_unsupported(parameters: Json) -> None:
    for name in _UNSUPPORTED:
        if parameters.get(name) not in _NEUTRAL:
            raise BadRequest(f"`{name}` is not supported here; leave it out.", param=name)
    if (optional_int(parameters, "best_of", 1, 100) or 1) > 1:
        raise BadRequest("`best_of` above 1 is not supported here; leave it out.", param="best_of")
    if (optional_number(parameters, "typical_p") or 1.0) < 1.0:
        raise BadRequest("`typical_p` is not supported here; use `top_p`.", param="typical_p")


def _samples(parameters: Json) -> bool:
    """TGI samples when told to, and when any sampling parameter is not neutral."""
    top_p, top_k = optional_number(parameters, "top_p"), optional_int(parameters, "top_k", 0, 1_000_000)
    temperature = optional_number(parameters, "temperature")
    return (
        optional_bool(parameters, "do_sample")
        or temperature not in (None, 1.0)
        or bool(top_k)
        or (top_p is not None and top_p < 1.0)
    )


def _seed(parameters: Json, rng: Random) -> int | None:
    """TGI draws a seed for who samples without one, and reports it; a resume then samples the same."""
    seed = optional_int(parameters, "seed", 0, 2**64 - 1)
    if not _samples(parameters):
        return None
    return seed if seed is not None else rng.randrange(MAX_SEED)


def _completion(inputs: str, parameters: Json, seed: int | None) -> Json:
    temperature = optional_number(parameters, "temperature")
    if temperature is not None and temperature <= 0:
        raise BadRequest(
            "`temperature` must be positive; leave it out for greedy decoding.", param="temperature"
        )
    body: dict[str, Any] = {
        "prompt": _prompt_ids(parameters) or inputs,
        "max_tokens": _max_new_tokens(parameters),
        "temperature": 0.0 if seed is None else (temperature or 1.0),
    }
    if seed is not None:
        body["seed"] = seed
    stops = string_list(parameters, "stop", MAX_STOPS) or string_list(parameters, "stop_sequences", MAX_STOPS)
    if stops:
        body["stop"] = stops
    for name in ("top_p", "top_k", "repetition_penalty", "frequency_penalty"):
        if parameters.get(name) is not None:
            body[name] = parameters[name]
    return body


def _prompt_ids(parameters: Json) -> list[int] | None:
    ids = parameters.get("prompt_token_ids")
    if ids is None:
        return None
    if not isinstance(ids, list) or not ids or not all(type(token) is int and token >= 0 for token in ids):
        raise BadRequest("`prompt_token_ids` must be a list of token ids.", param="prompt_token_ids")
    return ids


def _max_new_tokens(parameters: Json) -> int:
    asked = optional_int(parameters, "max_new_tokens", 1, MAX_TOKENS)
    return DEFAULT_MAX_NEW_TOKENS if asked is None else asked
