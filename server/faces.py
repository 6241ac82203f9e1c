"""How one stream looks to its client: OpenAI's chunks, or TGI's token events."""

from typing import Protocol

from server.errors import RequestRefused, envelope
from server.wire import tgi
from server.wire.jsonbody import Json, dump
from server.wire.openai import SERVED_MODEL_ALIASES, Delta, Generation
from server.wire.sse import DONE_FRAME, frame

FINGERPRINT = "goldenfleet"

# text-generation 0.7 sends every field of its ChatRequest, nulls too, and reads every data line as JSON.
_TEXT_GENERATION_CHAT = frozenset(
    {
        "model",
        "messages",
        "repetition_penalty",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "max_tokens",
        "n",
        "presence_penalty",
        "stream",
        "seed",
        "temperature",
        "top_p",
        "tools",
        "tool_choice",
    }
)


class Face(Protocol):
    """Chunks of the relayed stream in, bytes for the client out.

    `repeats`: chunks that differ in text and ids alone become events that differ in them alone.
    """

    repeats: bool

    def chunk(self, chunk: Json, delta: Delta) -> bytes: ...
    def end(self) -> bytes: ...
    def error(self, error: RequestRefused) -> bytes: ...


class OpenAiFace:
    repeats = True

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id

    def chunk(self, chunk: Json, delta: Delta) -> bytes:  # noqa: ARG002
        return b"data: %b\n\n" % dump(chunk)

    def end(self) -> bytes:
        return DONE_FRAME

    def error(self, error: RequestRefused) -> bytes:
        return frame(envelope(error, "openai", self._request_id))


class TgiChatFace(OpenAiFace):
    """Chat as TGI streams it: a role, tool calls and a fingerprint in every chunk.

    text-generation 0.7 fails on `[DONE]`, so for it the finish reason is the last word.
    """

    def __init__(self, request_id: str, *, says_done: bool) -> None:
        super().__init__(request_id)
        self._says_done = says_done

    def chunk(self, chunk: Json, delta: Delta) -> bytes:
        for choice in chunk["choices"]:
            choice["delta"] = {"role": "assistant", "content": "", "tool_calls": None} | choice["delta"]
        return super().chunk({"system_fingerprint": FINGERPRINT} | chunk, delta)

    def end(self) -> bytes:
        return super().end() if self._says_done else b""


class TgiFace:
    repeats = False

    def __init__(self, answer: tgi.TgiAnswer, request_id: str) -> None:
        self._answer = answer
        self._request_id = request_id

    def chunk(self, chunk: Json, delta: Delta) -> bytes:  # noqa: ARG002
        return b"".join(tgi.frame(event) for event in self._answer.events(delta))

    def end(self) -> bytes:
        return tgi.frame(self._answer.last_event())

    def error(self, error: RequestRefused) -> bytes:
        return b"data:%b\n\n" % envelope(error, "tgi", self._request_id)


def openai_face(generation: Generation, request_id: str) -> OpenAiFace:
    if speaks_tgi_chat(generation):
        return TgiChatFace(request_id, says_done=not is_text_generation(generation))
    return OpenAiFace(request_id)


def speaks_tgi_chat(generation: Generation) -> bool:
    return generation.kind == "chat" and generation.body.get("model") in SERVED_MODEL_ALIASES


def is_text_generation(generation: Generation) -> bool:
    return generation.kind == "chat" and generation.body.keys() == _TEXT_GENERATION_CHAT


def tgi_chat_answer(answer: Json) -> Json:
    """A chat answer that does not stream, with the fields that TGI's clients insist on."""
    choices = answer.get("choices")
    for choice in choices if isinstance(choices, list) else []:
        if isinstance(choice, dict):
            choice.setdefault("logprobs", None)
    return {"system_fingerprint": FINGERPRINT, "usage": None} | answer
