"""Rollouts in words, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fleet.rollouts.reading import Refresh, RolloutView


def describe(views: Sequence[RolloutView], now: float) -> str:
    """A paragraph for each tier."""
    return "\n\n".join("\n".join(_of_tier(view, now)) for view in views)


def headline(view: RolloutView) -> str:
    """In a line that changes as the rollout goes on, and only then."""
    last = view.last
    if last is None:
        return f"{view.tier}: no rollout"
    share = f" {last.percent}%" if last.running else ""
    ringing = f"; rings: {', '.join(last.ringing)}" if last.ringing else ""
    return f"{view.tier}: {last.status}{share}; {view.in_service} of {view.desired} in service{ringing}"


def _of_tier(view: RolloutView, now: float) -> Iterator[str]:
    last = view.last
    yield headline(view)
    if last is None:
        yield f"  launches {view.launches}"
        return
    if last.running:
        begun = "" if last.started_at is None else f", begun {_ago(now - last.started_at)} ago"
        yield (
            f"  to {last.target}{begun}"
            if view.one_way
            else f"  from {view.launches} to {last.target}{begun}"
        )
    elif last.status == "Successful":
        yield f"  launches {view.launches} since {_ago(now - (last.ended_at or now))} ago"
    else:
        ended = _ago(now - (last.ended_at or now))
        yield f"  launches {view.launches}, not {last.target}: it came to nothing {ended} ago"
    if last.reason:
        yield f"  {last.reason}"
    if last.rollback_reason and last.rollback_reason != last.reason:
        yield f"  {last.rollback_reason}"
    if last.running:
        yield from _going_on(view, last)
    elif last.status != "Successful":
        yield f"  Again as it was: goldenfleet rollout retry {view.tier}"


def _going_on(view: RolloutView, last: Refresh) -> Iterator[str]:
    left = "" if last.status == "RollbackInProgress" else f"; {last.left} nodes left"
    most = "" if last.most_percent is None else f", at most {last.most_percent}%"
    yield f"  at least {view.least} nodes serve ({last.least_percent}%{most}){left}"
    points = ", ".join(f"{percent}%" for percent in last.checkpoints)
    stops = f"stops at {points}, {last.checkpoint_delay_s} s each; " if points else ""
    yield f"  {stops}bakes {last.bake_s} s; {'rolls back by itself' if last.rolls_back else 'only stops'}"
    for name, state in last.alarms.items():
        yield f"  alarm {name}: {state}"


def plan_to_cancel(view: RolloutView) -> str:
    last = view.last
    assert last is not None
    if last.status == "RollbackInProgress":
        return (
            f"{view.tier}: its way back stops; nodes of both images serve, and new nodes boot {view.launches}"
        )
    return (
        f"{view.tier}: stops at {last.percent}%; nodes that are {last.target} stay so, and new nodes boot "
        f"{view.launches}"
    )


def plan_to_roll_back(view: RolloutView) -> str:
    last = view.last
    assert last is not None
    return (
        f"{view.tier}: nodes that are {last.target} are replaced by {view.launches}; at least {view.least} "
        f"of {view.desired} serve all the while"
    )


def plan_to_retry(view: RolloutView) -> str:
    last = view.last
    assert last is not None
    return f"{view.tier}: from {view.launches} to {last.target} again, which ended as {last.status}"


def _ago(seconds: float) -> str:
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole} s"
    minutes = whole // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
