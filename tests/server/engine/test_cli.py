"""`python -m server.engine` as a process."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest


def spawn(*arguments):
    command = [sys.executable, "-m", "server.engine", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def refusal(*arguments):
    process = spawn(*arguments)
    _, stderr = process.communicate(timeout=20)
    return process.returncode, stderr


def test_a_port_in_use_is_named():
    """A port that somebody holds: exit 1 and one line that says which address and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        code, stderr = refusal("--port", str(port))
    assert code == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use; choose" in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--pages", "3"], 1, "pages must be at least 64"),
        (["--host", "no such host"], 1, "cannot listen on no such host:8000: Name or service not known"),
        (["--port", "70000"], 2, "--port"),
        (["--pace-ms", "3"], 2, "No such option"),
    ],
)
def test_impossible_options_are_refused(arguments, code, message):
    """Wrong options end the program before it serves."""
    found, stderr = refusal(*arguments)
    assert found == code
    assert message in stderr
    assert "Traceback" not in stderr


@pytest.fixture
def engine():
    process = spawn("--port", "0")
    yield process, json.loads(process.stdout.readline())
    process.kill()
    process.communicate(timeout=10)


def post(started, **body):
    url = f"http://{started['host']}:{started['port']}/v1/completions"
    request = urllib.request.Request(url, data=json.dumps({"prompt": "A notice is", **body}).encode())
    return urllib.request.urlopen(request, timeout=10)


def test_the_first_line_names_the_port(engine):
    """The first line is JSON with the bound port, and a prompt sent there is answered."""
    _, started = engine
    with post(started, max_tokens=1) as response:
        assert json.load(response)["usage"]["completion_tokens"] == 1
    assert started["event"] == "engine.started"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_streams_with_an_error(engine, number):
    """Told to stop, the engine ends its streams with an error event and no [DONE], and exits quietly."""
    process, started = engine
    with post(started, max_tokens=2000, ignore_eos=True, stream=True) as response:
        response.readline()
        process.send_signal(number)
        events = response.read().decode().strip().split("\n\n")
    _, stderr = process.communicate(timeout=10)
    assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == "engine_stopped"
    assert process.returncode in {-signal.SIGTERM, 130}
    assert "Traceback" not in stderr


def test_help_shows_an_example():
    """--help names every option and shows how to call the engine."""
    process = spawn("--help")
    stdout, _ = process.communicate(timeout=20)
    for option in ("--host", "--port", "--max-sequences", "--max-batch-tokens", "--pages", "curl -N"):
        assert option in stdout
