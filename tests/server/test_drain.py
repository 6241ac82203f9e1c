"""The drain by a fake clock: what happens when, whoever asked and however often."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from server.drain import HAND_OVER_S, Drain, Phase


@dataclass(order=True)
class Call:
    at: float
    number: int
    run: Callable[[], None] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        self.cancelled = True


class FakeTime:
    """Unix seconds that pass when told, and the calls that are due meanwhile."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.calls: list[Call] = []

    def clock(self) -> float:
        return self.now

    def call_later(self, delay: float, run: Callable[[], None]) -> Call:
        call = Call(self.now + delay, len(self.calls), run)
        heapq.heappush(self.calls, call)
        return call

    def pass_to(self, at: float) -> None:
        while self.calls and self.calls[0].at <= at:
            call = heapq.heappop(self.calls)
            if not call.cancelled:
                self.now = call.at
                call.run()
        self.now = at


class Log:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def info(self, event: str, **fields: object) -> None:
        self.events.append((event, fields))

    @property
    def names(self) -> list[str]:
        return [event for event, _ in self.events]


@dataclass
class Draining:
    time: FakeTime
    log: Log
    phases: list[Phase]
    drain: Drain

    @property
    def t0(self) -> float:
        return 1_000_000.0


@pytest.fixture
def given() -> Draining:
    time, log, phases = FakeTime(), Log(), list[Phase]()
    drain = Drain(clock=time.clock, call_later=time.call_later, log=log, entered=phases.append)
    return Draining(time, log, phases, drain)


def test_a_notice_of_120_s_follows_the_drain_budget(given):
    """Accept to 36 s, refuse to 99.6 s, hand over to 110.4 s, whatever still runs."""
    drain, t0 = given.drain, given.t0
    drain.enter()
    assert drain.start("spot", t0 + 120, "imds")
    seen: list[tuple[float, Phase]] = []
    for second in (0, 35.9, 36, 99.5, 99.6, 110.3, 110.4, 130):
        given.time.pass_to(t0 + second)
        seen.append((second, drain.phase))
    assert seen == [
        (0, "accepting"),
        (35.9, "accepting"),
        (36, "refusing"),
        (99.5, "refusing"),
        (99.6, "handing_over"),
        (110.3, "handing_over"),
        (110.4, "empty"),
        (130, "empty"),
    ]
    assert given.log.names == ["drain.started", "drain.refusing", "drain.handing_over", "drain.empty"]
    assert given.log.events[2] == ("drain.handing_over", {"in_flight": 1})


def test_the_same_shares_hold_for_a_notice_of_12_s(given):
    """The phases scale with the time there is."""
    given.drain.enter()
    given.drain.start("spot", given.t0 + 12, "imds")
    given.time.pass_to(given.t0 + 3.6)
    assert given.drain.phase == "refusing"
    given.time.pass_to(given.t0 + 9.96)
    assert given.drain.phase == "handing_over"


def test_it_accepts_until_it_refuses(given):
    """New requests are served while serving and accepting, and in no later phase."""
    drain = given.drain
    drain.enter()
    accepts = [drain.accepts]
    drain.start("spot", given.t0 + 100, "imds")
    accepts.append(drain.accepts)
    for second in (30, 83, 92):
        given.time.pass_to(given.t0 + second)
        accepts.append(drain.accepts)
    assert accepts == [True, True, False, False, False]


def test_handover_is_set_only_when_it_is_time(given):
    """Streams are told to end themselves at 0.83 of the budget, not before."""
    given.drain.enter()
    given.drain.start("spot", given.t0 + 100, "imds")
    given.time.pass_to(given.t0 + 82.9)
    assert not given.drain.handover.is_set()
    given.time.pass_to(given.t0 + 83)
    assert given.drain.handover.is_set()


def test_an_idle_node_is_empty_as_soon_as_it_refuses(given):
    """Nothing in flight: no reason to wait for the deadline."""
    given.drain.start("spot", given.t0 + 100, "imds")
    given.time.pass_to(given.t0 + 29.9)
    assert given.drain.phase == "accepting"
    given.time.pass_to(given.t0 + 30)
    assert given.drain.phase == "empty"
    assert given.phases == ["accepting", "refusing", "empty"]


def test_the_last_request_out_empties_it(given):
    """While refusing, the node is empty when its last request ends; later timers change nothing."""
    with given.drain.in_flight(), given.drain.in_flight():
        given.drain.start("spot", given.t0 + 100, "imds")
        given.time.pass_to(given.t0 + 40)
    assert given.drain.phase == "empty"
    given.time.pass_to(given.t0 + 200)
    assert given.log.names.count("drain.empty") == 1
    assert not given.drain.handover.is_set()


def test_requests_that_end_while_accepting_do_not_empty_it(given):
    """An accepting node may get more work any moment."""
    given.drain.start("spot", given.t0 + 100, "imds")
    with given.drain.in_flight():
        pass
    assert given.drain.phase == "accepting"


def test_a_request_that_fails_is_counted_out(given):
    """An error or a cancellation inside a request leaves no ghost in flight."""
    with pytest.raises(KeyError), given.drain.in_flight():
        raise KeyError
    assert given.drain.running == 0


def test_the_same_notice_again_changes_nothing(given):
    """IMDS, the queue and a person may all ask: it starts once."""
    given.drain.start("spot", given.t0 + 100, "imds")
    given.time.pass_to(given.t0 + 10)
    assert not given.drain.start("spot", given.t0 + 100, "admin")
    assert given.log.names == ["drain.started"]
    assert (given.drain.reason, given.drain.source) == ("spot", "imds")


def test_a_later_notice_may_hurry_it(given):
    """An earlier deadline moves every phase forward, counted from the first notice."""
    given.drain.enter()
    given.drain.start("maintenance", given.t0 + 1000, "imds")
    given.time.pass_to(given.t0 + 10)
    assert given.drain.start("spot", given.t0 + 100, "admin")
    given.time.pass_to(given.t0 + 30)
    assert given.drain.phase == "refusing"
    given.time.pass_to(given.t0 + 92)
    assert given.drain.phase == "empty"


def test_a_later_notice_may_not_slow_it(given):
    """A deadline further away is passed over."""
    given.drain.start("spot", given.t0 + 100, "imds")
    assert not given.drain.start("scale-in", given.t0 + 500, "admin")
    assert given.drain.deadline == given.t0 + 100


def test_hurrying_past_phases_enters_them_in_order(given):
    """A deadline that makes two phases overdue enters both at once, in order."""
    given.drain.enter()
    given.drain.start("maintenance", given.t0 + 1000, "imds")
    given.time.pass_to(given.t0 + 86)
    given.drain.start("spot", given.t0 + 100, "imds")
    assert given.phases == ["accepting", "refusing", "handing_over"]


@pytest.mark.parametrize("deadline", [0.0, 999_999.0, 1_000_000.0])
def test_a_deadline_that_has_passed_still_hands_over(given, deadline):
    """Too late for a timeline: what runs gets a moment to say that it is handed over, then it is let go."""
    given.drain.enter()
    given.drain.start("spot", deadline, "imds")
    assert given.drain.phase == "handing_over"
    assert given.drain.handover.is_set()
    given.time.pass_to(given.t0 + HAND_OVER_S)
    assert given.drain.phase == "empty"


def test_a_stop_in_a_long_drain_still_hands_over(given):
    """A deadline that comes forward past every phase does not cut what it has not told."""
    given.drain.enter()
    given.drain.start("scale-in", given.t0 + 110, "imds")
    given.time.pass_to(given.t0 + 60)
    given.drain.start("stopped", given.t0 + 62, "signal")
    assert given.drain.phase == "handing_over"
    given.time.pass_to(given.t0 + 60 + HAND_OVER_S)
    assert given.drain.phase == "empty"


def test_a_persons_drain_can_be_undone(given):
    """After cancel the node serves as if nothing had been, and can drain again."""
    drain = given.drain
    drain.enter()
    drain.start("repair", given.t0 + 100, "admin")
    given.time.pass_to(given.t0 + 85)
    assert drain.cancel()
    assert (drain.phase, drain.deadline, drain.reason, drain.handover.is_set()) == (
        "serving",
        None,
        None,
        False,
    )
    given.time.pass_to(given.t0 + 200)
    assert drain.phase == "serving"
    assert drain.start("spot", given.t0 + 400, "imds")


def test_there_is_nothing_to_undo_while_serving(given):
    """Cancel says that it changed nothing."""
    assert not given.drain.cancel()
    assert given.phases == []


@pytest.mark.parametrize("sources", [("imds",), ("admin", "imds"), ("imds", "admin")])
def test_what_aws_takes_cannot_be_undone(given, sources):
    """Once the instance's own metadata said that it goes, no person brings it back."""
    for source in sources:
        given.drain.start("spot", given.t0 + 100, source)
    assert not given.drain.cancel()
    assert given.drain.phase == "accepting"


def test_the_first_refusal_is_told_once(given):
    """The report measures from the notice to the first refused request."""
    given.drain.start("spot", given.t0 + 100, "imds")
    given.drain.refused()
    given.drain.refused()
    assert given.log.names.count("drain.refused_first") == 1
