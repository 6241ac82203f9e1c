"""`goldenfleet preview`, `up` and `destroy`, of a small project on moto."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from click.testing import CliRunner, Result
from moto.server import ThreadedMotoServer

from fleet.cli import main

PROGRAM = """
import pulumi
days = pulumi.Config("goldenfleet").require_int("logRetentionDays")
props = {"visibilityTimeoutSeconds": days, "url": None}
queue = pulumi.CustomResource("aws:sqs/queue:Queue", "jobs", props)
pulumi.export("days", days)
"""
UNSAFE = """
import pulumi
pulumi.CustomResource("aws:sqs/queue:Queue", "jobs", {"visibilityTimeoutSeconds": 3})
"""
CHECKOUT = Path(__file__).parents[2]
COMMAND = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from fleet.cli import main
main()
"""
DEADLINE_SECONDS = 60
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "Pulumi.yaml").write_text("name: small\nruntime: python\n")
    (tmp_path / "Pulumi.dev.yaml").write_text("config:\n  goldenfleet:logRetentionDays: 3\n")
    (tmp_path / "__main__.py").write_text(PROGRAM)
    return tmp_path


@pytest.fixture
def run(endpoint: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)

    def invoke(act: str, *words: str, said: str | None = None, at: str | None = endpoint) -> Result:
        where = [] if at is None else ["--endpoint-url", at]
        asked = [act, "--stack", "dev", "--project", str(project), *where, *words]
        return CliRunner().invoke(main, asked, input=said)

    return invoke


def queues(endpoint: str) -> list[str]:
    sqs = boto3.client(
        "sqs",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    return list(sqs.list_queues().get("QueueUrls", []))


def test_a_stack_lives_from_preview_to_destroy(run, endpoint, project) -> None:
    """What a preview says is what an up does; the state is the project's own; nothing is left."""
    foreseen = run("preview")
    assert foreseen.exit_code == 0, foreseen.output
    assert " + create  sqs.Queue     jobs" in foreseen.stdout
    assert "dev: 2 to create (" in foreseen.stdout
    assert queues(endpoint) == []
    made = json.loads(run("up", "--yes", "--json").stdout)
    assert (made["act"], made["engine"], made["summary"]) == ("up", "rehearsal", {"create": 2})
    assert made["outputs"] == {"days": 3}
    assert [step["op"] for step in made["steps"]] == ["create", "create"]
    assert len(queues(endpoint)) == 1
    assert (project / ".goldenfleet" / "dev.json").exists()
    assert run("preview", "--expect-no-changes").exit_code == 0
    changed = run("preview", "--expect-no-changes", "-c", "goldenfleet:logRetentionDays=5")
    assert (changed.exit_code, "1 resources would change" in changed.stderr) == (1, True)
    assert " ~ update  sqs.Queue  jobs  visibilityTimeoutSeconds" in changed.stdout
    gone = run("destroy", "--yes")
    assert "dev: 2 deleted (" in gone.stdout
    assert queues(endpoint) == []


@pytest.mark.parametrize("act", ["up", "destroy"])
def test_nothing_is_done_unless_a_person_says_so(act, run, endpoint) -> None:
    """A no, and nobody there to answer, both end with exit code 8."""
    before = run("up", "--yes") if act == "destroy" else None
    there = len(queues(endpoint))
    for said in ("n\n", ""):
        refused = run(act, said=said)
        assert (refused.exit_code, "nothing was done" in refused.stderr) == (8, True), refused.output
        assert len(queues(endpoint)) == there
    agreed = run(act, said="y\n")
    assert agreed.exit_code == 0, agreed.output
    assert len(queues(endpoint)) == 1 - there
    if before is None:
        assert "2 to create" in agreed.stdout
        run("destroy", "--yes")


def test_json_does_not_ask(run) -> None:
    """A question would stand in the middle of it."""
    refused = run("up", "--json")
    assert (refused.exit_code, "--json needs --yes" in refused.stderr) == (2, True)


@pytest.fixture
def forbidden(project: Path) -> None:
    """What the project registers, its policies forbid."""
    (project / "fleet" / "policy").mkdir(parents=True)
    (project / "fleet" / "policy" / "PulumiPolicy.yaml").touch()
    (project / "Pulumi.dev.yaml").write_text((CHECKOUT / "Pulumi.dev.yaml").read_text())
    (project / "__main__.py").write_text(UNSAFE)


@pytest.mark.usefixtures("forbidden")
def test_nothing_is_made_that_policies_forbid(run, endpoint, project) -> None:
    """Not even where nobody is to be asked; the preview says the same."""
    for act, words in {"preview": [], "up": ["--yes"]}.items():
        refused = run(act, *words)
        assert (refused.exit_code, "queues-encrypted (mandatory): jobs" in refused.stderr) == (1, True)
        assert queues(endpoint) == []
        assert not (project / ".goldenfleet" / "dev.json").exists()


@pytest.mark.usefixtures("forbidden")
def test_what_policies_forbid_is_told_in_json(run, endpoint) -> None:
    """An object as of every act, with no step that was taken, and each violation."""
    refused = run("up", "--yes", "--json")
    told = json.loads(refused.stdout)
    assert (refused.exit_code, told["act"], told["steps"], told["summary"]) == (1, "up", [], {})
    found = {each["rule"]: (each["level"], each["name"]) for each in told["violations"]}
    assert found["queues-encrypted"] == ("mandatory", "jobs")
    assert queues(endpoint) == []


@pytest.mark.parametrize("act", ["preview", "up", "destroy"])
def test_the_rehearsals_engine_refuses_aws(act, run) -> None:
    """By name, by default, and before anything is read or asked."""
    words = [] if act == "preview" else ["--yes"]
    refused = run(act, *words, at="https://sqs.us-east-1.amazonaws.com")
    assert (refused.exit_code, "loopback addresses only" in refused.stderr) == (2, True)
    if act != "preview":
        refused = run(act, *words, at=None)
        assert (refused.exit_code, "does not deploy to AWS" in refused.stderr) == (2, True)


def test_the_endpoint_of_the_environment_is_looked_at_too(run, monkeypatch) -> None:
    """AWS_ENDPOINT_URL is what everything else that talks to AWS goes by."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://example.com")
    refused = run("up", "--yes", at=None)
    assert (refused.exit_code, "at https://example.com" in refused.stderr) == (2, True)


def test_a_failing_program_is_told_plainly(run, project) -> None:
    """Its own error and exit code 1, and no traceback of ours."""
    (project / "__main__.py").write_text("raise LookupError('no such tier')")
    failed = run("up", "--yes")
    assert (failed.exit_code, "LookupError: no such tier" in failed.stderr) == (1, True)
    assert isinstance(failed.exception, SystemExit)


def test_bad_settings_are_told_before_a_preview_begins(tmp_path) -> None:
    """Without an endpoint a preview has an account of its own, made from the settings."""
    words = ["preview", "--stack", "rehearsal", "-c", "goldenfleet:tires=[]"]
    refused = CliRunner().invoke(main, words)
    assert (refused.exit_code, "goldenfleet:tires" in refused.stderr) == (2, True), refused.output


@pytest.mark.parametrize("act", ["preview", "up"])
def test_bad_settings_are_told_before_anything_starts(act, endpoint) -> None:
    """At an endpoint, too: by exit code 2, and not as a program that failed."""
    words = [act, "--endpoint-url", endpoint, "-c", "goldenfleet:production=maybe"]
    refused = CliRunner().invoke(main, words)
    assert (refused.exit_code, "must be true or false" in refused.stderr) == (2, True), refused.output
    assert "program" not in refused.stderr


def test_a_program_that_refuses_has_the_last_word(run, project) -> None:
    """What to do stands in its own error: nobody is told to correct the program."""
    (project / "__main__.py").write_text("import pulumi\nraise pulumi.RunError('no such tier: name another')")
    failed = run("up", "--yes")
    assert (failed.exit_code, "no such tier: name another\nNothing was deleted." in failed.stderr) == (
        1,
        True,
    )
    assert "program" not in failed.stderr


def test_without_pulumi_the_person_is_told_so(run, monkeypatch, tmp_path) -> None:
    """Before anything is previewed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    refused = run("up", "--yes", "--engine", "pulumi")
    assert (refused.exit_code, "no pulumi on the PATH" in refused.stderr) == (2, True)


def test_an_emulated_account_is_there_until_ctrl_c(run) -> None:
    """With the stack's images and nothing else; its address is all that stdout has."""
    words = [sys.executable, "-c", COMMAND, "emulate", "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True) as command:
        try:
            assert command.stdout is not None
            url = command.stdout.readline().strip()
            assert queues(url) == []
            preview = CliRunner().invoke(main, ["preview", "--endpoint-url", url, "--json"])
            assert preview.exit_code == 0, preview.output
            os.killpg(command.pid, signal.SIGINT)
            assert command.wait(DEADLINE_SECONDS) == 0
        finally:
            command.kill()


def test_a_port_that_is_taken_is_told_plainly(endpoint) -> None:
    """Whoever has it."""
    taken = CliRunner().invoke(main, ["emulate", "--port", endpoint.rpartition(":")[2]])
    assert (taken.exit_code, "port" in taken.stderr) == (1, True), taken.output


def test_the_projects_own_stacks_are_previewed_in_an_empty_account() -> None:
    """No cloud, no credentials and no state are needed to see what a stack is made of."""
    seen = CliRunner().invoke(main, ["preview", "--stack", "prod", "--json"])
    assert seen.exit_code == 0, seen.output
    told = json.loads(seen.stdout)
    assert set(told["summary"]) == {"create"}
    assert "aws:autoscaling/group:Group" in {step["type"] for step in told["steps"]}
