from __future__ import annotations

from pathlib import Path

import pytest

from fleet.deploy.judging import judge, pack_of
from fleet.deploy.pulumi_cli import PulumiCli
from fleet.policy import kinds
from fleet.rehearsal.engine import Declared, Result
from fleet.rehearsal.errors import PolicyViolatedError

PROJECT = Path(__file__).parents[3]
PRODUCTION = "prod"


def result(*declared: Declared) -> Result:
    return Result((), {}, 0.0, declared)


def balancer(**inputs: object) -> Declared:
    tags = {"goldenfleet:stack": "test", "goldenfleet:tier": "shared"}
    safe = {"dropInvalidHeaderFields": True, "desyncMitigationMode": "strictest", "internal": True}
    return Declared(kinds.BALANCER, "lb", "urn:lb", {"tags": tags, **safe, **inputs}, {})


def test_a_violation_refuses_what_was_previewed() -> None:
    """By the rule's name and remedy."""
    with pytest.raises(PolicyViolatedError, match="desync-strictest"):
        judge(PROJECT, "dev", {}, result(balancer(desyncMitigationMode="monitor")))


def test_the_stacks_own_settings_say_whether_it_is_production() -> None:
    """A balancer without logs will do anywhere else."""
    assert judge(PROJECT, "dev", {}, result(balancer()))
    with pytest.raises(PolicyViolatedError, match="access-logs"):
        judge(PROJECT, PRODUCTION, {}, result(balancer()))


def test_what_pulumi_ran_is_judged_by_pulumi() -> None:
    """Its results hold no resources, and a project without a pack has no rules."""
    assert judge(PROJECT, "dev", {}, result()) == []
    assert judge(PROJECT / "docs", "dev", {}, result(balancer(desyncMitigationMode="monitor"))) == []


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
