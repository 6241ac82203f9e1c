"""`goldenfleet ask`."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TextIO

import click

from fleet.endpoint import choose, rehearsal_option
from fleet.endpoint import option as endpoint_option
from fleet.terminal import FAILED, told_plainly

if TYPE_CHECKING:
    from goldenfleet_client import Event
    from rich.status import Status

    from fleet.ask.asking import Answer, Question

_EXAMPLES = """\b
Examples:
  goldenfleet ask "What is a golden image?"
  goldenfleet ask -v --max-tokens 100 "What is a drain?"
  goldenfleet ask --endpoint https://llm.example --model llama-8b "Hello"
  goldenfleet ask --system "You are brief." < question.txt
  goldenfleet ask --json --seed 7 "Hello" | jq -r .text

\b
Exit codes: 0 answered, 1 not answered or broken off, 2 usage, 3 the key is not accepted,
6 no such model or no rehearsal, 9 the time is up, 130 Ctrl-C.
The key is read from GOLDENFLEET_API_KEY.
"""
# C0 and C1 but tab and newline: escape sequences begin with one of them.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@click.command(epilog=_EXAMPLES)
@click.argument("prompt", nargs=-1)
@endpoint_option
@rehearsal_option
@click.option("--model", metavar="NAME", help="By default the first that the endpoint serves.")
@click.option("--system", metavar="TEXT", help="What the model is told before the question.")
@click.option(
    "--max-tokens",
    default=512,
    type=click.IntRange(1, 1_000_000),
    show_default=True,
    help="Of the answer, at most.",
)
@click.option("--temperature", type=click.FloatRange(0, 2), help="By default the model's own.")
@click.option("--seed", type=click.IntRange(0), help="Of what is drawn at a temperature above 0.")
@click.option(
    "--timeout",
    "timeout_s",
    default=600.0,
    type=click.FloatRange(0, min_open=True),
    show_default=True,
    metavar="SECONDS",
    help="Of the whole answer, retries included.",
)
@click.option("-v", "--verbose", is_flag=True, help="Say on stderr how it went: times, tokens, resumes.")
@click.option("--json", "as_json", is_flag=True, help="The answer and its figures as JSON, at its end.")
def ask(
    prompt: tuple[str, ...],
    endpoint: str | None,
    rehearsal: bool,
    verbose: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Ask the fleet something; the answer is printed as it comes.

    PROMPT may be left out, or be -, to read it from stdin. An instance that is taken away meanwhile costs
    nothing: the stream goes on from another.
    """
    # Imported here: the client library takes a tenth of a second that --help should not.
    from fleet.ask.asking import Question

    with told_plainly(FAILED, "stopped"):
        whom = choose(endpoint, rehearsal=rehearsal)
        key = os.environ.get("GOLDENFLEET_API_KEY") or None
        question = Question(_prompt(prompt), whom, key, **asked)
        answer = _stream(question, verbose=verbose, silent=as_json)
        if as_json:
            click.echo(json.dumps(_figures(answer), ensure_ascii=False))
    if verbose:
        click.echo(_summary(answer), err=True)
    if answer.said.finish_reason == "length" and not as_json:
        click.echo(
            f"goldenfleet: cut off at {asked['max_tokens']} tokens; --max-tokens asks for more", err=True
        )


def _prompt(words: tuple[str, ...]) -> str:
    """Raises NotAsked."""
    from fleet.ask.errors import NotAsked

    # None where the caller has closed it.
    stdin: TextIO | None = sys.stdin
    try:
        if words and words != ("-",):
            text = " ".join(words)
        elif stdin is None or (stdin.isatty() and not words):
            raise NotAsked("nothing is asked", 'Try: goldenfleet ask "What is a golden image?"')
        else:
            text = stdin.read()
        text.encode()
    except UnicodeError as error:
        raise NotAsked("the question is no text in UTF-8", "Give it as text.") from error
    if not text.strip():
        raise NotAsked("the question is empty", "Give it as an argument, or on stdin.")
    return text


def _stream(question: Question, *, verbose: bool, silent: bool) -> Answer:
    """Raises AskError. What was begun on stdout ends with its line, also when it broke off."""
    from fleet.ask.asking import Hooks, ask

    page, waiting = _Page(silent=silent), _Waiting(question.endpoint)

    def said(text: str) -> None:
        waiting.over()
        page.add(text)

    def heard(event: Event) -> None:
        if verbose:
            waiting.over()
            page.note(f"goldenfleet: {_words(event)}")

    try:
        return ask(question, Hooks(waiting.begin, said, heard))
    finally:
        waiting.over()
        page.close()


class _Page:
    """The answer on stdout, and notes on stderr: where both are one terminal, not inside a line."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self._open = False
        self._notes: list[str] = []
        self._shown = sys.stdout.isatty()
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A terminal that lacks a character must not end an answer.
            sys.stdout.reconfigure(errors="replace")

    def add(self, text: str) -> None:
        if self._silent or not text:
            return
        # A file gets what was said; a terminal must not be told what to do by a model.
        sys.stdout.write(_CONTROLS.sub("", text) if self._shown else text)
        sys.stdout.flush()
        self._open = not text.endswith("\n")

    def note(self, words: str) -> None:
        if self._shown and self._open:
            self._notes.append(words)
        else:
            click.echo(words, err=True)

    def close(self) -> None:
        if self._open:
            self._open = False
            click.echo()
        for words in self._notes:
            click.echo(words, err=True)


class _Waiting:
    """Something that moves until the first word comes, on a terminal."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._status: Status | None = None

    def begin(self, model: str) -> None:
        from rich.console import Console

        console = Console(stderr=True)
        if console.is_terminal and sys.stdout.isatty():
            self._status = console.status(f"[dim]{model} at {self._endpoint}")
            self._status.start()

    def over(self) -> None:
        status, self._status = self._status, None
        if status is not None:
            status.stop()


def _words(event: Event) -> str:
    from goldenfleet_client import Resumed, Retried

    if isinstance(event, Resumed):
        how = "" if event.exact else ", from its text"
        return f"the stream was cut after {event.tokens_before} tokens and goes on elsewhere{how}"
    if isinstance(event, Retried):
        when = f" in {event.wait_s:.1f} s" if event.wait_s else ""
        return f"trying again{when}: {event.reason}"
    return f"gave up after {event.attempts} attempts: {event.reason}"


def _summary(answer: Answer) -> str:
    said, usage = answer.said, answer.said.usage
    parts = [f"first token {answer.ttft_s:.2f} s"]
    if answer.tokens_per_s is not None:
        parts.append(f"{answer.tokens_per_s:.1f} tokens/s")
    if usage is not None:
        parts.append(f"{usage.completion_tokens} tokens for a prompt of {usage.prompt_tokens}")
    parts.append(f"{answer.total_s:.2f} s in all")
    if said.resumes:
        parts.append(f"resumed {said.resumes} time{'s' if said.resumes > 1 else ''}")
    return f"{answer.model}: {', '.join(parts)}; request {said.request_id}"


def _figures(answer: Answer) -> dict[str, object]:
    said = asdict(answer.said)
    times = {"ttft_s": answer.ttft_s, "total_s": answer.total_s, "tokens_per_s": answer.tokens_per_s}
    return {**said, "model": answer.model, "endpoint": answer.endpoint, **times}
