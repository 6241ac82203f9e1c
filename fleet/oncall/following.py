"""Nodes that drain, looked at again and again until each is empty or gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from fleet.oncall.aws import Aws
from fleet.oncall.errors import AwsFailed, OnCallError
from fleet.oncall.history import read_history
from fleet.oncall.nodes import Said
from fleet.oncall.outcome import NOTICE_S, Drained, Ended, Observed, judge
from fleet.oncall.snapshot import NodeView, load_nodes

DIRECT_S: Final = 0.25
BY_LAMBDA_S: Final = 2.0
# The control handler takes a request within a second or two; after so long something is wrong.
UNHEARD_S: Final = 30.0
# A node ends its work by 0.92 of its time: so long after its deadline nothing more comes.
_OVERDUE_S: Final = 20.0
_GONE_EVERY_S: Final = 2.0
_GATEWAYS_S: Final = 3.0
_LET_GO_BEFORE_S: Final = 3600.0  # a node may have gone before anybody watched
_GONE: Final = ("shutting-down", "terminated", "stopping", "stopped")


@dataclass
class Followed:
    """One node and what was seen of it so far. Times are unix seconds."""

    node: NodeView
    asked_at: float
    granted_s: float | None
    at_first: int | None
    said: Said
    drained: bool = False
    """Whether it was ever seen to drain."""
    ended: Ended | None = None
    ended_at: float = 0.0
    overdue: bool = False
    looked_for_at: float = 0.0
    last: Said = field(default_factory=lambda: Said("silent", {}))
    """What it said last that was not silence."""

    def observed(self) -> Observed:
        assert self.ended is not None
        last = self.last
        return Observed(
            instance_id=self.node.instance_id,
            tier=self.node.tier,
            role=self.node.role,
            ended=self.ended,
            seconds=self.ended_at - self.asked_at,
            at_first=self.at_first,
            left=int(last.number("in_flight") or 0),
            handed_over=int(last.number("handed_over") or 0),
            handed_over_ids=last.texts("handed_over_ids"),
            cut=int(last.number("cut") or 0),
            granted_s=self.granted_s if self.granted_s is not None else _granted(last),
            overdue=self.overdue,
            unseen=last.condition == "silent",
        )


def _granted(said: Said) -> float | None:
    began, deadline = said.number("drain_started_at"), said.number("deadline")
    return None if began is None or deadline is None else deadline - began


class Follower:
    """`asked_at`: unix seconds of the request; `granted_s` of a person's deadline, None for the usual."""

    def __init__(
        self,
        aws: Aws,
        nodes: Sequence[NodeView],
        asked_at: float,
        granted_s: float | None = None,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._aws, self._clock, self._pause = aws, clock, pause
        self._asked_at = asked_at
        self.followed = [
            Followed(node, asked_at, granted_s, node.in_flight, Said("silent", {})) for node in nodes
        ]

    @property
    def running(self) -> list[Followed]:
        return [one for one in self.followed if one.ended is None]

    def looks(self) -> Iterator[list[Followed]]:
        """After each look, all of them; ends with the last node's drain. Raises OnCallError."""
        while self.running:
            said = load_nodes(self._aws, [one.node for one in self.running])
            now = self._clock()
            for one in self.running:
                self._see(one, said.get(one.node.instance_id, Said("silent", {})), now)
            yield self.followed
            if self.running:
                direct = any(one.said.condition == "answers" for one in self.running)
                self._pause(DIRECT_S if direct or self._aws.kept else BY_LAMBDA_S)

    def results(self, gateways: Sequence[NodeView]) -> list[Drained]:
        """Once all have ended: with what gateways say of requests that were handed over."""
        wanted = {request for one in self.followed for request in one.last.texts("handed_over_ids")}
        others = [node for node in gateways if node.phase != "dead"]
        moved = self._moved(others, wanted) if wanted else {}
        observed = [one.observed() for one in self.followed]
        let_go = self._let_go() if any(seen.unseen for seen in observed) else {}
        return [judge(seen, moved, self._aws.time_scale, let_go.get(seen.instance_id)) for seen in observed]

    def _let_go(self) -> Mapping[str, str]:
        """Why the control handler let nodes go, which is all that is known of those that nobody here sees."""
        try:
            events = read_history(self._aws, max(0.0, self._asked_at - _LET_GO_BEFORE_S))
        except OnCallError as error:
            # What was seen is worth telling without it.
            return {one.node.instance_id: f"unknown, {error.message}" for one in self.followed}
        completed = [one for one in events if one.event == "hook.completed" and one.instance_id]
        return {str(one.instance_id): str(one.fields.get("reason", "")) for one in completed}

    def _moved(self, gateways: Sequence[NodeView], wanted: set[str]) -> Mapping[str, str]:
        """A gateway hears of a cut when the node does, and may take a moment to find another."""
        until, moved = self._clock() + _GATEWAYS_S, dict[str, str]()
        while gateways:
            for said in load_nodes(self._aws, gateways).values():
                moved |= said.pairs("moved")
            if wanted <= moved.keys() or self._clock() >= until:
                break
            self._pause(DIRECT_S)
        return moved

    def _see(self, one: Followed, said: Said, now: float) -> None:
        one.said = said
        if said.condition == "answers":
            one.last = said
            self._hear(one, said, now)
        elif now - one.looked_for_at >= _GONE_EVERY_S:
            one.looked_for_at = now
            if _is_gone(self._aws, one.node.instance_id):
                _end(one, "gone", now)
        if one.ended is None and now >= self._patience(one):
            _end(one, "dead" if said.condition == "dead" else "not in time", now)

    def _hear(self, one: Followed, said: Said, now: float) -> None:
        deadline = said.number("deadline")
        working = bool(said.number("in_flight"))
        # A second's grace: clocks differ, and a deadline may have passed before the node heard of it.
        one.overdue = one.overdue or (deadline is not None and working and now > deadline + 1.0)
        if said.phase == "empty":
            _end(one, "empty", now)
        elif said.phase == "serving" and one.drained:
            _end(one, "undrained", now)
        elif said.phase != "serving":
            one.drained = True
            if one.at_first is None:
                one.at_first = int(said.number("in_flight") or 0)

    def _patience(self, one: Followed) -> float:
        """Unix seconds after which nothing more is to be expected."""
        unheard = self._asked_at + UNHEARD_S
        deadline = one.last.number("deadline")
        if deadline is not None:
            return max(unheard, deadline + _OVERDUE_S)
        if one.said.condition == "silent":
            # Nobody here can ask it: it is waited for until EC2 says that it is gone.
            granted_s = NOTICE_S * self._aws.time_scale if one.granted_s is None else one.granted_s
            return unheard + granted_s + _OVERDUE_S
        return unheard


def _end(one: Followed, how: Ended, now: float) -> None:
    one.ended, one.ended_at = how, now


def _is_gone(aws: Aws, instance_id: str) -> bool:
    """As far as is known: where AWS fails just now, the next look is another chance."""
    try:
        found = aws.call("ec2.describe_instances", InstanceIds=[instance_id])["Reservations"]
    except AwsFailed as exc:
        return exc.code == "InvalidInstanceID.NotFound"
    return all(one["State"]["Name"] in _GONE for each in found for one in each["Instances"])
