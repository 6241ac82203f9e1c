"""A generation that is the same from wherever it is taken up: a text, cut into tokens anyhow."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

Kind = Literal["embedded", "vllm", "sglang", "llama-server"]
_PROMPT_ID = 7
_ALPHABET = "aab é🙂"


@dataclass
class Generation:
    """What the model says after any prompt is `text`; its tokens are one to four bytes, so characters are
    split. `kind` is how the engine tells it: what it holds back for stop strings, and whether it gives ids.
    """

    kind: Kind
    text: str
    lengths: list[int]
    cuts: list[float]
    rng: Random
    asked: list[dict[str, Any]] = field(default_factory=list)

    @property
    def raw(self) -> bytes:
        return self.text.encode()

    def answer(self, head: bytes, body: bytes) -> list[bytes]:
        asked = json.loads(body)
        self.asked.append(asked)
        chat = head.split(b" ")[1] == b"/v1/chat/completions"
        wire = (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
            b"x-goldenfleet-engine: %b\r\n\r\n" % self.kind.encode()
        )
        begin = len(wire)
        for event in self._events(asked, chat):
            wire += b"%x\r\n%b\r\n" % (len(event), event)
        wire += b"0\r\n\r\n"
        if self.cuts:
            wire = wire[: begin + int((len(wire) - begin) * self.cuts.pop())]
        size = self.rng.choice((50, 300, 1_000_000))
        return [wire[at : at + size] for at in range(0, len(wire), size)]

    def _events(self, asked: dict[str, Any], chat: bool) -> Iterator[bytes]:
        ids = self._gives_ids(chat) and bool(asked.get("return_token_ids"))
        told = Telling(self, asked, chat, ids)
        if chat:
            top = {"prompt_token_ids": told.prompt_ids} if ids else {}
            yield _event({"choices": [_choice(chat, None, role=True)], **top})
        yield from told.events()
        usage = {"prompt_tokens": told.prompt_tokens, "completion_tokens": told.made}
        usage["total_tokens"] = sum(usage.values())
        yield _event({"choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"

    def _gives_ids(self, chat: bool) -> bool:
        return self.kind in ("embedded", "vllm") or (self.kind == "sglang" and not chat)

    def token_at(self, at: int) -> int:
        """Ids name a token's place and length, so that a prompt of ids says how far it goes."""
        return 1000 + at * 10 + min(self.lengths[at % len(self.lengths)], len(self.raw) - at)


class Telling:
    """One answer: tokens from where the prompt leaves off, and of their text what the engine gives when."""

    def __init__(self, generation: Generation, asked: dict[str, Any], chat: bool, ids: bool) -> None:
        self.generation = generation
        self.chat = chat
        self.ids = ids
        self.prompt_ids, self.at = _taken_up(asked, chat)
        self.prompt_tokens = len(self.prompt_ids)
        self.most = asked.get("max_tokens") or asked.get("max_completion_tokens") or 10_000
        given = asked.get("stop") or []
        self.stops = [given] if isinstance(given, str) else given
        self.made = 0
        # In characters of the whole text.
        self.begun = self.sent = _whole(generation.raw[: self.at])
        self.unsent_ids: list[int] = []

    def events(self) -> Iterator[bytes]:
        generation, first = self.generation, True
        while self.made < self.most and self.at < len(generation.raw):
            token = generation.token_at(self.at)
            self.at += token % 10
            self.made += 1
            self.unsent_ids.append(token)
            known = _whole(generation.raw[: self.at])
            found = self._stop(known)
            if found is not None:
                yield self._piece(max(found, self.sent), "stop", first=first)
                return
            ready = self._ready(known)
            if ready > self.sent or generation.kind == "vllm":
                yield self._piece(max(ready, self.sent), None, first=first)
                first = False
        ended = self.made < self.most
        known = _whole(generation.raw[: self.at])
        yield self._piece(known, "stop" if ended else "length", first=first)

    def _stop(self, known: int) -> int | None:
        """Where a stop string begins, in what this engine has generated itself."""
        made = self.generation.text[self.begun : known]
        places = [made.find(stop) for stop in self.stops if stop in made]
        return self.begun + min(places) if places else None

    def _ready(self, known: int) -> int:
        """How much of the text is sent while it goes on."""
        kind = self.generation.kind
        if kind == "embedded":
            return self._tokens_until(known - self._held(known))
        if not self.stops or kind == "sglang":
            return known
        if kind == "vllm":
            return max(self.begun, known - max(map(len, self.stops)) + 1)
        return known - self._held(known)

    def _held(self, known: int) -> int:
        """The end of the text that may begin a stop string."""
        made = self.generation.text[self.begun : known]
        sizes = (size for stop in self.stops for size in range(1, len(stop)) if made.endswith(stop[:size]))
        return max(sizes, default=0)

    def _tokens_until(self, safe: int) -> int:
        """Where the last token ends whose text is whole and within `safe`."""
        raw = self.generation.raw
        ends = [
            _whole(raw[: (token - 1000) // 10 + token % 10])
            for token in self.unsent_ids
            if self._is_whole(token)
        ]
        return max((end for end in ends if end <= safe), default=self.sent)

    def _piece(self, to: int, reason: str | None, *, first: bool) -> bytes:
        choice = _choice(self.chat, self.generation.text[self.sent : to], reason=reason)
        if self.ids:
            choice["token_ids"], self.unsent_ids = self._ids_until(to, reason)
            if first and not self.chat:
                choice["prompt_token_ids"] = self.prompt_ids
        self.sent = to
        return _event({"choices": [choice]})

    def _ids_until(self, to: int, reason: str | None) -> tuple[list[int], list[int]]:
        """vLLM gives each id as it is made, the embedded engine with the last of its text."""
        if self.generation.kind == "vllm" or reason is not None:
            return self.unsent_ids, []
        raw = self.generation.raw
        ready = [token for token in self.unsent_ids if _whole(raw[: (token - 1000) // 10 + token % 10]) <= to]
        if self.generation.kind == "embedded":
            while ready and not self._is_whole(ready[-1]):
                ready.pop()
        return ready, self.unsent_ids[len(ready) :]

    def _is_whole(self, token: int) -> bool:
        """Whether no character is open behind it."""
        end = self.generation.raw[: (token - 1000) // 10 + token % 10]
        return len(end.decode("utf-8", "ignore").encode()) == len(end)


def random_generation(rng: Random) -> tuple[Generation, dict[str, Any]]:
    """And what a client may ask along with it."""
    kind: Kind = rng.choice(("embedded", "vllm", "sglang", "llama-server"))
    stops = rng.random() < 0.5
    # SGLang has sent what begins a stop string as far as its tokens went. Taken up inside a token their ends
    # are others, and so is which of two stop strings that overlap is seen first.
    alphabet = "aab " if kind == "sglang" and stops else _ALPHABET
    text = "".join(rng.choices(alphabet, k=rng.randint(5, 60)))
    cuts = [rng.random() for _ in range(rng.choice((1, 1, 2, 3, 4)))]
    lengths = [rng.randint(1, 4) for _ in range(20)]
    generation = Generation(kind, text, lengths, cuts, rng)
    asked: dict[str, Any] = {"stream_options": {"include_usage": True}, "stream": True}
    if stops:
        asked["stop"] = [_stop(rng, text) for _ in range(rng.randint(1, 3) if kind == "embedded" else 1)]
    # What is counted by chunks is not counted exactly where characters are split.
    counted = kind in ("embedded", "vllm") and "stop" not in asked
    return generation, asked | {"max_tokens": rng.randint(1, 30) if counted else 10_000}


def _stop(rng: Random, text: str) -> str:
    if rng.random() < 0.3:
        return "".join(rng.choices(_ALPHABET, k=rng.randint(1, 4)))
    at = rng.randrange(len(text))
    return text[at : at + rng.randint(1, 4)]


def _taken_up(asked: dict[str, Any], chat: bool) -> tuple[list[int], int]:
    """The prompt's ids, and how many bytes of the answer it holds."""
    prompt: Any = asked.get("prompt")
    if chat:
        prompt = "P" + (asked["messages"][-1]["content"] if asked.get("continue_final_message") else "")
    if isinstance(prompt, str):
        at = len(prompt[1:].encode())
        # One id for all of it, which says how far it goes.
        return [_PROMPT_ID, 1000 + (at - min(at, 9)) * 10 + min(at, 9)][: 2 if at else 1], at
    last = prompt[-1]
    return prompt, 0 if last == _PROMPT_ID else (last - 1000) // 10 + last % 10


def _whole(raw: bytes) -> int:
    """Characters that are whole."""
    return len(raw.decode("utf-8", "ignore"))


def _choice(chat: bool, text: str | None, *, reason: str | None = None, role: bool = False) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
    if not chat:
        return choice | {"text": text}
    return choice | {"delta": {"role": "assistant", "content": ""} if role else {"content": text}}


def _event(said: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps({"id": "x", "created": 1, "model": "m"} | said).encode() + b"\n\n"
