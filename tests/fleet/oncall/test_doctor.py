"""What a doctor makes of facts: each thing that can be wrong, and that nothing is wrong with a good stack."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

import fleet
from fleet.oncall.doctor import Facts, diagnose, examine
from fleet.oncall.doctor.checks import OF_GATEWAYS, OF_STACK, OF_TIERS, ON_FALLBACK, RULES
from fleet.oncall.doctor.facts import Activity, Alarm, Function, Queue, Rule
from fleet.oncall.history import NoticeEvent
from fleet.stack.notices import patterns
from fleet.stack.observability_alarms import alarms as plans
from fleet.stack.observability_names import StackNames, TierNames
from fleet.stack.settings import load_settings

NOW = 1_700_000_000.0


def alarms() -> list[Alarm]:
    parts = [
        *OF_STACK,
        *(f"{tier}-{part}" for tier in ("gateway", "model") for part in (*OF_TIERS, ON_FALLBACK)),
    ]
    parts += [f"gateway-{part}" for part in OF_GATEWAYS]
    return [Alarm(f"gf-prod-{part}", "OK", "", True, part == "clients-notice") for part in parts]


@pytest.fixture
def well() -> Facts:
    return Facts(
        who="arn:aws:iam::1:user/me",
        rules=[Rule(f"gf-prod-notices-{part}-1a2b3c4", True, True) for part in RULES],
        queue=Queue(0, 2, 3.0),
        dead_letters=0,
        function=Function("Active", True, 0, 0),
        history=[],
        alarms=alarms(),
        activities=[Activity("gf-prod-model-1a2b3c4", NOW, "Successful", "")],
    )


def wrong(facts, snapshot):
    return [(one.check, one.level) for one in examine(facts, snapshot) if one.level != "ok"]


def test_nothing_is_wrong_with_a_good_stack(well, make_snapshot):
    """Each check says so, once."""
    found = examine(well, make_snapshot())
    assert {one.level for one in found} == {"ok"}
    assert len({one.check for one in found}) == len(found) == 14


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"rules": []}, [("rules", "fail")] * len(RULES)),
        ({"queue": Queue(9, 0, 61.0)}, [("queue", "fail")]),
        ({"dead_letters": 1}, [("dead letters", "fail")]),
        ({"function": None}, [("control", "fail")]),
        ({"function": Function("Failed", True, 0, 0)}, [("control", "fail")]),
        ({"function": Function("Active", False, 0, 0)}, [("control", "fail")]),
        ({"function": Function("Active", True, 3, 1)}, [("control", "warn")]),
        ({"emulated": True, "loop_runs": False}, [("control", "fail")]),
        ({"alarms": alarms()[1:]}, [("alarms", "fail")]),
        (
            {"history": [NoticeEvent(NOW, "notice.failed", "i-1", None, {"error": "x"})]},
            [("history", "warn")],
        ),
        (
            {"history": [NoticeEvent(NOW, "fallback.failed", None, "model", {"error": "AccessDenied"})]},
            [("history", "warn")],
        ),
    ],
)
def test_each_part_of_control_can_be_wrong(well, make_snapshot, fields, found):
    """And is told once, by its name."""
    assert wrong(replace(well, **fields), make_snapshot()) == found


@pytest.mark.parametrize(
    "part", ["rules", "queue", "dead_letters", "function", "history", "alarms", "activities"]
)
def test_what_may_not_be_looked_at_is_a_warning(well, make_snapshot, part):
    """The rest is looked at all the same, and what is not known is not called well."""
    facts = replace(well, **{part: None}, untold={part: "not allowed"})
    [finding] = [one for one in examine(facts, make_snapshot()) if one.level != "ok"]
    assert finding.level == "warn"
    assert "not allowed" in finding.what


def test_a_fleet_that_may_not_be_looked_at_is_a_failure(aws, monkeypatch):
    """One call that a role lacks, or that throttles, hides nothing else; what is not known is not well."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    aws.refuses("AccessDenied")
    found = diagnose(aws.access(kept=False))
    assert [one.check for one in found if one.level == "fail"] == ["fleet"]
    assert "not allowed: " in found[0].what
    assert {one.level for one in found[1:]} == {"warn"}
    parts = ["fleet", "credentials", "rules", "queue", "dead letters", "control", "history", "alarms"]
    assert [one.check for one in found] == parts


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (Rule("gf-prod-notices-state-1", False, True), "aws events enable-rule"),
        (Rule("gf-prod-notices-state-1", True, False), "goldenfleet up --stack prod --engine pulumi"),
    ],
)
def test_a_rule_that_brings_nothing(well, make_snapshot, rule, told):
    """Disabled by somebody, or without its target: each has its remedy."""
    rules = [one for one in well.rules if "-state-" not in one.name]
    [finding] = [
        one for one in examine(replace(well, rules=[*rules, rule]), make_snapshot()) if one.level != "ok"
    ]
    assert told in finding.do


def test_no_remedy_goes_round_the_policies(well, make_snapshot):
    """What the program makes is made by our own command, for this stack: Pulumi's own asks no policy."""
    gone = Activity("gf-prod-model-1a2b3c4", NOW, "Failed", "InvalidAMIID.NotFound")
    bare = replace(well, rules=[], function=None, alarms=[], activities=[gone])
    mute = replace(well, alarms=[replace(one, tells=False) for one in well.alarms])
    remedies = [one.do for facts in (bare, mute) for one in examine(facts, make_snapshot())]
    assert not [do for do in remedies if "pulumi up" in do]
    own = [do for do in remedies if "goldenfleet up --stack prod --engine pulumi" in do]
    assert len(own) == len(RULES) + 1 + len(well.alarms) + 1 + 1


def test_an_alarm_that_is_on_leads_to_the_runbook(well, make_snapshot):
    """To the section of that name, and the reason that CloudWatch gives is told."""
    on = [
        replace(one, state="ALARM", reason="3 > 1") if "model-short" in one.name else one
        for one in well.alarms
    ]
    [finding] = [one for one in examine(replace(well, alarms=on), make_snapshot()) if one.level != "ok"]
    assert finding.do == "docs/oncall.md#short"
    assert "3 > 1" in finding.what


def test_another_stack_s_alarms_are_not_this_one_s(well, make_snapshot):
    """Those of prod-eu begin with gf-prod-, too: neither do they ring here, nor stand in for one that is
    missing."""
    others = [
        replace(one, name=f"gf-prod-eu-{one.name.removeprefix('gf-prod-')}-1a2b3c4", state="ALARM")
        for one in well.alarms
    ]
    assert wrong(replace(well, alarms=[*well.alarms, *others]), make_snapshot()) == []
    told = examine(replace(well, alarms=others), make_snapshot())
    assert {one.what.rpartition(" ")[2] for one in told if one.check == "alarms"} == {"missing"}


def test_alarms_without_data_or_destination_are_warned_of(well, make_snapshot):
    """But in a rehearsal, where nothing evaluates them."""
    mute = [replace(one, state="INSUFFICIENT_DATA", tells=False) for one in well.alarms]
    facts = replace(well, alarms=mute)
    levels = {level for check, level in wrong(facts, make_snapshot()) if check == "alarms"}
    assert levels == {"warn"}
    assert wrong(replace(facts, emulated=True, loop_runs=True), make_snapshot()) == []


@pytest.mark.parametrize(
    ("message", "level", "told"),
    [
        ("You have requested more vCPU capacity than your current vCPU limit", "fail", "service-quotas"),
        ("VcpuLimitExceeded", "fail", "service-quotas"),
        ("UnfulfillableCapacity - Unable to fulfill capacity", "warn", "instance types"),
        ("The image id '[ami-1]' does not exist", "fail", "goldenfleet up --stack prod --engine pulumi"),
        ("Client.InvalidKMSKey.InvalidState", "fail", "key"),
        ("something new", "warn", "docs/oncall.md#short"),
    ],
)
def test_what_aws_refused_is_explained(well, make_snapshot, message, level, told):
    """By its own words, with what to do; one finding however often it failed."""
    failed = [Activity("gf-prod-model-1a2b3c4", NOW + number, "Failed", message) for number in range(3)]
    [finding] = [
        one for one in examine(replace(well, activities=failed), make_snapshot()) if one.level != "ok"
    ]
    assert finding.level == level
    assert told.lower() in finding.do.lower()
    assert finding.what.startswith("model: 3 launches")


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"in_service": 1}, ("sizes", "warn")),
        ({"in_service": 0}, ("sizes", "fail")),
        ({"desired": 4, "in_service": 4}, ("sizes", "warn")),
        ({"suspended": ("Launch",)}, ("processes", "fail")),
        ({"on_demand_base": 2}, ("fallback", "warn")),
        ({"channel_image_id": "ami-2"}, ("images", "warn")),
        ({"image_id": ""}, ("images", "warn")),
    ],
)
def test_each_part_of_a_tier_can_be_wrong(well, make_snapshot, make_tier, fields, found):
    """Short, at its max, suspended, fallen back, or with an old image."""
    tiers = (make_tier("gateway"), make_tier("model", **fields))
    assert wrong(well, make_snapshot(tiers=tiers)) == [found]


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"phase": "dead"}, ("nodes", "fail")),
        ({"target_state": "unhealthy"}, ("nodes", "fail")),
        ({"lifecycle_state": "Pending:Wait", "phase": None}, ("nodes", "fail")),
        ({"lifecycle_state": "Standby"}, ("nodes", "warn")),
        ({"stale": True}, ("images", "warn")),
        ({"phase": None}, ("reach", "warn")),
    ],
)
def test_each_node_can_be_wrong(well, make_snapshot, make_node, fields, found):
    """Dead, unhealthy, an hour in its boot, forgotten in standby, old, or out of reach."""
    assert wrong(well, make_snapshot((make_node(**fields),))) == [found]


def test_one_node_of_many_that_is_silent_is_worse_than_all(well, make_snapshot, make_node):
    """All are silent from a laptop; one alone hangs."""
    nodes = (make_node(), make_node("i-02", phase=None))
    assert wrong(well, make_snapshot(nodes)) == [("reach", "fail")]


def test_names_are_those_of_the_program():
    """Rules and alarms that the doctor misses are the ones that the Pulumi program makes."""
    names = StackNames[str]("prod", tuple(map(tier_names, ("gateway", "model"))), "q", "d", control="c")
    settings = load_settings(Path(fleet.__file__).parent.parent, "prod", {})
    made = {plan.part_of_stack for plan in plans(settings, names, {"gateway": "gateway", "model": "model"})}
    wanted = {f"{tier}-{part}" for tier in ("gateway", "model") for part in (*OF_TIERS, ON_FALLBACK)}
    assert made | {"clients-notice"} == {*wanted, *(f"gateway-{part}" for part in OF_GATEWAYS), *OF_STACK}
    assert sorted(patterns("prod", ["model"])) == sorted(RULES)


def tier_names(tier: str) -> TierNames[str]:
    role: Literal["gateway", "model"] = "gateway" if tier == "gateway" else "model"
    return TierNames(tier, role, "group", "balancer", "targets")
