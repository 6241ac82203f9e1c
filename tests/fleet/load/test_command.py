"""`goldenfleet load` as people type it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from fleet.cli import main
from fleet.rehearsal.ports import free_port

# A background job starts with SIGINT ignored, and hands that down.
COMMAND = """import signal; signal.signal(signal.SIGINT, signal.default_int_handler)
from fleet.cli import main; main()"""


def load(*arguments: str):
    return CliRunner().invoke(main, ["load", *arguments], catch_exceptions=False)


def test_a_load_is_measured_told_and_drawn(served, tmp_path) -> None:
    """Two rates: figures of each as JSON, a line per request, a picture, and 0 because nothing was lost."""
    picture, lines = tmp_path / "load.png", tmp_path / "load.jsonl"
    asked = ["--rate", "32,64", "--duration", "0.25", "--json", "--png", str(picture), "--out", str(lines)]
    result = load("--endpoint", served.url, "--arrivals", "steady", *asked)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert [stage["offered_rate"] for stage in told["stages"]] == [32.0, 64.0]
    assert [stage["ok"] for stage in told["stages"]] == [7, 15]
    assert told["model"] == "a-model"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert len(lines.read_text().splitlines()) == 22
    assert {json.loads(line)["outcome"] for line in lines.read_text().splitlines()} == {"ok"}


def test_one_rate_is_drawn_over_time(served, tmp_path) -> None:
    """With a single rate there is a picture as well."""
    picture = tmp_path / "load.png"
    result = load("--endpoint", served.url, "--rate", "30", "--duration", "0.2", "--png", str(picture))
    assert result.exit_code == 0, result.output
    assert "None of " in result.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_lost_requests_are_an_exit_code(served) -> None:
    """Streams that end too early make 1; the figures are told all the same."""
    served.cut = True
    result = load("--endpoint", served.url, "--rate", "20", "--duration", "0.1", "--timeout", "0.5")
    assert result.exit_code == 1
    assert "lost or truncated" in result.stdout


@pytest.mark.parametrize(("status", "code"), [(401, 3), (403, 3), (404, 1)])
def test_an_endpoint_that_refuses_is_an_exit_code(served, status, code) -> None:
    """A key that is not accepted is 3, anything else 1; no request of the load was sent."""
    served.status = status
    result = load("--endpoint", served.url)
    assert result.exit_code == code
    assert served.asked == []


def test_a_load_that_is_refused_altogether(served) -> None:
    """Nothing was lost, but nothing was measured either: 1, and why."""
    served.refused = True
    result = load("--endpoint", served.url, "--rate", "20", "--duration", "0.2")
    assert result.exit_code == 1
    assert "HTTP 400: no" in result.stdout


def test_a_model_that_is_not_there(served) -> None:
    """6, and where to see what there is."""
    served.status = 404
    result = load("--endpoint", served.url, "--model", "x")
    assert result.exit_code == 6
    assert "does not serve x" in result.stderr
    assert "/v1/models" in result.stderr


@pytest.mark.parametrize("key", ["", "sk\n"])
def test_a_key_that_is_none(served, monkeypatch, key) -> None:
    """An empty one is none, as for `ask`; one that no header can hold is named."""
    monkeypatch.setenv("GOLDENFLEET_API_KEY", key)
    result = load("--endpoint", served.url, "--arrivals", "steady", "--rate", "20", "--duration", "0.2")
    assert result.exit_code == (2 if key else 0), result.output
    assert ("GOLDENFLEET_API_KEY holds one line" in result.stderr) == bool(key)


def test_a_file_for_lines_that_cannot_be_opened(served, tmp_path) -> None:
    """2, before anything is sent."""
    result = load("--endpoint", served.url, "--out", str(tmp_path / "nowhere" / "load.jsonl"))
    assert result.exit_code == 2
    assert "cannot write" in result.stderr
    assert served.asked == []


def test_a_dry_run_leaves_files_alone(served, tmp_path) -> None:
    """What an earlier load has written is still there."""
    lines = tmp_path / "load.jsonl"
    lines.write_text("earlier")
    assert load("--endpoint", served.url, "--dry-run", "--out", str(lines)).exit_code == 0
    assert lines.read_text() == "earlier"


@pytest.mark.parametrize("option", ["--out", "--png"])
def test_a_full_disk_costs_no_figures(served, option) -> None:
    """They are told all the same; then 1, with what could not be written."""
    result = load("--endpoint", served.url, "--rate", "30", "--duration", "0.2", option, "/dev/full")
    assert result.exit_code == 1
    assert "None of " in result.stdout
    assert "No space left on device" in result.stderr


def test_open_files_are_no_losses(served) -> None:
    """A lower limit on open files is raised: what this process lacks, the service has not lost."""
    served.together = 60
    asked = ["--arrivals", "steady", "--rate", "600", "--duration", "0.1", "--most-at-once", "100", "--json"]
    limited = (
        f"ulimit -Sn 40; exec {sys.executable} -c '{COMMAND}' load --endpoint {served.url} {' '.join(asked)}"
    )
    ran = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, timeout=60, check=False)
    [stage] = json.loads(ran.stdout)["stages"]
    assert (stage["ok"], stage["retried"], stage["lost"]) == (60, 0, 0)


def test_an_endpoint_that_is_not_there_is_said_so() -> None:
    """Nothing listens: an error with a hint, no traceback."""
    result = load("--endpoint", f"http://127.0.0.1:{free_port('127.0.0.1')}", "--timeout", "1")
    assert result.exit_code == 1
    assert "answers nobody" in result.stderr
    assert "Is a fleet there?" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rate", "fast"], "not a list of numbers"),
        (["--rate", "0"], "between 0 and 10000"),
        (["--endpoint", "ftp://a"], "http"),
        (["--png", "/nowhere/at/all.png"], "folder does not exist"),
        (["--trace", "pyproject.toml"], "is no request"),
        (["--rate", "10000", "--duration", "86400"], "more than 1,000,000 requests"),
        (["--most-at-once", "2000000000"], "open files"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_sent(arguments, said) -> None:
    """Junk is 2, with what is wrong about it."""
    result = load(*arguments)
    assert result.exit_code == 2, result.output
    assert said in result.stderr


def test_a_dry_run_sends_nothing(served) -> None:
    """It says how many requests and tokens it would send."""
    result = load(
        "--endpoint", served.url, "--arrivals", "steady", "--rate", "8", "--duration", "1", "--dry-run"
    )
    assert result.exit_code == 0
    assert "7 requests" in result.stdout
    assert "about 896 prompt tokens" in result.stdout
    assert served.asked == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_load_that_is_stopped_tells_what_it_saw(served, number) -> None:
    """Ctrl-C and SIGTERM end it with 130 and the figures until then."""
    served.together = 10_000
    command = [sys.executable, "-c", COMMAND, "load", "--endpoint", served.url, "--rate", "200", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert served.reached.wait(30)
        process.send_signal(number)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads(said)["stopped"] is True
