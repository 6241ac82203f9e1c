from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from fleet.policy import kinds
from fleet.policy.evaluate import Evaluation, Violation
from fleet.rehearsal.engine import Declared
from fleet.rehearsal.engine.values import HIDDEN
from fleet.rehearsal.errors import PolicyViolatedError
from fleet.rehearsal.policies import judge, told
from fleet.rehearsal.report import Facts, Policies, make_report
from fleet.rehearsal.resources import UNKNOWN
from fleet.rehearsal.words import describe

TAGS = {"goldenfleet:stack": "test", "goldenfleet:tier": "shared"}
NOTHING = Facts([], {}, [], [], [], 0.0, 60.0, 0.0, 75.0, {}, {})


def declared(
    kind: str, name: str = "it", refs: Mapping[str, list[str]] | None = None, **inputs: Any
) -> Declared:
    return Declared(kind, name, f"urn:{name}", {"tags": TAGS, **inputs}, refs or {})


def test_a_mandatory_violation_ends_the_rehearsal() -> None:
    """With the rule, the resource, what is wrong and what to do."""
    with pytest.raises(PolicyViolatedError) as raised:
        judge([declared(kinds.LOG_GROUP, "logs")], production=False)
    assert "mandatory policies are violated 1 times" in raised.value.message
    assert "log-retention (mandatory): logs: retentionInDays is not set" in raised.value.message
    assert "docs/policy.md" in raised.value.hint


def test_many_violations_are_told_in_part() -> None:
    """The first ten, and how many more there are."""
    groups = [declared(kinds.LOG_GROUP, f"logs-{number}") for number in range(13)]
    with pytest.raises(PolicyViolatedError) as raised:
        judge(groups, production=False)
    assert len(raised.value.message.splitlines()) == 12
    assert raised.value.message.endswith("and 3 more")


def test_an_advisory_violation_is_only_told() -> None:
    """In the evaluation, which the report has."""
    balancer = declared(
        kinds.BALANCER,
        dropInvalidHeaderFields=True,
        desyncMitigationMode="strictest",
        enableDeletionProtection=True,
        accessLogs={"enabled": True},
    )
    evaluation = judge([balancer], production=True)
    assert [violation.rule for violation in evaluation.advisory] == ["web-firewall"]
    assert "1 advisory violations" in told(evaluation)


@pytest.mark.parametrize("value", [UNKNOWN, HIDDEN])
def test_what_nobody_knows_is_left_open(value: object) -> None:
    """What AWS has yet to say, and secrets, which the engine hides."""
    evaluation = judge([declared(kinds.LOG_GROUP, retentionInDays=value)], production=False)
    assert evaluation.undecided == ("log-retention",)
    assert "1 of them not until AWS has answered" in told(evaluation)


def test_resources_are_known_by_what_their_arguments_come_from() -> None:
    """Before there is an id to compare."""
    inputs = {"sqsManagedSseEnabled": True, "redrivePolicy": UNKNOWN}
    work = declared(kinds.QUEUE, "work", {"redrivePolicy": ["urn:dead"]}, **inputs)
    dead = declared(kinds.QUEUE, "dead", sqsManagedSseEnabled=True)
    with pytest.raises(PolicyViolatedError) as raised:
        judge([work, dead], production=False)
    assert "dead-letters" not in raised.value.message
    assert "queues-tls-only" in raised.value.message


def test_the_report_tells_how_the_stack_stood() -> None:
    """Rules that were evaluated and violations, for programs and for people."""
    violation = Violation("spot-types", "advisory", "urn:it", "it", "it has 2. Add types.")
    report = make_report(Facts(**{**vars(NOTHING), "policies": Evaluation(44, (violation,), ())}))
    assert report.policies == Policies(44, ("spot-types (advisory): it: it has 2. Add types.",))
    assert report.as_json()["policies"]["rules"] == 44
    assert "44 rules, 1 advisory violations" in describe(report)
    assert "spot-types (advisory): it: it has 2. Add types." in describe(report)
