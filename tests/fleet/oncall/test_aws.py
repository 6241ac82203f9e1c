"""AWS that refuses, fails or is not there: exit codes and hints, over real HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fleet.cli import main
from fleet.oncall.ago import ago
from fleet.oncall.history import parse

_ENV = {
    "AWS_ACCESS_KEY_ID": "a",
    "AWS_SECRET_ACCESS_KEY": "b",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_PROFILE": None,
    "AWS_SESSION_TOKEN": None,
    "GOLDENFLEET_STACK": None,
    "GOLDENFLEET_REHEARSAL": None,
}


def run(*arguments: str, **env: str | None) -> Result:
    return CliRunner().invoke(main, [*arguments], env={**_ENV, **env})


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidClientTokenId", "SignatureDoesNotMatch"])
def test_refused_credentials_are_exit_code_3(aws, code):
    """With how to get others."""
    aws.refuses(code)
    result = run("status", AWS_ENDPOINT_URL=aws.url)
    assert result.exit_code == 3
    assert code in result.stderr
    assert "aws sso login" in result.stderr
    assert result.stdout == ""


def test_what_is_not_allowed_is_named(aws):
    """The call that the role lacks."""
    aws.refuses("AccessDenied")
    result = run("doctor", AWS_ENDPOINT_URL=aws.url)
    assert result.exit_code == 3
    assert "autoscaling.describeautoscalinggroups" in result.stderr


@pytest.mark.parametrize("command", [("status",), ("notices",), ("logs", "i-1"), ("drain", "i-1", "-m", "x")])
def test_no_credentials_are_exit_code_3(aws, command):
    """Whatever was asked."""
    env = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    result = run(*command, **env, AWS_ENDPOINT_URL=aws.url)
    assert result.exit_code == 3
    assert "--rehearsal" in result.stderr


def test_a_profile_that_is_not_there_is_exit_code_3(aws):
    """Misspelt, mostly."""
    assert run("status", AWS_PROFILE="nobody", AWS_ENDPOINT_URL=aws.url).exit_code == 3


def test_no_region_is_exit_code_2(aws):
    """Nothing is asked of a region that nobody named."""
    result = run("status", AWS_DEFAULT_REGION=None, AWS_REGION=None, AWS_ENDPOINT_URL=aws.url)
    assert result.exit_code == 2
    assert "AWS_REGION" in result.stderr


@pytest.mark.parametrize("region", ["us east 1", "us-east-1/"])
def test_a_region_that_is_none_is_exit_code_2(aws, region):
    """Misspelt beyond what could be a host's name."""
    result = run("status", AWS_DEFAULT_REGION=region, AWS_REGION=region, AWS_ENDPOINT_URL=aws.url)
    assert result.exit_code == 2
    assert "AWS_REGION" in result.stderr


@pytest.mark.parametrize("url", ["foo", "http://", "http://127.0.0.1:99999", "http://[::1"])
def test_an_endpoint_that_is_none_is_exit_code_2(url):
    """With the variable that says so."""
    result = run("status", AWS_ENDPOINT_URL=url)
    assert result.exit_code == 2
    assert "AWS_ENDPOINT_URL" in result.stderr


def test_an_aws_that_is_not_there_is_exit_code_1(monkeypatch):
    """A refused connection, said plainly."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    result = run("status", AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "AWS_ENDPOINT_URL" in result.stderr


def test_ctrl_c_ends_a_call_that_hangs(aws, tmp_path):
    """At once, though AWS has taken the request and says nothing: 130."""
    aws.has("prod")
    aws.silent = {"DescribeInstances"}
    env = {**os.environ, **_ENV, "AWS_ENDPOINT_URL": aws.url, "HOME": str(tmp_path)}
    argv = [Path(sys.executable).with_name("goldenfleet"), "status"]
    own = {name: value for name, value in env.items() if value is not None}
    with subprocess.Popen(argv, env=own, stderr=subprocess.PIPE, text=True) as asking:
        assert aws.hangs.wait(60)
        asking.send_signal(signal.SIGINT)
        _, said = asking.communicate(timeout=10)
    assert (asking.returncode, "Traceback" in said) == (130, False), said


def test_of_several_stacks_one_must_be_named(aws):
    """Exit code 2 with their names, one that is not there exit code 6."""
    aws.has("prod", "stage")
    several = run("status", AWS_ENDPOINT_URL=aws.url)
    assert several.exit_code == 2
    assert "prod, stage" in several.stderr
    unknown = run("status", "--stack", "dev", AWS_ENDPOINT_URL=aws.url)
    assert unknown.exit_code == 6
    assert "there is prod, stage" in unknown.stderr


def test_no_stack_at_all_is_exit_code_6(aws):
    """With what may be the reason."""
    aws.has()
    result = run("status", "--json", AWS_ENDPOINT_URL=aws.url)
    assert result.exit_code == 6
    assert "AWS_PROFILE" in result.stderr


def test_no_kept_rehearsal_is_exit_code_6(monkeypatch, tmp_path):
    """By the flag and by the environment."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for arguments, env in ((("status", "--rehearsal"), {}), (("status",), {"GOLDENFLEET_REHEARSAL": "1"})):
        result = run(*arguments, **env)
        assert result.exit_code == 6
        assert "goldenfleet rehearse" in result.stderr


@pytest.mark.parametrize("since", ["99999d", "9" * 400 + "d"])
def test_a_long_time_ago_is_all_there_is(since):
    """And never before 1970, of which AWS knows nothing."""
    assert ago(since, 1_700_000_000.0) == 0.0


@pytest.mark.parametrize("since", ["", "1", "h", "1y", "-5m"])
def test_a_length_of_time_that_is_none_is_exit_code_2(since):
    """Before anything is asked of AWS."""
    result = run("notices", "--since", since)
    assert result.exit_code == 2
    assert "such as 15m" in result.stderr


def test_json_of_events_is_one_object_a_line():
    """So that `jq` and `grep` read it as it comes."""
    event = parse(
        '{"event": "drain.requested", "ts": 5.0, "role": "control", "instance_id": "i-1", "reason": "x"}'
    )
    assert event is not None
    assert (event.at, event.instance_id, event.tier, dict(event.fields)) == (
        5.0,
        "i-1",
        None,
        {"reason": "x"},
    )
    for line in ("START RequestId: 1", "", "[]", '{"event": "x"}', json.dumps({"ts": 1})):
        assert parse(line) is None
