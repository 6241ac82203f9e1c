"""What a stream has said so far, over all its attempts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeGuard

from ._calls import Request, continuation_from_ids, continuation_from_text, has_text_prompt, not_continuable
from ._retry import Failure, error_event
from ._stops import Stops
from .types import Chunk, Usage

GIVEN_UP: Final = "abort"


class Account(Protocol):
    """Collects a stream's events; knows whether it is finished and how it can go on if it was cut.

    `exact` is False once it went on from text. `stopped`: a finish was found here that the service does not
    know of, and nothing more is to be read.
    """

    exact: bool
    finish_reason: str | None
    stopped: bool

    @property
    def text(self) -> str: ...
    @property
    def tokens(self) -> int: ...
    def begin_attempt(self) -> None: ...
    def continuation(self) -> Request: ...
    def take(self, data: str) -> Sequence[object] | Failure:
        """One event's data: the pieces it adds for the caller, or why the stream cannot be read on."""

    def end_if_full(self) -> Sequence[object]:
        """Notes the finish of a stream that was cut after its last allowed token: the pieces that tell it."""

    def why_not_continuable(self) -> str | None: ...
    def give_up_ids(self) -> bool:
        """Go on from text from here; False when that is so already or cannot be."""


class Transcript:
    """An Account of OpenAI's completions and chats."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._texts: list[str] = []
        self._ids: list[int] = []
        self._silent_ids: list[int] = []
        self._prompt_ids: list[int] | None = _listed_prompt(request)
        self._all_text_has_ids = True
        self._pieces = 0
        self._carried = 0
        self._usage: Usage | None = None
        self._stops = Stops(request.body or {})
        self.finish_reason: str | None = None
        self.exact = True
        self.stopped = False

    @property
    def text(self) -> str:
        return "".join(self._texts)

    @property
    def tokens(self) -> int:
        """Tokens received; without ids a lower bound, for each piece holds at least one."""
        return len(self._ids) if self._all_text_has_ids else max(len(self._ids), self._pieces)

    @property
    def left(self) -> int | None:
        """Tokens that may still come; None without a limit."""
        allowed = (self._request.body or {}).get("max_tokens")
        return allowed - self.tokens if isinstance(allowed, int) else None

    def begin_attempt(self) -> None:
        """Usage of a continuation counts what it was given as prompt: remember how much that was."""
        self._carried = self.tokens
        self._silent_ids = []
        self._usage = None
        self._stops.cut_after(self.text)

    def take(self, data: str) -> Sequence[object] | Failure:
        event = read_event(data)
        if isinstance(event, Failure):
            return event
        said = self.take_event(event)
        if isinstance(said, Failure):
            return said
        return (Chunk(said),) if said else ()

    def take_event(self, event: Mapping[str, object]) -> str | Failure:
        """The text it adds."""
        self._take_usage(event.get("usage"))
        self._take_prompt_ids(event)
        choices = event.get("choices")
        return self._take_choice(choices[0]) if isinstance(choices, list) and choices else ""

    def _take_choice(self, choice: object) -> str | Failure:
        if not isinstance(choice, dict):
            return Failure("junk", "a choice that is no object")
        self._take_prompt_ids(choice)
        text, ids = text_of(choice), choice.get("token_ids")
        belongs = self._stops.across(text)
        if belongs is not None:
            self.finish_reason, self.stopped, text, ids = "stop", True, belongs, None
        reason = finish_of(choice)
        if whole_numbers(ids) and ids:
            self._take_ids(ids, said=bool(text or reason))
        elif text:
            self._all_text_has_ids = False
        if text:
            self._texts.append(text)
            self._pieces += 1
        if reason is not None and not self.stopped:
            self.finish_reason = reason
        return text

    def _take_ids(self, ids: list[int], *, said: bool) -> None:
        """Tokens whose text an engine holds back, half a character, count once it comes: a continuation
        makes them again."""
        self._silent_ids += ids
        if said:
            self._ids += self._silent_ids
            self._silent_ids = []

    def _take_prompt_ids(self, holder: Mapping[str, object]) -> None:
        ids = holder.get("prompt_token_ids")
        if self._prompt_ids is None and whole_numbers(ids):
            self._prompt_ids = list(ids)

    def _take_usage(self, usage: object) -> None:
        if not isinstance(usage, dict):
            return
        prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if isinstance(prompt, int) and isinstance(completion, int):
            self._usage = Usage(prompt - self._carried, completion + self._carried)

    @property
    def usage(self) -> Usage | None:
        """As counted by the service, summed over the attempts; by token ids where its count got lost."""
        if self._usage is None and self._prompt_ids is not None and self._ids_are_whole and self._ids:
            return Usage(len(self._prompt_ids), len(self._ids))
        return self._usage

    def end_if_full(self) -> Sequence[object]:
        full = self.left is not None and self.left <= 0
        if self.finish_reason is None and self.tokens and full and not self._stops.lag:
            self.finish_reason = "length"
        return ()

    def why_not_continuable(self) -> str | None:
        field = not_continuable(self._request)
        if field is not None:
            return f"{field} may not mean the same in a continuation"
        if self.left is not None and self.left <= 0:
            return "the last of its text may have been held back for a stop string"
        if not self._by_ids and not has_text_prompt(self._request):
            return "the service gave no token ids and the prompt is not text"
        return None

    @property
    def _by_ids(self) -> bool:
        return self._ids_are_whole and self.left is not None and not self._stops.lag

    @property
    def _ids_are_whole(self) -> bool:
        return self.exact and self._prompt_ids is not None and self._all_text_has_ids

    def give_up_ids(self) -> bool:
        possible = self._by_ids and has_text_prompt(self._request) and self.tokens > 0
        self.exact = self.exact and not possible
        return possible

    def continuation(self) -> Request:
        """The request that makes the rest of this stream; the original one while nothing has arrived."""
        if not self.tokens:
            return self._request
        if self._by_ids:
            return continuation_from_ids(self._request, self._prompt_ids or [], self._ids, self.left)
        self.exact = False
        return continuation_from_text(self._request, self.text, self.left)


def _listed_prompt(request: Request) -> list[int] | None:
    prompt = (request.body or {}).get("prompt")
    return prompt if isinstance(prompt, list) else None


def read_event(data: str) -> dict[str, Any] | Failure:
    """One event's JSON object, unless it is an error."""
    try:
        event = json.loads(data)
    except ValueError as exc:
        return Failure("junk", "an event that is not JSON", cause=exc)
    if not isinstance(event, dict):
        return Failure("junk", "an event that is no object")
    return error_event(event) if event.get("error") else event


def finish_of(choice: Mapping[str, object]) -> str | None:
    """Why it is finished. Engines end what they give up, as when they shut down, with a reason that is none,
    and [DONE] after it (vllm-project/vllm#57082): that is a cut."""
    reason = choice.get("finish_reason")
    return str(reason) if reason and reason != GIVEN_UP else None


def whole_numbers(ids: object) -> TypeGuard[list[int]]:
    return isinstance(ids, list) and all(type(token) is int for token in ids)


def text_of(choice: Mapping[str, object]) -> str:
    delta = choice.get("delta")
    text = delta.get("content") if isinstance(delta, Mapping) else choice.get("text")
    return text if isinstance(text, str) else ""
