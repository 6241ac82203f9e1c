"""Puts one question to an endpoint by the client library, which retries and resumes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import goldenfleet_client as api

from fleet.ask.errors import AskError, KeyRefused, ModelUnknown, NotAnswered, NotAsked, TimeUp

Clock = Callable[[], float]


@dataclass(frozen=True)
class Question:
    """What is asked, of whom. `model` None is the endpoint's first; seconds and tokens."""

    prompt: str
    endpoint: str
    api_key: str | None = field(default=None, repr=False)
    model: str | None = None
    system: str | None = None
    max_tokens: int = 512
    temperature: float | None = None
    seed: int | None = None
    timeout_s: float = 600.0

    @property
    def messages(self) -> list[api.Message]:
        before: list[api.Message] = []
        if self.system is not None:
            before = [{"role": "system", "content": self.system}]
        return [*before, {"role": "user", "content": self.prompt}]

    def options(self, model: str) -> api.Options:
        asked: api.Options = {"model": model, "max_tokens": self.max_tokens}
        if self.temperature is not None:
            asked["temperature"] = self.temperature
        if self.seed is not None:
            asked["seed"] = self.seed
        return asked


@dataclass(frozen=True)
class Answer:
    """A whole answer. `ttft_s` and `total_s` count from when the question was sent."""

    model: str
    endpoint: str
    said: api.Generation
    ttft_s: float
    total_s: float

    @property
    def tokens_per_s(self) -> float | None:
        """After the first, which also waited for the prompt; None where there is but one, or no count."""
        tokens = self.said.usage.completion_tokens if self.said.usage else 0
        rest_s = self.total_s - self.ttft_s
        return (tokens - 1) / rest_s if tokens > 1 and rest_s > 0 else None


@dataclass(frozen=True)
class Hooks:
    """Who hears of what: `asked` of the model's name, `said` of each piece of text, `heard` of retries."""

    asked: Callable[[str], None]
    said: Callable[[str], None]
    heard: Callable[[api.Event], None]


def ask(question: Question, hooks: Hooks, clock: Clock = time.monotonic) -> Answer:
    """Raises AskError."""
    with _translated(question), _client(question, hooks) as client:
        model = question.model or _first(client.models(), question.endpoint)
        hooks.asked(model)
        began, first = clock(), None
        with client.chat_stream(question.messages, **question.options(model)) as stream:
            for chunk in stream:
                first = clock() if first is None else first
                hooks.said(chunk.text)
        ended = clock()
        ttft_s = (ended if first is None else first) - began
        return Answer(model, question.endpoint, stream.result, ttft_s, ended - began)


def _client(question: Question, hooks: Hooks) -> api.Client:
    timeouts = api.Timeouts(total=question.timeout_s)
    return api.Client(question.endpoint, api_key=question.api_key, timeouts=timeouts, on_event=hooks.heard)


def _first(models: tuple[api.Model, ...], endpoint: str) -> str:
    if not models:
        raise ModelUnknown(
            f"{endpoint} serves no model", "Is a model node in service? goldenfleet status says."
        )
    return models[0].id


@contextmanager
def _translated(question: Question) -> Iterator[None]:
    try:
        yield
    except api.GoldenfleetError as error:
        raise _in_our_words(error, question) from error


def _in_our_words(error: api.GoldenfleetError, question: Question) -> AskError:
    where = question.endpoint
    match error:
        case api.ConfigurationError():
            hint = "An endpoint is a URL such as http://127.0.0.1:8088; GOLDENFLEET_API_KEY holds one line."
            return NotAsked(str(error), hint)
        case api.NotAuthorised():
            hint = "Set GOLDENFLEET_API_KEY to a key of this endpoint; goldenfleet keys --help makes one."
            return KeyRefused(f"{where} does not accept the key: {error}", hint)
        case api.InvalidRequest(status=404) if question.model:
            hint = f"Leave --model out, or see what there is: curl {where}/v1/models"
            return ModelUnknown(f"{where} does not serve {question.model}: {error}", hint)
        case api.DeadlineExceeded():
            return TimeUp(str(error), "Give it longer by --timeout SECONDS.")
        case api.ConnectionFailed():
            hint = "Is a fleet there? On this machine: goldenfleet rehearse --interrupt none --keep"
            return NotAnswered(f"nothing answers at {where}: {error}", hint)
        case api.StreamTruncated():
            return NotAnswered(f"the answer broke off and could not be continued: {error}", "Ask again.")
    return NotAnswered(str(error))
