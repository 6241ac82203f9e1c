"""OpenAI requests, read into what the engine understands. What it cannot honour it refuses, never guesses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from server.engine import chat
from server.engine.config import MODEL_ID
from server.engine.engine import Prompt, too_long
from server.engine.errors import RequestError
from server.engine.fields import Fields, integer, wrong
from server.engine.sampling import SEED_LIMIT, Sampling
from server.engine.tokenizer import END_OF_TEXT, Tokenizer

MOST_STOPS = 4
COMPLETIONS_DEFAULT_MAX_TOKENS = 16  # OpenAI's own default; chat has none and may fill the context

# Fields that change the answer and that this engine lacks, with the values that ask for nothing.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "best_of": (None, 1),
    "echo": (None, False),
    "suffix": (None, ""),
    "logprobs": (None, False, 0),
    "top_logprobs": (None, 0),
    "prompt_logprobs": (None,),
    "tools": (None, []),
    "functions": (None, []),
    "logit_bias": (None, {}),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "repetition_penalty": (None, 1),
    "min_p": (None, 0),
    "response_format": (None, {"type": "text"}),
    "audio": (None,),
}


@dataclass(frozen=True)
class Asked:
    """A request that the engine can serve."""

    prompt: Prompt
    stream: bool
    include_usage: bool
    return_token_ids: bool


@dataclass(frozen=True)
class Reader:
    """Knows the tokenizer, the context length in tokens, and the name by which the model is asked for."""

    tokenizer: Tokenizer
    context: int
    model_id: str = MODEL_ID

    def completion(self, values: dict[str, Any], fresh_seed: int) -> Asked:
        fields = Fields(values)
        _check_common(fields, self.model_id)
        token_ids = self._completion_prompt(fields.get("prompt"))
        return _asked(fields, token_ids, COMPLETIONS_DEFAULT_MAX_TOKENS, fresh_seed)

    def chat(self, values: dict[str, Any], fresh_seed: int) -> Asked:
        fields = Fields(values)
        _check_common(fields, self.model_id)
        continues = fields.flag("continue_final_message")
        prompts = fields.flag("add_generation_prompt", not continues)
        if continues and prompts:
            raise RequestError(
                "'continue_final_message' and 'add_generation_prompt' exclude each other; set one to false.",
                param="continue_final_message",
            )
        messages = _messages(fields.get("messages"))
        text = chat.render(messages, add_generation_prompt=prompts, continue_final_message=continues)
        return _asked(fields, self._encode(text), None, fresh_seed)

    def _completion_prompt(self, prompt: Any) -> tuple[int, ...]:
        if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
            prompt = prompt[0]
        if isinstance(prompt, str):
            return self._encode(prompt)
        if not isinstance(prompt, list) or not prompt:
            raise wrong("prompt", "one string or one non-empty list of token ids")
        if len(prompt) >= self.context:
            raise too_long(f"{len(prompt)} in the prompt alone", self.context)
        return tuple(integer(token, "prompt", 0, self.tokenizer.vocab - 1) for token in prompt)

    def _encode(self, text: str) -> tuple[int, ...]:
        """A text begins a document. One that cannot fit is refused before the work of encoding it."""
        least = len(text) // self.tokenizer.longest_token
        if least >= self.context:
            raise too_long(f"at least {least} in the prompt", self.context)
        return (END_OF_TEXT, *self.tokenizer.encode(text))


def _asked(fields: Fields, token_ids: tuple[int, ...], default_tokens: int | None, fresh_seed: int) -> Asked:
    stream = fields.flag("stream")
    return Asked(
        prompt=Prompt(
            token_ids=token_ids,
            max_tokens=_max_tokens(fields, default_tokens),
            sampling=_sampling(fields, fresh_seed),
            stops=fields.strings("stop", MOST_STOPS),
            ignore_end=fields.flag("ignore_eos"),
        ),
        stream=stream,
        include_usage=stream and fields.object("stream_options").flag("include_usage"),
        return_token_ids=fields.flag("return_token_ids"),
    )


def _check_common(fields: Fields, model_id: str) -> None:
    model = fields.text("model")
    if model is not None and model != model_id:
        raise RequestError(
            f"The model '{model}' does not exist; this engine serves '{model_id}'.",
            status=404,
            code="model_not_found",
            param="model",
        )
    for name, neutral in _UNSUPPORTED.items():
        if fields.get(name) not in neutral:
            raise RequestError(f"'{name}' is not supported by this engine; leave it out.", param=name)


def _max_tokens(fields: Fields, default: int | None) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        if fields.get(name) is not None:
            return fields.integer(name, 1, 1)
    return default


def _sampling(fields: Fields, fresh_seed: int) -> Sampling:
    top_k = fields.integer("top_k", 0, -1)
    return Sampling(
        temperature=fields.number("temperature", 0.0, 0.0, 2.0),
        top_p=fields.number("top_p", 1.0, 0.0, 1.0),
        top_k=max(0, top_k),
        seed=fields.integer("seed", fresh_seed, -SEED_LIMIT // 2, SEED_LIMIT - 1) % SEED_LIMIT,
    )


def _messages(value: Any) -> list[chat.Message]:
    if not isinstance(value, list) or not value:
        raise wrong("messages", "a non-empty list of messages")
    return [_message(item, f"messages[{index}]") for index, item in enumerate(value)]


def _message(value: Any, path: str) -> chat.Message:
    if not isinstance(value, dict):
        raise wrong(path, "an object with role and content")
    role = value.get("role")
    if not isinstance(role, str) or role not in chat.ROLES:
        raise wrong(f"{path}.role", f"one of {', '.join(chat.ROLES)}")
    return chat.Message(role, _content(value.get("content"), f"{path}.content"))


def _content(value: Any, path: str) -> str:
    """A string, or a list of text parts as the SDKs send it."""
    if isinstance(value, str):
        return value
    parts = value if isinstance(value, list) else [None]
    return "".join(_part_text(part, path) for part in parts)


def _part_text(part: Any, path: str) -> str:
    text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
    if not isinstance(text, str):
        raise wrong(path, "a string or a list of text parts")
    return text
