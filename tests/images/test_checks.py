from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import ValidationError

from images.checks import (
    Check,
    Expectation,
    problem_with,
    refuse_failures,
    run_checks,
    similarity,
    wait_ready,
)
from images.errors import CheckFailed

SCHEMA = {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}
Answer = Callable[[str, Any], tuple[int, bytes]]


@pytest.mark.parametrize(
    ("answer", "expected", "problem"),
    [
        ("a drain", {"exact": "a drain"}, None),
        ("a drain ", {"exact": "a drain"}, "is 'a drain ', not 'a drain'"),
        ("It is Paris.", {"regex": "(?i)paris"}, None),
        ("It is Rome.", {"regex": "(?i)paris"}, "is 'It is Rome.', in which '(?i)paris' is not found"),
        ('{"city": "Rome"}', {"json_schema": SCHEMA}, None),
        ('{"town": "Rome"}', {"json_schema": SCHEMA}, "is JSON that the schema refuses at $: 'city' is a"),
        ('{"city": 1}', {"json_schema": SCHEMA}, "is JSON that the schema refuses at $.city: 1 is not of"),
        ("Rome", {"json_schema": SCHEMA}, "is 'Rome', which is not JSON"),
        ("NaN nonsense", {"json_schema": {}}, "is 'NaN nonsense', which is not JSON"),
        ("the cat sat", {"similar_to": "the cat sat", "at_least": 1}, None),
        ("the cat sits", {"similar_to": "the cat sat", "at_least": 0.8}, None),
        ("a dog", {"similar_to": "the cat sat", "at_least": 0.8}, "is 'a dog', like 'the cat sat' by 0."),
        ("", {"similar_to": "the cat sat", "at_least": 0.1}, "is '', like 'the cat sat' by 0.00, not 0.10"),
        ("x" * 300, {"exact": "y"}, "is '" + "x" * 200 + "...', not 'y'"),
    ],
)
def test_expectations(answer: str, expected: dict[str, Any], problem: str | None) -> None:
    """Each way to expect accepts what it should, and says what is wrong with the rest."""
    said = problem_with(answer, Expectation(**expected))
    assert said == problem if problem is None else said is not None and said.startswith(problem)


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ({}, "exactly one"),
        ({"exact": "a", "regex": "a"}, "exactly one"),
        ({"similar_to": "a"}, "go together"),
        ({"exact": "a", "at_least": 0.5}, "go together"),
        ({"regex": "("}, "regex: "),
        ({"json_schema": {"type": "city"}}, "json_schema: "),
        ({"similar_to": "a", "at_least": 1.5}, "at_least"),
        ({"exactly": "a"}, "exactly"),
    ],
)
def test_impossible_expectations(expected: dict[str, Any], said: str) -> None:
    """An expectation that no answer could be held to is refused when the recipe is read."""
    with pytest.raises(ValidationError, match=said):
        Expectation(**expected)


def test_similarity_is_symmetric() -> None:
    """It does not matter which text is the expected one."""
    assert similarity("abcab", "cabba") == similarity("cabba", "abcab")
    assert similarity(" same\n", "same") == 1


class _Server:
    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked: list[tuple[str, Any]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._reply(None)

            def do_POST(self) -> None:
                self._reply(json.loads(self.rfile.read(int(self.headers["content-length"]))))

            def _reply(self, body: Any) -> None:
                server.asked.append((self.path, body))
                answer = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
                status, content = answer(self.path, body)
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server() -> Iterator[_Server]:
    made = _Server()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.http.shutdown()
    thread.join()
    made.http.server_close()


def says(status: int, content: object) -> Answer:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return lambda _path, _body: (status, data)


def check(**given: Any) -> Check:
    return Check(**{"name": "one", "prompt": "Why?", "expect": {"exact": "So."}, **given})


@pytest.mark.parametrize(
    ("given", "answer", "path", "body"),
    [
        (
            {},
            {"choices": [{"text": "So."}]},
            "/v1/completions",
            {"model": "m", "max_tokens": 32, "temperature": 0, "prompt": "Why?"},
        ),
        (
            {"chat": True, "max_tokens": 5},
            {"choices": [{"message": {"content": "So."}}]},
            "/v1/chat/completions",
            {
                "model": "m",
                "max_tokens": 5,
                "temperature": 0,
                "messages": [{"role": "user", "content": "Why?"}],
            },
        ),
    ],
)
def test_questions(
    server: _Server, given: dict[str, Any], answer: object, path: str, body: dict[str, Any]
) -> None:
    """A check asks the OpenAI API greedily, and reads the text of the first choice."""
    server.answers = [says(200, answer)]
    results = run_checks(server.url, [check(**given)], model="m")
    assert server.asked == [(path, body)]
    assert results[0].problem is None
    refuse_failures(results)


def test_paths(server: _Server) -> None:
    """A path is fetched, and its whole body held to the expectation."""
    server.answers = [says(404, b"gone")]
    found = run_checks(
        server.url, [check(prompt=None, path="/x", status=404, expect={"regex": "^gone$"})], model=None
    )
    assert (server.asked, found[0].problem) == ([("/x", None)], None)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (says(200, {"choices": [{"text": "No."}]}), "check one: the answer is 'No.', not 'So.'"),
        (says(503, b"draining"), "check one: the answer has status 503, not 200: 'draining'"),
    ],
)
def test_failures(server: _Server, answer: Answer, said: str) -> None:
    """Every failed check is named with what it got; one good one does not hide it."""
    server.answers = [answer]
    results = run_checks(server.url, [check(), check(name="two")], model="m")
    with pytest.raises(CheckFailed) as caught:
        refuse_failures(results)
    assert said in caught.value.message
    assert "check two" in caught.value.message


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (says(200, b"<html>"), "not an OpenAI answer: '<html>'"),
        (says(200, {"choices": []}), "not an OpenAI answer"),
        (says(200, b"\xff\xfe"), "cannot be asked"),
    ],
)
def test_strange_answers(server: _Server, answer: Answer, said: str) -> None:
    """What is no answer of the API fails the check rather than the program."""
    server.answers = [answer]
    with pytest.raises(CheckFailed, match=said):
        run_checks(server.url, [check()], model="m")


def test_nobody_there() -> None:
    """A server that is not there fails the check."""
    with pytest.raises(CheckFailed, match="cannot be asked"):
        run_checks("http://127.0.0.1:1", [check()], model="m")


def test_ready(server: _Server) -> None:
    """Waiting ends with the first 200 of /ready, and says how long it was."""
    server.answers = [says(503, b"loading"), says(503, b"loading"), says(200, b"{}")]
    times = iter((10.0, 11.0, 12.0, 13.0))
    waited = wait_ready(server.url, deadline_s=60, clock=lambda: next(times), pause=lambda _: None)
    assert waited == 3
    assert [path for path, _ in server.asked] == ["/ready"] * 3


@pytest.mark.parametrize("there", [True, False])
def test_never_ready(server: _Server, there: bool) -> None:
    """At the deadline the wait ends with what the server said last."""
    server.answers = [says(503, b"loading the engine")]
    times = iter((0.0, 1.0, 61.0))
    said = "it answers 503 'loading the engine'" if there else "no answer"
    with pytest.raises(CheckFailed, match=f"not ready after 61 s: {said}"):
        wait_ready(
            server.url if there else "http://127.0.0.1:1",
            deadline_s=60,
            clock=lambda: next(times),
            pause=lambda _: None,
        )
