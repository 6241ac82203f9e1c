"""Golden checks: prompts with their expected answers, put to a booted image.

An answer is held to exactly one expectation. Real engines change a few greedy answers with the batch that
they run in, so `exact` is for engines that promise not to; the others take regex, schema or similarity.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Annotated, Any, Self

import jsonschema
import urllib3
from pydantic import BaseModel, ConfigDict, Field, model_validator

from images.errors import CheckFailed

_SHOWN = 200


class Expectation(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    exact: str | None = None
    regex: str | None = None
    """Must be found somewhere in the answer."""
    json_schema: dict[str, Any] | None = None
    """The whole answer must be JSON that this schema accepts (draft 2020-12)."""
    similar_to: str | None = Field(default=None, min_length=1)
    at_least: Annotated[float, Field(gt=0, le=1)] | None = None
    """Minimum of difflib's ratio between the answer and similar_to."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        ways = (self.exact, self.regex, self.json_schema, self.similar_to)
        if sum(way is not None for way in ways) != 1:
            raise ValueError("give exactly one of exact, regex, json_schema, similar_to")
        if (self.similar_to is None) != (self.at_least is None):
            raise ValueError("similar_to and at_least go together")
        _compiled(self)
        return self


class Check(BaseModel):
    """A prompt, or a path of the server where there is no model to ask (`prompt` and `path` exclude each
    other)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")
    prompt: str | None = Field(default=None, min_length=1)
    chat: bool = False
    """Ask /v1/chat/completions rather than /v1/completions."""
    max_tokens: int = Field(default=32, ge=1, le=4096)
    path: str | None = Field(default=None, pattern=r"^/[\w./-]*$")
    status: int = Field(default=200, ge=100, le=599)
    expect: Expectation

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if (self.prompt is None) == (self.path is None):
            raise ValueError("give either prompt or path")
        return self


@dataclass(frozen=True)
class Result:
    """What one check found. `problem` is None when the answer is as expected."""

    name: str
    answer: str
    problem: str | None
    seconds: float


def problem_with(answer: str, expected: Expectation) -> str | None:
    """Why the answer is not as expected; None when it is."""
    if expected.exact is not None:
        return None if answer == expected.exact else f"is {_short(answer)}, not {_short(expected.exact)}"
    if expected.regex is not None:
        found = re.search(expected.regex, answer)
        return None if found else f"is {_short(answer)}, in which {expected.regex!r} is not found"
    if expected.json_schema is not None:
        return _schema_problem(answer, expected.json_schema)
    return _likeness_problem(answer, str(expected.similar_to), expected.at_least or 1.0)


def similarity(one: str, other: str) -> float:
    """0 to 1, whichever comes first; white space at the ends does not count."""
    left, right = sorted((one.strip(), other.strip()))
    return SequenceMatcher(None, left, right, autojunk=False).ratio()


def run_checks(
    base_url: str,
    checks: Iterable[Check],
    *,
    model: str | None,
    timeout_s: float = 60,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Result, ...]:
    """Put every check to the server. Raises CheckFailed when the server cannot be asked."""
    with urllib3.PoolManager(retries=False, timeout=timeout_s) as pool:
        return tuple(_run(pool, base_url.rstrip("/"), check, model, clock) for check in checks)


def refuse_failures(results: Iterable[Result]) -> None:
    """Raises CheckFailed that names every check whose answer is not as expected."""
    failed = [f"check {result.name}: the answer {result.problem}" for result in results if result.problem]
    if failed:
        raise CheckFailed(
            "; ".join(failed), "nothing was published; look at the run's log, or correct the recipe's checks"
        )


def wait_ready(
    base_url: str,
    *,
    deadline_s: float,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> float:
    """Seconds until GET /ready said 200. Raises CheckFailed after `deadline_s`, with the last answer."""
    started = clock()
    url = f"{base_url.rstrip('/')}/ready"
    with urllib3.PoolManager(retries=False, timeout=2.0) as pool:
        while True:
            said = _readiness(pool, url)
            waited = clock() - started
            if said is None:
                return waited
            if waited >= deadline_s:
                raise CheckFailed(
                    f"{url} is not ready after {waited:.0f} s: {said}",
                    "look at the machine's console and journal in the run's log",
                )
            pause(0.25)


def _readiness(pool: urllib3.PoolManager, url: str) -> str | None:
    try:
        response = pool.request("GET", url)
    except urllib3.exceptions.HTTPError as exc:
        return f"no answer ({type(exc).__name__})"
    return (
        None if response.status == 200 else f"it answers {response.status} {_short(response.data.decode())}"
    )


def _run(
    pool: urllib3.PoolManager, base_url: str, check: Check, model: str | None, clock: Callable[[], float]
) -> Result:
    started = clock()
    method, path, body = _question(check, model)
    try:
        response = (
            pool.request(method, base_url + path, json=body) if body else pool.request("GET", base_url + path)
        )
        text = response.data.decode("utf-8")
    except (urllib3.exceptions.HTTPError, UnicodeDecodeError) as exc:
        raise CheckFailed(f"check {check.name}: {base_url}{path} cannot be asked: {exc}") from exc
    if response.status != check.status:
        problem: str | None = f"has status {response.status}, not {check.status}: {_short(text)}"
        return Result(check.name, text, problem, clock() - started)
    answer = text if check.path else _completion(check, text)
    return Result(check.name, answer, problem_with(answer, check.expect), clock() - started)


def _question(check: Check, model: str | None) -> tuple[str, str, Mapping[str, Any] | None]:
    if check.path is not None:
        return "GET", check.path, None
    common = {"model": model, "max_tokens": check.max_tokens, "temperature": 0}
    if check.chat:
        messages = [{"role": "user", "content": check.prompt}]
        return "POST", "/v1/chat/completions", {**common, "messages": messages}
    return "POST", "/v1/completions", {**common, "prompt": check.prompt}


def _completion(check: Check, text: str) -> str:
    try:
        choice = json.loads(text)["choices"][0]
        answer = choice["message"]["content"] if check.chat else choice["text"]
    except (ValueError, KeyError, IndexError, TypeError) as exc:
        raise CheckFailed(f"check {check.name}: not an OpenAI answer: {_short(text)}") from exc
    return str(answer)


def _schema_problem(answer: str, schema: Mapping[str, Any]) -> str | None:
    try:
        jsonschema.validate(json.loads(answer), schema, cls=jsonschema.Draft202012Validator)
    except ValueError:
        return f"is {_short(answer)}, which is not JSON"
    except jsonschema.ValidationError as exc:
        return f"is JSON that the schema refuses at {exc.json_path}: {exc.message}"
    return None


def _likeness_problem(answer: str, wanted: str, at_least: float) -> str | None:
    ratio = similarity(answer, wanted)
    if ratio >= at_least:
        return None
    return f"is {_short(answer)}, like {_short(wanted)} by {ratio:.2f}, not {at_least:.2f}"


def _compiled(expected: Expectation) -> None:
    if expected.regex is not None:
        try:
            re.compile(expected.regex)
        except re.error as exc:
            raise ValueError(f"regex: {exc}") from exc
    if expected.json_schema is not None:
        try:
            jsonschema.Draft202012Validator.check_schema(expected.json_schema)
        except jsonschema.SchemaError as exc:
            raise ValueError(f"json_schema: {exc.message}") from exc


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
