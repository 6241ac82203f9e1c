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


def test_it_serves_until_it_is_told_to_stop():
    """The first line is JSON with the bound port, a prompt is answered, and SIGTERM ends the process."""
    process = spawn("--port", "0")
    started = json.loads(process.stdout.readline())
    url = f"http://{started['host']}:{started['port']}/v1/completions"
    request = urllib.request.Request(url, data=b'{"prompt": "A notice is", "max_tokens": 1}')
    with urllib.request.urlopen(request, timeout=10) as response:
        assert json.load(response)["usage"]["completion_tokens"] == 1
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=10)
    assert started["event"] == "engine.started"
    assert process.returncode in {0, -signal.SIGTERM}
    assert stderr == ""


def test_help_shows_an_example():
    """--help names every option and shows how to call the engine."""
    process = spawn("--help")
    stdout, _ = process.communicate(timeout=20)
    for option in ("--host", "--port", "--max-sequences", "--max-batch-tokens", "--pages", "curl -N"):
        assert option in stdout
