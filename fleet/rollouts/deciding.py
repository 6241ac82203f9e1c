"""What a group needs to launch what is wanted: pure decisions over AWS's own structures.

A group's configuration is what its mixed-instances policy says: template, version, types, shares.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from fleet.rollouts.spelling import holds

Step = Literal["nothing", "start", "replace", "roll back"]
"""`replace` cancels what runs first; `roll back` undoes it, for the group says already what is wanted."""

RUNNING = frozenset({"Pending", "InProgress", "Baking", "Cancelling", "RollbackInProgress"})

Policy = Mapping[str, Any]


def specification(policy: Policy) -> Mapping[str, Any]:
    """The template and its version."""
    found: Mapping[str, Any] = policy.get("LaunchTemplate", {}).get("LaunchTemplateSpecification", {})
    return found


def version_of(policy: Policy) -> str:
    return str(specification(policy).get("Version", ""))


def with_version(policy: Policy, version: str) -> dict[str, Any]:
    changed = copy.deepcopy(dict(policy))
    changed["LaunchTemplate"]["LaunchTemplateSpecification"]["Version"] = version
    return changed


def with_base_kept(wanted: Policy, before: Policy | None, now: Policy) -> dict[str, Any]:
    """`wanted`, but with as many nodes on demand as control has raised them to where spot ran dry: a rollout
    must not take them back.
    """
    result = copy.deepcopy(dict(wanted))
    asked, last, there = _base(wanted), _base(before or {}), _base(now)
    if asked is not None and last is not None and there is not None and there > last:
        result["InstancesDistribution"]["OnDemandBaseCapacity"] = max(asked, there)
    return result


def _base(policy: Policy) -> int | None:
    base = policy.get("InstancesDistribution", {}).get("OnDemandBaseCapacity")
    return None if base is None else int(base)


def next_step(
    wanted: Policy, now: Policy, members: Collection[str], running: Mapping[str, Any] | None
) -> Step:
    """`now` is the group's policy, `members` the versions that its instances were launched from."""
    settled = holds(now, wanted)
    if running is None:
        return "nothing" if settled and set(members) <= {version_of(now)} else "start"
    if settled:
        return "nothing" if running["Status"] == "RollbackInProgress" else "roll back"
    towards = running.get("DesiredConfiguration", {}).get("MixedInstancesPolicy", {})
    on_its_way = running["Status"] in ("Pending", "InProgress", "Baking") and holds(towards, wanted)
    return "nothing" if on_its_way else "replace"


def by_requirements(policy: Policy) -> bool:
    """Whether AWS chooses the types. A refresh of such a group takes no desired configuration, and so has
    no way back, nor does it skip what matches ("How an instance refresh works", Limitations, user guide).
    """
    overrides: Sequence[Mapping[str, Any]] = policy.get("LaunchTemplate", {}).get("Overrides", ())
    return any("InstanceRequirements" in override for override in overrides)


def next_step_one_way(
    wanted: Policy, now: Policy, members: Collection[str], running: Mapping[str, Any] | None
) -> Step:
    """As `next_step`, where the group is changed first and its nodes follow: never `roll back`."""
    if running is not None:
        on_its_way = running["Status"] in ("Pending", "InProgress", "Baking")
        return "nothing" if on_its_way and holds(now, wanted) else "replace"
    return "nothing" if holds(now, wanted) and set(members) <= {version_of(now)} else "start"


def one_way(preferences: Mapping[str, Any]) -> dict[str, Any]:
    """`preferences` without what needs a desired configuration."""
    return {key: value for key, value in preferences.items() if key not in ("AutoRollback", "SkipMatching")}


def without_ringing(preferences: Mapping[str, Any], ringing: Collection[str]) -> dict[str, Any]:
    """`preferences` without alarms that ring already: they cannot tell a bad image from a good one, and a
    rollout may be what silences them.
    """
    alarms: Sequence[str] = preferences.get("AlarmSpecification", {}).get("Alarms", ())
    watched = [name for name in alarms if name not in ringing]
    rest = {key: value for key, value in preferences.items() if key != "AlarmSpecification"}
    return {**rest, "AlarmSpecification": {"Alarms": watched}} if watched else rest
