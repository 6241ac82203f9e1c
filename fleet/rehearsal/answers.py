"""What clients asked, what they read, and what that makes of each request."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

EMBEDDED_MODEL = "goldenfleet-embedded"
"""Name by which clients ask for the embedded engine's model, where its tier gives it no other."""

Kind = Literal["generate", "generate_stream", "chat", "chat_stream"]
Outcome = Literal["ok", "lost", "truncated", "diverged"]

_FINISHED = ("stop", "length")


@dataclass(frozen=True)
class Question:
    """One fixed thing to ask; `chat` chooses the API and with it the expected text."""

    prompt: str
    max_tokens: int
    chat: bool

    @property
    def key(self) -> str:
        return f"{'chat' if self.chat else 'generate'}/{self.max_tokens}/{self.prompt}"


@dataclass(frozen=True)
class Answer:
    """What one request came to. Times are unix seconds; `ttft_s` is None when nothing was streamed."""

    client: int
    kind: Kind
    key: str
    started: float
    ended: float
    ttft_s: float | None
    text: str
    finish_reason: str | None
    attempts: int
    resumes: int
    exact: bool
    error: str | None = None
    cut: bool = False  # the error is a stream's cut that could not be continued

    @property
    def seconds(self) -> float:
        return self.ended - self.started

    @property
    def streamed(self) -> bool:
        return self.kind.endswith("_stream")

    def line(self) -> str:
        return json.dumps(asdict(self)) + "\n"


def judge(answer: Answer, expected: Mapping[str, str]) -> Outcome:
    """Compare an answer with the text that the engine gives undisturbed.

    A stream that was taken for finished though text is missing is truncated, not merely different.
    """
    if answer.error is not None:
        return "truncated" if answer.cut else "lost"
    wanted = expected[answer.key]
    if answer.finish_reason not in _FINISHED:
        return "truncated"
    if answer.text == wanted:
        return "ok"
    return "truncated" if wanted.startswith(answer.text) else "diverged"


def read_answers(path: Path, offset: int = 0) -> tuple[list[Answer], int]:
    """Answers written since `offset`, and where to go on; a line still being written is left for later."""
    with path.open("rb") as lines:
        lines.seek(offset)
        data = lines.read()
    whole = data[: data.rfind(b"\n") + 1]
    return list(_parse(whole)), offset + len(whole)


def _parse(data: bytes) -> Iterator[Answer]:
    for line in data.splitlines():
        yield Answer(**json.loads(line))


class AnswerLog:
    """The answers in a file that another process goes on writing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.answers: list[Answer] = []

    def read_on(self) -> int:
        """Take in what is new; returns how many answers there are now."""
        if self._path.exists():
            fresh, self._offset = read_answers(self._path, self._offset)
            self.answers += fresh
        return len(self.answers)


# The tiny engine was trained on this project's own words, so that is what it is asked about.
_PROMPTS = (
    "A notice is",
    "When a node drains, it",
    "The gateway picks a node by",
    "Spot instances are",
    "A stream that was cut",
    "The rehearsal starts",
    "An image holds",
    "The balancer never",
    "What is a tier?",
    "How is a stream resumed?",
    "Why are three zones used?",
    "When may a request be retried?",
    "What follows a notice?",
    "Which node gets the next request?",
    "What does the engine do?",
    "Who takes an instance away?",
)
_LENGTHS = (64, 160, 480, 320)
_CHAT_FROM = 8


def questions() -> tuple[Question, ...]:
    """The fixed set: half completions, half chats, short and long."""
    return tuple(
        Question(prompt, _LENGTHS[i % len(_LENGTHS)], chat=i >= _CHAT_FROM)
        for i, prompt in enumerate(_PROMPTS)
    )
