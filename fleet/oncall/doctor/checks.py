"""From facts to findings. Pure: each check yields at least one finding, and never asks anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from fleet.oncall.doctor.causes import causes
from fleet.oncall.doctor.facts import Alarm, Facts, Rule
from fleet.oncall.doctor.finding import Finding
from fleet.oncall.doctor.fleet_checks import FLEET_CHECKS
from fleet.oncall.drains import AUTONAMED
from fleet.oncall.errors import OnCallError, bring_up, up
from fleet.oncall.snapshot import Snapshot
from fleet.stack.naming import resource_name

RULES: Final = ("interruption", "maintenance", "rebalance", "state", "termination")
"""Parts of the names of the rules that bring notices; a test compares them with the Pulumi program's."""
OF_GATEWAYS: Final = ("balancer-errors", "errors", "first-token", "lost")
OF_TIERS: Final = ("empty", "full", "never-ready", "short", "unhealthy")
ON_FALLBACK: Final = "on-fallback"
"""Of tiers that fall back to on demand."""
OF_STACK: Final = (
    "clients-notice",
    "control-failing",
    "notices-dead",
    "notices-late",
    "notices-undelivered",
)
"""Alarms; a test compares them, too."""
_LATE_S: Final = 60.0
_RUNBOOK: Final = "docs/oncall.md"
_BY_TIER: Final = ("alarms", "capacity")
_FAILED: Final = ("notice.failed", "fallback.failed")

Check = Callable[[Facts, Snapshot], Iterator[Finding]]


def examine(facts: Facts, snapshot: Snapshot) -> list[Finding]:
    """In the order in which to look: what tells of all else first."""
    of_control = [finding for check in _CHECKS for finding in check(facts, snapshot)]
    return [*of_control, *(finding for check in FLEET_CHECKS for finding in check(snapshot))]


def examine_unseen(facts: Facts, nobody: Snapshot, error: OnCallError) -> list[Finding]:
    """Where tiers and nodes cannot be looked at: nothing is called well that is told by tiers."""
    told = f"could not be looked at: {error.message}"
    fleet = Finding("fleet", "fail", told, "Nothing is known of tiers and nodes.", error.hint)
    found = [finding for check in _CHECKS for finding in check(facts, nobody)]
    return [fleet, *(one for one in found if one.level != "ok" or one.check not in _BY_TIER)]


def _untold(facts: Facts, part: str, check: str) -> Iterator[Finding]:
    if part in facts.untold:
        yield Finding(
            check,
            "warn",
            f"could not be looked at: {facts.untold[part]}",
            "Whether it is well is not known.",
            "Take a role that may read it (docs/oncall-commands.md lists the permissions).",
        )


def _credentials(facts: Facts, _: Snapshot) -> Iterator[Finding]:
    yield from _untold(facts, "who", "credentials")
    if facts.who is not None:
        yield Finding("credentials", "ok", f"{facts.who}")


def _rules(facts: Facts, snapshot: Snapshot) -> Iterator[Finding]:
    yield from _untold(facts, "rules", "rules")
    if facts.rules is None:
        return
    means = "Notices of that kind do not reach the control handler: nodes drain only by their own metadata."
    bad = False
    for part in RULES:
        prefix = f"gf-{snapshot.stack}-notices-{part}"
        rule = next((one for one in facts.rules if one.name.startswith(prefix)), None)
        problem = _problem_of_rule(rule)
        if problem:
            bad = True
            name = rule.name if rule else prefix
            do = (
                f"aws events enable-rule --name {name}"
                if rule and rule.feeds_queue
                else bring_up(snapshot.stack)
            )
            yield Finding("rules", "fail", f"the rule for {part} {problem}", means, do)
    if not bad:
        yield Finding("rules", "ok", f"{len(RULES)} rules are on and feed the notice queue")


def _problem_of_rule(rule: Rule | None) -> str | None:
    if rule is None:
        return "is missing"
    if not rule.feeds_queue:
        return "does not feed the notice queue"
    return None if rule.enabled else "is disabled"


def _queue(facts: Facts, snapshot: Snapshot) -> Iterator[Finding]:
    yield from _untold(facts, "queue", "queue")
    if facts.queue is None:
        return
    queue = facts.queue
    told = f"{queue.waiting} notices wait, {queue.in_work} are in work"
    if queue.oldest_s is not None and queue.oldest_s > _LATE_S:
        yield Finding(
            "queue",
            "fail",
            f"{told}; one waited for {queue.oldest_s:.0f} s in the last 15 minutes",
            "A notice gives 120 s: replacements come late, though nodes drain by their own metadata.",
            f"goldenfleet notices --stack {snapshot.stack} | grep notice.failed; {_RUNBOOK}#notices-late",
        )
    else:
        yield Finding("queue", "ok", told)


def _dead_letters(facts: Facts, _: Snapshot) -> Iterator[Finding]:
    yield from _untold(facts, "dead_letters", "dead letters")
    if facts.dead_letters is None:
        return
    if facts.dead_letters:
        yield Finding(
            "dead letters",
            "fail",
            f"{facts.dead_letters} notices could not be handled",
            "Each was received 100 times. Its node is gone by now; the reason may be there still.",
            f"Read them: {_RUNBOOK}#notices-dead",
        )
    else:
        yield Finding("dead letters", "ok", "none")


def _control(facts: Facts, snapshot: Snapshot) -> Iterator[Finding]:
    """The handler itself: a function on AWS, a process in a rehearsal."""
    means = "Nobody handles notices: nodes drain by their own metadata, and are replaced late."
    if facts.emulated:
        if facts.loop_runs:
            yield Finding("control", "ok", "the control loop of the rehearsal runs")
        else:
            yield Finding(
                "control", "fail", "the control loop does not run", means, "Start the rehearsal again."
            )
        return
    yield from _untold(facts, "function", "control")
    if "function" in facts.untold:
        return
    if facts.function is None:
        yield Finding("control", "fail", "there is no control function", means, bring_up(snapshot.stack))
    elif facts.function.state != "Active" or not facts.function.fed:
        state = f"it is {facts.function.state}" if facts.function.state != "Active" else "no queue feeds it"
        yield Finding(
            "control", "fail", f"the control function does not work: {state}", means, bring_up(snapshot.stack)
        )
    else:
        yield from _function(facts, snapshot)


def _function(facts: Facts, snapshot: Snapshot) -> Iterator[Finding]:
    assert facts.function is not None
    bad = {"failed": facts.function.errors, "was throttled": facts.function.throttles}
    told = ", ".join(f"{what} {count:.0f} times" for what, count in bad.items() if count)
    if told:
        yield Finding(
            "control",
            "warn",
            f"the control function {told} in the last 15 minutes",
            "SQS hands the messages out again, so that notices are late, not lost.",
            f"aws logs tail /goldenfleet/{snapshot.stack}/control --since 15m",
        )
    else:
        yield Finding("control", "ok", "the control function is active and fed by the queue")


def _history(facts: Facts, snapshot: Snapshot) -> Iterator[Finding]:
    yield from _untold(facts, "history", "history")
    if facts.history is None:
        return
    failed = [event for event in facts.history if event.event in _FAILED]
    if failed:
        last = failed[-1]
        yield Finding(
            "history",
            "warn",
            f"{len(failed)} steps failed in the last 15 minutes; the last: {last.fields.get('error', '')}",
            "Each is tried again: of a notice until it has run out, of fallback each minute.",
            f"goldenfleet notices --stack {snapshot.stack} --since 15m | grep failed",
        )
    else:
        yield Finding("history", "ok", f"{len(facts.history)} events in the last 15 minutes, no failure")


def _alarms(facts: Facts, snapshot: Snapshot) -> Iterator[Finding]:
    yield from _untold(facts, "alarms", "alarms")
    if facts.alarms is None:
        return
    own = {name: _called(name, facts.alarms) for name in _wanted(snapshot)}
    bad = [
        finding
        for name, section in _wanted(snapshot).items()
        for finding in _alarm(name, own[name], section, snapshot.stack, facts.emulated)
    ]
    bad += _mute(facts, [alarm for found in own.values() for alarm in found], snapshot.stack)
    yield from bad
    if not bad:
        note = ", which nothing evaluates in a rehearsal" if facts.emulated else ", none of them is on"
        yield Finding("alarms", "ok", f"{sum(map(len, own.values()))} alarms{note}")


def _wanted(snapshot: Snapshot) -> dict[str, str]:
    """Name of each alarm that the stack should have -> its section in the runbook."""
    parts = {part: part for part in OF_STACK}
    for tier in snapshot.tiers:
        of_it = [*OF_TIERS, *(OF_GATEWAYS if tier.role == "gateway" else ())]
        of_it += [ON_FALLBACK] if tier.configured_base is not None else []
        parts |= {f"{tier.name}-{part}": part for part in of_it}
    return {resource_name(snapshot.stack, part): section for part, section in parts.items()}


def _called(name: str, alarms: Iterable[Alarm]) -> list[Alarm]:
    """By the whole name, but for Pulumi's suffix: alarms of stack prod-eu begin as those of prod do."""
    return [alarm for alarm in alarms if AUTONAMED.fullmatch(alarm.name.removeprefix(name))]


def _alarm(name: str, found: Sequence[Alarm], section: str, stack: str, emulated: bool) -> Iterator[Finding]:
    if not found:
        yield Finding("alarms", "fail", f"{name} is missing", "Nobody will be told of it.", bring_up(stack))
    for alarm in found:
        if alarm.state == "ALARM":
            do = f"{_RUNBOOK}#{section}"
            yield Finding(
                "alarms", "fail", f"{alarm.name} is on: {alarm.reason}", "It says what is wrong.", do
            )
        elif alarm.state == "INSUFFICIENT_DATA" and not emulated and not alarm.composite:
            yield Finding(
                "alarms",
                "warn",
                f"{alarm.name} has no data",
                "Right in a stack's first minutes; later what it looks at is not measured.",
                f"aws cloudwatch describe-alarms --alarm-names {alarm.name}",
            )


def _mute(facts: Facts, own: Sequence[Alarm], stack: str) -> Iterator[Finding]:
    """An alarm on what clients notice tells nobody by itself: the composite one does."""
    composite = [alarm for alarm in own if alarm.composite]
    if composite and not any(alarm.tells for alarm in composite) and not facts.emulated:
        yield Finding(
            "alarms",
            "warn",
            f"{composite[0].name} tells nobody",
            "Clients may notice something, and no person.",
            f"Set goldenfleet:alarms.email or topicArn, and {up(stack)}",
        )


def _capacity(facts: Facts, snapshot: Snapshot) -> Iterator[Finding]:
    """Why AWS did not do what the groups wanted."""
    yield from _untold(facts, "activities", "capacity")
    if facts.activities is None:
        return
    tiers = {tier.group: tier.name for tier in snapshot.tiers}
    found = list(causes(facts.activities, tiers, snapshot.stack))
    yield from found
    if not found:
        yield Finding("capacity", "ok", "AWS refused nothing in the last hour")


_CHECKS: Final[tuple[Check, ...]] = (
    _credentials,
    _rules,
    _queue,
    _dead_letters,
    _control,
    _history,
    _alarms,
    _capacity,
)
