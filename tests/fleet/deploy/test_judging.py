from __future__ import annotations

from pathlib import Path

import pytest

from fleet.deploy.errors import PoliciesForbidError
from fleet.deploy.judging import judge, pack_of, refuse
from fleet.deploy.outcome import Outcome
from fleet.deploy.pulumi_cli import PulumiCli
from fleet.policy import kinds
from fleet.rehearsal.engine import Declared, Result

PROJECT = Path(__file__).parents[3]
PRODUCTION = "prod"


def result(*declared: Declared) -> Result:
    return Result((), {}, 0.0, declared)


def balancer(**inputs: object) -> Declared:
    tags = {"goldenfleet:stack": "test", "goldenfleet:tier": "shared"}
    safe = {"dropInvalidHeaderFields": True, "desyncMitigationMode": "strictest", "internal": True}
    return Declared(kinds.BALANCER, "lb", "urn:lb", {"tags": tags, **safe, **inputs}, {})


def refused(stack: str, *declared: Declared) -> None:
    made = result(*declared)
    evaluation = judge(PROJECT, stack, {}, made)
    assert evaluation is not None
    refuse(Outcome("preview", stack, "rehearsal", made, evaluation.violations))


def test_a_violation_refuses_what_was_previewed() -> None:
    """By the rule's name and remedy; twelve of them by ten and how many more."""
    with pytest.raises(PoliciesForbidError, match=r"desync-strictest.*Set desyncMitigationMode") as caught:
        refused("dev", balancer(desyncMitigationMode="monitor"))
    assert [each.rule for each in caught.value.violations] == ["desync-strictest"]
    with pytest.raises(PoliciesForbidError, match=r"violated 12 times:\n(  .*\n){10}  and 2 more"):
        refused("dev", *[balancer(desyncMitigationMode="monitor") for _ in range(12)])


def test_the_stacks_own_settings_say_whether_it_is_production() -> None:
    """A balancer without logs will do anywhere else."""
    refused("dev", balancer())
    with pytest.raises(PoliciesForbidError, match="access-logs"):
        refused(PRODUCTION, balancer())


def test_what_pulumi_ran_is_judged_by_pulumi() -> None:
    """Its results hold no resources, and a project without a pack has no rules."""
    assert judge(PROJECT, "dev", {}, result()) is None
    assert judge(PROJECT / "docs", "dev", {}, result(balancer(desyncMitigationMode="monitor"))) is None


@pytest.mark.parametrize(("act", "packs"), [("preview", 1), ("up", 1), ("destroy", 0)])
def test_pulumi_is_given_the_pack(
    act: str, packs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where something may be made; the project's own, wherever the command is given."""
    said = tmp_path / "said.txt"
    pulumi = tmp_path / "pulumi"
    pulumi.write_text(f'#!/bin/sh\necho "$@" > {said}\n')
    pulumi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    getattr(PulumiCli(PROJECT, "dev"), act)(lambda _step: None)
    words = said.read_text().split()
    assert words.count("--policy-pack") == packs
    assert (str(pack_of(PROJECT)) in words) == bool(packs)
