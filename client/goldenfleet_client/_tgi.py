"""Streams as text-generation's types have them: TGI's token events, and its chat chunks. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ._calls import CHAT, STREAMED, Request
from ._retry import Failure
from ._stops import Stops
from ._transcript import Transcript, finish_of, read_event, text_of, whole_numbers

# They count generated tokens, or constrain them by what came before: a continuation would start anew.
_NOT_CONTINUABLE = ("frequency_penalty", "grammar", "truncate", "watermark")
_SAMPLING = ("do_sample", "temperature", "top_k", "top_p", "typical_p")
_LARGEST_SEED = 2**63 - 1

# Makes a piece of one of text-generation's types. Raises ValueError for what is none.
Make = Callable[..., object]


def whole(body: Mapping[str, object]) -> Request:
    return Request("POST", "", body)


def seeded(parameters: Mapping[str, object], random: float) -> Mapping[str, object]:
    """A server that draws a seed for each request would draw another for a continuation."""
    samples = any(parameters.get(name) for name in _SAMPLING)
    if not samples or parameters.get("seed") is not None:
        return parameters
    return {**parameters, "seed": int(random * _LARGEST_SEED)}


class TokenAccount:
    """An Account of TGI's token events. A continuation starts from token ids where the service tells those
    of the prompt, as Goldenfleet does, else from text."""

    def __init__(self, inputs: str, parameters: Mapping[str, object], make: Make) -> None:
        self._inputs = inputs
        self._make = make
        self._parameters = {**parameters, "return_token_ids": True}
        self._stops = Stops({"stop": parameters.get("stop")})
        self._texts: list[str] = []
        self._ids: list[int] = []
        self._held: list[dict[str, Any]] = []
        self._prompt_ids: list[int] | None = None
        self._before = 0
        self._said_before = ""
        self.exact = True
        self.finish_reason: str | None = None
        self.stopped = False

    @property
    def text(self) -> str:
        return "".join(self._texts)

    @property
    def tokens(self) -> int:
        return len(self._ids)

    @property
    def _left(self) -> int:
        allowed = self._parameters.get("max_new_tokens")
        return (allowed if isinstance(allowed, int) else 0) - self.tokens

    def begin_attempt(self) -> None:
        self._before, self._said_before, self._held = self.tokens, self.text, []
        self._stops.cut_after(self.text)

    def continuation(self) -> Request:
        parameters = self._parameters
        if self.tokens:
            parameters = {**parameters, "max_new_tokens": self._left, "return_full_text": False}
            if self._by_ids:
                parameters["prompt_token_ids"] = [*(self._prompt_ids or ()), *self._ids]
            else:
                self.exact = False
        body = {"inputs": self._inputs + self.text, "parameters": parameters, "stream": True}
        return Request("POST", "", body)

    def take(self, data: str) -> Sequence[object] | Failure:
        event = read_event(data)
        if isinstance(event, Failure):
            return event
        try:
            self._make(**event)
        except (TypeError, ValueError) as exc:
            return Failure("junk", "an event that is not TGI's", cause=exc)
        ids = event.get("prompt_token_ids")
        if not self.tokens and whole_numbers(ids):
            self._prompt_ids = ids
        self._held.append(event)
        if event.get("generated_text") is None and not event["token"]["text"]:
            # Half a character: told with the token that completes it, or made again after a cut.
            return ()
        pieces, self._held = self._held, []
        return [self._make(**self._told(piece)) for piece in pieces]

    def _told(self, event: dict[str, Any]) -> dict[str, Any]:
        token, final = event["token"], event.get("generated_text") is not None
        across = self._stops.across(token["text"])
        if across is not None:
            return self._end_here(event, across)
        if not (final and token.get("special")):
            self._texts.append(token["text"])
            self._ids.append(int(token["id"]))
        if "index" in event and isinstance(event["index"], int):
            event = {**event, "index": event["index"] + self._before}
        return self._ended(event) if final else event

    def _ended(self, event: dict[str, Any]) -> dict[str, Any]:
        details = event.get("details") or {}
        self.finish_reason = str(details.get("finish_reason") or "length")
        if not self._before:
            return event
        made = details.get("generated_tokens")
        counted = (made if isinstance(made, int) else 0) + self._before
        text = self._full(self._said_before + str(event["generated_text"]))
        return {**event, "generated_text": text, "details": {**details, "generated_tokens": counted}}

    def _end_here(self, event: dict[str, Any], belongs: str) -> dict[str, Any]:
        self._texts.append(belongs)
        self._ids.append(int(event["token"]["id"]))
        self.stopped, self.finish_reason = True, "stop_sequence"
        return {
            **event,
            "token": {**event["token"], "text": belongs},
            "generated_text": self._full(self.text),
            "details": {
                "finish_reason": self.finish_reason,
                "generated_tokens": self.tokens,
                "seed": self._parameters.get("seed"),
            },
        }

    def _full(self, text: str) -> str:
        return self._inputs + text if self._parameters.get("return_full_text") else text

    def end_if_full(self) -> Sequence[object]:
        """Nothing: the event of the last token is the one with the details, and it has not come."""
        return ()

    def why_not_continuable(self) -> str | None:
        field = next((name for name in _NOT_CONTINUABLE if self._parameters.get(name)), None)
        if field is not None:
            return f"{field} may not mean the same in a continuation"
        return "the event with its details is missing" if self._left <= 0 else None

    @property
    def _by_ids(self) -> bool:
        return self.exact and self._prompt_ids is not None and not self._stops.lag

    def give_up_ids(self) -> bool:
        possible = self._by_ids and self.tokens > 0
        self.exact = self.exact and not possible
        return possible


def chat(body: Mapping[str, object], *, stream: bool) -> Request:
    """`body` without what was not asked for, so that what remains is known to be continuable or not."""
    asked = {name: value for name, value in body.items() if value is not None}
    return Request("POST", CHAT, {**asked, **STREAMED} if stream else asked)


_HEAD = ("id", "created", "model", "system_fingerprint")


class ChatAccount(Transcript):
    """A chat whose pieces are chunks as TGI sends them, all under the head of the first."""

    def __init__(self, request: Request, make: Make) -> None:
        super().__init__(request)
        self._make = make
        self._head: Mapping[str, object] = {}

    def take(self, data: str) -> Sequence[object] | Failure:
        event = read_event(data)
        if isinstance(event, Failure):
            return event
        head, choice = (
            self._head or {name: event[name] for name in _HEAD if name in event},
            _first_choice(event),
        )
        try:
            piece = self._chunk(head, _delta(choice), finish_of(choice)) if choice else None
        except (TypeError, ValueError) as exc:
            return Failure("junk", "a chunk that is not TGI's", cause=exc)
        said = self.take_event(event)
        if isinstance(said, Failure):
            return said
        # The role alone, which a second attempt says again, or usage, which nobody asked for.
        begun, self._head = bool(self._head), head
        if not choice or (begun and not said and finish_of(choice) is None):
            return ()
        return (self._chunk(head, {"content": said}, self.finish_reason) if self.stopped else piece,)

    def end_if_full(self) -> Sequence[object]:
        before = self.finish_reason
        super().end_if_full()
        return (self._chunk(self._head, {}, self.finish_reason),) if before != self.finish_reason else ()

    def _chunk(self, head: Mapping[str, object], delta: Mapping[str, object], reason: object) -> object:
        said = {"role": "assistant", "content": "", "tool_calls": None, **delta}
        choice = {"index": 0, "delta": said, "logprobs": None, "finish_reason": reason}
        shape = {"object": "chat.completion.chunk", "system_fingerprint": "goldenfleet"}
        return self._make(**{**shape, **head, "choices": [choice]})


def _first_choice(event: Mapping[str, object]) -> Mapping[str, object]:
    choices = event.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _delta(choice: Mapping[str, object]) -> Mapping[str, object]:
    """A chat's; made of the text where a completion continues it."""
    delta = choice.get("delta")
    return delta if isinstance(delta, dict) else {"content": text_of(choice)}
