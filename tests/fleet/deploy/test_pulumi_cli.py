"""Pulumi's own CLI, by an executable that replays what it writes to its event log."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from fleet.cli import main
from fleet.deploy.errors import PulumiFailedError, PulumiMissingError
from fleet.deploy.outcome import Outcome
from fleet.deploy.pulumi_cli import PulumiCli
from fleet.rehearsal.engine import Step
from tests.fleet.deploy.conftest import FakePulumi

PROJECT = Path(__file__).parents[3]
DEADLINE_SECONDS = 60
STEPS = {
    ("same", "goldenfleet-prod"): (),
    ("same", "gf-prod-network"): (),
    ("read", "theirs"): (),
    ("create", "gf-prod-notices"): (),
    ("update", "gf-prod-model"): ("maxSize", "minSize"),
    ("replace", "gf-prod-model"): ("port",),
    ("delete", "gf-prod-old"): (),
}


def ignore(step: Step) -> None:
    del step


def test_a_previews_steps_are_those_that_the_program_means(pulumi) -> None:
    """A replacement is one step, and what a preview cannot know is no output."""
    pulumi.plays("preview")
    result = PulumiCli(pulumi.project, "prod").preview(ignore)
    assert {(s.op, s.name): s.changed for s in result.steps if s.name != "goldenfleet-prod"} == {
        key: changed for key, changed in STEPS.items() if key[1] != "goldenfleet-prod"
    }
    assert result.outputs == {"endpoint": "https://llm.example.com", "token": "[secret]"}


def test_an_up_tells_each_step_as_it_ends(pulumi) -> None:
    """The same steps, heard one by one, and all outputs."""
    pulumi.plays("up")
    heard: list[Step] = []
    result = PulumiCli(pulumi.project, "prod").up(heard.append)
    assert tuple(heard) == result.steps
    assert {(s.op, s.name): s.changed for s in result.steps} == STEPS
    assert set(result.outputs) == {"endpoint", "noticeQueueUrl", "tiers", "token"}
    assert result.summary() == {"same": 2, "read": 1, "create": 1, "update": 1, "replace": 1, "delete": 1}
    words = pulumi.calls[0]["words"]
    assert words[:3] == ["up", "--yes", "--skip-preview"]
    assert {"--non-interactive", "--event-log"} <= set(words)
    assert words[words.index("--stack") + 1] == "prod"
    assert pulumi.calls[0]["folder"] == str(pulumi.project)


def test_a_destroy_has_the_same_shape(pulumi) -> None:
    """Whichever engine did it, the table and the JSON have the same words."""
    pulumi.plays("destroy")
    result = PulumiCli(pulumi.project, "prod").destroy(ignore)
    outcome = Outcome("destroy", "prod", "pulumi", result)
    assert outcome.as_json()["summary"] == {"delete": 3}
    assert " - delete  sqs.Queue     gf-prod-notices" in outcome.describe()


def test_overrides_go_into_a_copy_of_the_stacks_file(pulumi) -> None:
    """pulumi's own --config would write them into the file that is under version control."""
    pulumi.plays("preview")
    given = {"goldenfleet:logRetentionDays": "7", "goldenfleet:edge": '{"domain": "a.example"}'}
    PulumiCli(pulumi.project, "prod", config=given).preview(ignore)
    copied = yaml.safe_load(pulumi.calls[0]["config"])
    assert copied["encryptionsalt"] == "v1:salt"
    assert copied["config"] == {
        "goldenfleet:production": True,
        "goldenfleet:logRetentionDays": 7,
        "goldenfleet:edge": {"domain": "a.example"},
    }
    assert "logRetention" not in (pulumi.project / "Pulumi.prod.yaml").read_text()


def test_without_overrides_pulumi_reads_the_file_itself(pulumi, monkeypatch) -> None:
    """And AWS's environment is left as it is."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    pulumi.plays("preview")
    PulumiCli(pulumi.project, "prod").preview(ignore)
    assert pulumi.calls[0]["config"] is None
    assert "AWS_ENDPOINT_URL" not in pulumi.calls[0]["environment"]


def test_an_emulated_cloud_is_told_by_environment_and_configuration(pulumi) -> None:
    """The provider must not ask for what only AWS has."""
    pulumi.plays("preview")
    PulumiCli(pulumi.project, "prod", endpoint_url="http://127.0.0.1:5000").preview(ignore)
    (call,) = pulumi.calls
    assert call["environment"]["AWS_ENDPOINT_URL"] == "http://127.0.0.1:5000"
    assert yaml.safe_load(call["config"])["config"]["aws:skipCredentialsValidation"] is True


def test_a_failure_is_told_by_pulumis_own_errors(pulumi) -> None:
    """Without its colours, with the resource; policies that are broken too."""
    pulumi.plays("failed", code=255)
    with pytest.raises(PulumiFailedError) as caught:
        PulumiCli(pulumi.project, "prod").up(ignore)
    assert caught.value.message.splitlines() == [
        "pulumi up failed (exit code 255):",
        "gf-prod-network: creating EC2 VPC: VpcLimitExceeded: The maximum number of VPCs has been reached.",
        "flow-logs (mandatory): gf-prod-network: no flow log",
    ]


def test_a_failure_without_events_is_told_by_what_pulumi_said(pulumi) -> None:
    """No stack, no login, no passphrase: pulumi says so before it begins."""
    pulumi.plays("", code=255, says="error: no stack named 'prod' found")
    with pytest.raises(PulumiFailedError, match="no stack named 'prod' found") as caught:
        PulumiCli(pulumi.project, "prod").preview(ignore)
    assert "docs/pulumi.md" in caught.value.hint


def test_without_an_executable_the_person_is_told_what_to_do(tmp_path, monkeypatch) -> None:
    """It is looked for before anything is begun."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PulumiMissingError, match="no pulumi on the PATH") as caught:
        PulumiCli(tmp_path, "prod")
    assert "https://www.pulumi.com/docs/install/" in caught.value.hint


def up_by_pulumi(pulumi: FakePulumi, *words: str) -> Result:
    """`goldenfleet up --yes` in a project that has a policy pack."""
    pack = pulumi.project / "fleet" / "policy"
    pack.mkdir(parents=True)
    (pack / "PulumiPolicy.yaml").touch()
    shutil.copy(PROJECT / "Pulumi.prod.yaml", pulumi.project)
    asked = ["up", "--engine", "pulumi", "--yes", "--stack", "prod", "--project", str(pulumi.project)]
    return CliRunner().invoke(main, [*asked, *words])


def test_nothing_is_made_that_the_pack_forbids(pulumi) -> None:
    """Pulumi previews first, also where nobody is to be asked; what is forbidden is told in JSON too."""
    pulumi.plays("failed", code=255)
    refused = up_by_pulumi(pulumi, "--json")
    assert (refused.exit_code, "flow-logs" in refused.stderr) == (1, True), refused.output
    assert [call["words"][0] for call in pulumi.calls] == ["preview"]
    told = json.loads(refused.stdout)
    assert (told["act"], told["engine"], told["steps"]) == ("up", "pulumi", [])
    (violation,) = told["violations"]
    assert (violation["rule"], violation["level"]) == ("flow-logs", "mandatory")
    assert violation["name"] == "gf-prod-network"


def test_what_the_pack_allows_is_made_after_a_preview(pulumi) -> None:
    """Both with the pack."""
    pulumi.plays("up")
    done = up_by_pulumi(pulumi)
    assert done.exit_code == 0, done.output
    assert [call["words"][0] for call in pulumi.calls] == ["preview", "up"]
    assert all("--policy-pack" in call["words"] for call in pulumi.calls)


COMMAND = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from fleet.cli import main
main()
"""


def test_ctrl_c_lets_pulumi_end_in_order(pulumi) -> None:
    """It hears the signal once, however the person sent it, and the command waits for it."""
    pulumi.plays("failed", waits=True)
    words = ["up", "--engine", "pulumi", "--yes", "--stack", "prod", "--project", str(pulumi.project)]
    command = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        pulumi.wait_until_begun()
        os.killpg(command.pid, signal.SIGINT)
        _, said = command.communicate(timeout=DEADLINE_SECONDS)
    finally:
        command.kill()
    assert (command.returncode, "stopped in order" in said) == (130, True), said
    assert (pulumi.folder / "interrupted").exists()
