"""A node's shell and journal on AWS: missing programs, nodes that cannot be reached, late answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleet.oncall import interrupts, journal
from fleet.oncall.connecting import session
from fleet.oncall.errors import AwsFailed, Impossible, ProgramMissing
from fleet.oncall.lines import lines
from fleet.stack.naming import interrupting_role

SENT, GOT = "AmazonSSM.SendCommand", "AmazonSSM.GetCommandInvocation"


@pytest.mark.parametrize("there", [(), ("aws",)])
def test_a_shell_needs_two_programs(aws, make_node, tmp_path: Path, there):
    """Whichever is missing is named, with where to get both."""
    for program in there:
        (tmp_path / program).touch(0o755)
    with pytest.raises(ProgramMissing) as raised:
        session(aws.access(kept=False), make_node(), path=str(tmp_path))
    assert ("session-manager-plugin" if there else "aws") in raised.value.message
    assert "install-plugin" in raised.value.hint


def test_a_shell_is_a_session(aws, make_node, tmp_path: Path):
    """In the stack's region, whatever the AWS CLI would take by itself."""
    for program in ("aws", "session-manager-plugin"):
        (tmp_path / program).touch(0o755)
    wanted = session(aws.access(kept=False), make_node("i-1"), path=str(tmp_path))
    assert [*wanted.argv] == ["aws", "ssm", "start-session", "--target", "i-1", "--region", "us-east-1"]


def test_a_shell_in_a_rehearsal_that_was_tidied_away(aws, make_node):
    """Its folder is gone: said, and no shell somewhere else."""
    with pytest.raises(Impossible, match="is not there"):
        session(aws.access(), make_node())


def test_a_journal_of_a_node_that_nobody_reaches(aws, make_node):
    """It is gone or boots: its console may say more."""
    aws.failing = {SENT}
    aws.answers[SENT] = json.dumps({"__type": "InvalidInstanceId"})
    with pytest.raises(AwsFailed) as raised:
        journal.read(aws.access(), make_node("i-1"), 0)
    assert "get-console-output --latest --instance-id i-1" in raised.value.hint


def test_a_journal_comes_late(aws, make_node):
    """An invocation is not there at once, then runs; a traceback has the time of the line before it."""
    aws.answers[SENT] = json.dumps({"Command": {"CommandId": "c" * 36}})
    text = '{"ts": 5.0, "event": "server.ready"}\nTraceback\n'
    answers = [
        {"__type": "InvocationDoesNotExist"},
        {"Status": "InProgress"},
        {"Status": "Success", "StandardOutputContent": text},
    ]

    def pause(_: float) -> None:
        answer = answers.pop(0)
        aws.failing = {GOT} if "__type" in answer else set()
        aws.answers[GOT] = json.dumps(answer)

    found = journal.read(aws.access(), make_node("i-1"), 0, pause=pause)
    assert [(line.at, line.text) for line in found] == [(5.0, text.split("\n")[0]), (5.0, "Traceback")]
    assert [line.as_json()["line"] for line in found] == [{"ts": 5.0, "event": "server.ready"}, "Traceback"]


def test_a_journal_that_cannot_be_read(aws, make_node):
    """What the node says of it is passed on."""
    aws.answers[SENT] = json.dumps({"Command": {"CommandId": "c" * 36}})
    aws.answers[GOT] = json.dumps({"Status": "Failed", "StandardErrorContent": "no journalctl\n"})
    with pytest.raises(AwsFailed, match="Failed: no journalctl"):
        journal.read(aws.access(), make_node("i-1"), 0, pause=lambda _: None)


def test_lines_without_any_time():
    """A foreign log is shown as it is."""
    assert [line.at for line in lines(["x", "[]", '{"ts": "?"}'])] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "fields", [{"purchase_option": "on-demand"}, {"binding": True}, {"lifecycle_state": "Terminating:Wait"}]
)
def test_what_cannot_be_interrupted_is_refused_before_anything_is_made(make_node, fields):
    """On demand, or on its way already: exit code 2."""
    with pytest.raises(Impossible) as raised:
        interrupts.check([make_node(), make_node("i-2", **fields)])
    assert raised.value.exit_code == 2


def test_an_experiment_names_its_nodes_alone(aws, make_node):
    """By ARN, so that no tag can widen it, with AWS's two minutes, and tagged as the stack's."""
    made = interrupts.template(aws.access(), [make_node("i-1")], "123456789012", "arn:role")
    assert made["targets"]["nodes"]["resourceArns"] == ["arn:aws:ec2:us-east-1:123456789012:instance/i-1"]
    assert made["actions"]["interrupt"]["parameters"] == {"durationBeforeInterruption": "PT2M"}
    assert (made["roleArn"], made["tags"]) == ("arn:role", {"goldenfleet:stack": "prod"})


def test_an_experiment_acts_as_the_stacks_own_role(aws):
    """By the name that the stack gives it where it makes one."""
    assert interrupts.own_role(aws.access(), "123456789012") == (
        f"arn:aws:iam::123456789012:role/{interrupting_role('prod')}"
    )
