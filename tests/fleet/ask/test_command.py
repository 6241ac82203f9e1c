"""`goldenfleet ask` as people type it."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fleet.ask_commands import ask as command
from fleet.cli import main
from fleet.oncall.kept import Kept, born, told
from tests.client.scripted import Acts, Service, event

# A background job starts with SIGINT ignored, and hands that down.
COMMAND = """import signal; signal.signal(signal.SIGINT, signal.default_int_handler)
from fleet.cli import main; main()"""
MODELS = Acts.answer(200, {"object": "list", "data": [{"id": "a-model"}, {"id": "another"}]})
TEXT = Acts.text


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No rehearsal, endpoint or key of this machine's user."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for name in ("GOLDENFLEET_ENDPOINT", "GOLDENFLEET_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def ask(*arguments: str, stdin: str | bytes | None = None) -> Result:
    result = CliRunner().invoke(main, ["ask", *arguments], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def test_the_answer_and_nothing_else(service: Service) -> None:
    """Unasked, stdout has the answer and a line's end, stderr nothing; the first model is asked."""
    service.then(MODELS, Acts.speak())
    result = ask("--endpoint", service.url, "Sing,", "please!")
    assert (result.exit_code, result.stdout, result.stderr) == (0, TEXT + "\n", "")
    assert service.seen[1].body["model"] == "a-model"
    assert service.seen[1].body["messages"] == [{"role": "user", "content": "Sing, please!"}]
    assert "authorization" not in service.seen[1].headers


def test_what_is_asked_for_is_sent(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options and the key of the environment go out; a named model is asked without a look at the list."""
    monkeypatch.setenv("GOLDENFLEET_API_KEY", "sk-secret")
    monkeypatch.setenv("GOLDENFLEET_ENDPOINT", service.url)
    service.then(Acts.speak())
    options = ["--model", "b", "--system", "Be brief.", "--max-tokens", "20", "--temperature", "0.5"]
    assert ask(*options, "--seed", "7", "Sing!").exit_code == 0
    sent = service.seen[0]
    assert sent.headers["authorization"] == "Bearer sk-secret"
    assert sent.body["messages"][0] == {"role": "system", "content": "Be brief."}
    wanted = {"model": "b", "max_tokens": 20, "temperature": 0.5, "seed": 7}
    assert wanted.items() <= sent.body.items()


def test_how_it_went(service: Service) -> None:
    """A cut is not seen in the answer; -v tells of it, with times, tokens and the request's id."""
    service.then(MODELS, Acts.speak(events=5, cut=Acts.reset), Acts.speak())
    result = ask("--endpoint", service.url, "-v", "Sing!")
    assert (result.exit_code, result.stdout) == (0, TEXT + "\n")
    assert "the stream was cut after 5 tokens and goes on elsewhere" in result.stderr
    request_id = service.seen[1].headers["x-request-id"]
    last = result.stderr.splitlines()[-1]
    for words in ("a-model: first token 0.", "12 tokens for a prompt of 3", "resumed 1 time", request_id):
        assert words in last


def test_json(service: Service) -> None:
    """One object on stdout, with all that is known of the answer."""
    service.then(MODELS, Acts.speak(events=5, cut=Acts.reset), Acts.speak())
    result = ask("--endpoint", service.url, "--json", "Sing!")
    answer = json.loads(result.stdout)
    assert {"text": TEXT, "model": "a-model", "resumes": 1, "finish_reason": "stop"}.items() <= answer.items()
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 12}
    assert 0 < answer["ttft_s"] <= answer["total_s"]
    assert result.stderr == ""


def test_an_answer_at_its_limit(service: Service) -> None:
    """That an answer was cut off by --max-tokens is said, beside it."""
    service.then(MODELS, Acts.speak())
    result = ask("--endpoint", service.url, "--max-tokens", "3", "Sing!")
    assert (result.exit_code, result.stdout) == (0, "Der Mond ist \n")
    assert "--max-tokens" in result.stderr


@pytest.mark.parametrize(
    ("acts", "arguments", "code", "words"),
    [
        ([Acts.refuse(401)], [], 3, "GOLDENFLEET_API_KEY"),
        ([Acts.refuse(403)], [], 3, "GOLDENFLEET_API_KEY"),
        ([Acts.refuse(404)], ["--model", "x"], 6, "/v1/models"),
        ([Acts.answer(200, {"data": []})], [], 6, "serves no model"),
        ([MODELS, Acts.refuse(400)], [], 1, "HTTP 400"),
        ([Acts.answer(200, b"<html>")], ["--timeout", "1"], 1, "makes no sense"),
        ([Acts.silence], ["--timeout", "0.2"], 9, "--timeout"),
    ],
)
def test_refusals(service: Service, acts: Any, arguments: list[str], code: int, words: str) -> None:
    """Each kind of failure has its exit code and a hint, and nothing on stdout."""
    service.then(*acts)
    result = ask("--endpoint", service.url, *arguments, "Sing!")
    assert result.exit_code == code
    assert result.stdout == ""
    assert words in result.stderr


def test_an_answer_that_breaks_off(service: Service) -> None:
    """What had arrived stays, on a line of its own; the exit code says that it is not whole."""
    final = event(Acts.error("no", "resume_unsupported"))
    service.then(MODELS, Acts.speak(events=4, raw=final, cut=Acts.close))
    result = ask("--endpoint", service.url, "Sing!")
    assert (result.exit_code, result.stdout) == (1, "Der Mond ist auf\n")
    assert "broke off" in result.stderr


def test_nobody_there() -> None:
    """A refused connection is told with a way to have a fleet."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    result = ask("--endpoint", f"http://127.0.0.1:{port}", "Sing!")
    assert result.exit_code == 1
    assert "goldenfleet rehearse" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        (["--endpoint", "nonsense", "Hello"], None, "http://127.0.0.1:8088"),
        (["--endpoint", "http://127.0.0.1:9", "--rehearsal", "Hello"], None, "--rehearsal"),
        (["--endpoint", "http://127.0.0.1:9"], "  \n", "empty"),
        (["--endpoint", "http://127.0.0.1:9", ""], None, "empty"),
        (["--endpoint", "http://127.0.0.1:9", "\udcff"], None, "no text in UTF-8"),
        (["--endpoint", "http://127.0.0.1:9"], b"\xff\xfe", "no text in UTF-8"),
        (["--max-tokens", "0", "Hello"], None, "--max-tokens"),
        (["--temperature", "9", "Hello"], None, "--temperature"),
        (["--api-key", "sk", "Hello"], None, "--api-key"),
    ],
)
def test_usage(arguments: list[str], stdin: str | bytes | None, words: str) -> None:
    """What cannot be asked is refused with 2, before anything is sent."""
    result = ask(*arguments, stdin=stdin)
    assert result.exit_code == 2
    assert words in result.stderr


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_a_question_on_stdin(service: Service, arguments: list[str]) -> None:
    """Without a prompt, or with -, the question is read."""
    service.then(MODELS, Acts.speak())
    assert ask("--endpoint", service.url, *arguments, stdin="Sing!\n").stdout == TEXT + "\n"
    assert service.seen[1].body["messages"][0]["content"] == "Sing!\n"


def test_a_kept_rehearsal_is_found(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked by --rehearsal, whatever the environment names, and where nothing is named."""
    mine = born(os.getpid())
    assert mine is not None
    kept = Kept(os.getpid(), mine, "rehearsal", "us-east-1", "http://127.0.0.1:9", service.url, "/tmp", 0.1)
    service.then(MODELS, Acts.speak(), MODELS, Acts.speak())
    with told(kept):
        assert ask("Sing!").stdout == TEXT + "\n"
        monkeypatch.setenv("GOLDENFLEET_ENDPOINT", "http://127.0.0.1:9")
        assert ask("--rehearsal", "Sing!").stdout == TEXT + "\n"
    assert ask("--rehearsal", "Sing!").exit_code == 6


def test_several_kept_rehearsals() -> None:
    """Which is meant is asked for in words that this command understands."""
    mine = born(os.getpid())
    assert mine is not None
    kept = Kept(
        os.getpid(), mine, "rehearsal", "us-east-1", "http://127.0.0.1:9", "http://127.0.0.1:8", "/tmp", 1
    )
    other = replace(kept, pid=os.getppid(), born=born(os.getppid()) or "", endpoint="http://127.0.0.1:7")
    with told(kept), told(other):
        result = ask("Sing!")
    assert result.exit_code == 2
    assert "--endpoint http://127.0.0.1:8" in result.stderr
    assert "--endpoint http://127.0.0.1:7" in result.stderr
    assert "--stack" not in result.stderr


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_a_closed_stdin(arguments: list[str]) -> None:
    """Where a caller has closed it there is no question on it, and no traceback."""
    ended = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" ask $2 <&-', sys.executable, COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert "goldenfleet: " in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_key_that_no_header_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint is about the key, too."""
    monkeypatch.setenv("GOLDENFLEET_API_KEY", "sk\r")
    result = ask("--endpoint", "http://127.0.0.1:9", "Sing!")
    assert result.exit_code == 2
    assert "GOLDENFLEET_API_KEY holds one line" in result.stderr


def test_no_secret_in_arguments() -> None:
    """A key cannot be given where the process list shows it."""
    assert not any("key" in name for option in command.params for name in option.opts)


class Typed:
    """The command in a process of its own, on a terminal."""

    def __init__(self, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, "ask", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.PIPE,
            env={**os.environ, "TERM": "dumb", "NO_COLOR": "1"},
        )
        os.close(theirs)
        self.shown = ""

    def until(self, words: str) -> None:
        while words not in self.shown:
            self.shown += os.read(self._ours, 4096).decode()

    def end(self) -> tuple[int, str]:
        """Exit code and stderr."""
        _, said = self.process.communicate(timeout=30)
        os.set_blocking(self._ours, False)
        with suppress(OSError):
            self.shown += os.read(self._ours, 65536).decode()
        os.close(self._ours)
        return self.process.returncode, said.decode()


def test_ctrl_c_leaves_a_clean_line(service: Service) -> None:
    """In the middle of an answer: 130, what had come on a whole line, one word, and the stream is closed."""
    service.then(MODELS, Acts.speak(events=4, cut=Acts.silence))
    typed = Typed("--endpoint", service.url, "Sing!")
    typed.until("auf")
    typed.process.send_signal(signal.SIGINT)
    assert typed.end() == (130, "goldenfleet: stopped\n")
    assert typed.shown == "Der Mond ist auf\r\n"
    assert service.connections[-1].left.wait(10)


def test_a_terminal_takes_no_orders_from_a_model(service: Service) -> None:
    """Escape sequences in an answer do not reach a terminal; a file gets what was said."""
    choice = {"index": 0, "delta": {"content": "a\x1b]0;x\x07b\x9bc"}, "finish_reason": "stop"}
    nasty = Acts.speak(events=0, raw=event({"choices": [choice]}), cut=Acts.close)
    service.then(MODELS, nasty, MODELS, nasty)
    typed = Typed("--endpoint", service.url, "Sing!")
    assert typed.end() == (0, "")
    assert typed.shown == "a]0;xbc\r\n"
    assert ask("--endpoint", service.url, "Sing!").stdout == "a\x1b]0;x\x07b\x9bc\n"


def test_nothing_to_ask_on_a_terminal() -> None:
    """A person who types the command alone is told what to type, instead of waiting for stdin."""
    typed = Typed()
    code, said = typed.end()
    assert code == 2
    assert 'goldenfleet ask "' in said
