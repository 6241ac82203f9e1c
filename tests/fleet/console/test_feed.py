"""The feed: one reader for all viewers, that keeps what it knew, and asks nothing for nobody."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from fleet.console.feed import SLOWEST_S, Feed, Frame, _Task
from fleet.console.losses import Losses
from fleet.console.picture import Reading
from fleet.oncall.history import NoticeEvent
from fleet.oncall.snapshot import Snapshot
from tests.fleet.console.fleets import Fleet, event, fleet_of, node

DEADLINE_S = 10.0


@dataclass
class Shown:
    """Readings instead of a page's JSON."""

    readings: list[Reading] = field(default_factory=list)

    def __call__(self, reading: Reading) -> object:
        self.readings.append(reading)
        return {"number": len(self.readings)}


@asynccontextmanager
async def watching(fleet: Fleet) -> AsyncGenerator[tuple[Feed, Shown, AsyncGenerator[Frame | None]]]:
    shown = Shown()
    feed = Feed(fleet, "prod", interval_s=0.02, render=shown, clock=time.time, monotonic=time.monotonic)
    feed.start()
    frames = feed.frames()
    try:
        yield feed, shown, frames
    finally:
        feed.close()
        await frames.aclose()


async def until(
    frames: AsyncGenerator[Frame | None], shown: Shown, holds: Callable[[Reading], Any]
) -> Reading:
    """The first reading, as frames come, of which it holds."""
    async with asyncio.timeout(DEADLINE_S):
        async for frame in frames:
            if frame is not None:
                reading = shown.readings[json.loads(frame.data)["number"] - 1]
                if holds(reading):
                    return reading
    raise AssertionError("the feed ended")


async def test_what_was_known_stays_while_aws_fails() -> None:
    """The fleet is never shown empty: the last look stays, with why and since when, until all is well."""
    fleet = fleet_of()
    async with watching(fleet) as (_, shown, frames):
        await until(frames, shown, lambda reading: reading.losses)
        fleet.down = True
        failed = await until(frames, shown, lambda reading: "fleet" in reading.failures)
        assert failed.snapshot is not None
        assert len(failed.snapshot.nodes) == 9
        assert failed.failures["fleet"].message.startswith("DescribeInstances failed")
        looks = fleet.looks
        again = await until(frames, shown, lambda _: fleet.looks > looks + 1)
        assert again.failures["fleet"].since == failed.failures["fleet"].since
        fleet.down = False
        well = await until(frames, shown, lambda reading: not reading.failures)
        assert well.snapshot is not None
        assert well.snapshot.at > failed.snapshot.at


class Broken(Fleet):
    """With a bug where lost requests are counted."""

    def losses(self, snapshot: Snapshot) -> Losses:
        raise ZeroDivisionError


class Listening(Fleet):
    """Notes from when on it is asked for history."""

    @property
    def since(self) -> list[float]:
        return [one[1] for one in self.asked]

    def history(self, since: float) -> list[NoticeEvent]:
        self.asked.append(("history", since))
        return super().history(since)


async def test_a_failure_of_one_part_leaves_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """Even a bug: it is told on the page and in the log, and the next look comes."""
    fleet = Broken(fleet_of().tiers, fleet_of().nodes)
    async with watching(fleet) as (_, shown, frames):
        reading = await until(frames, shown, lambda reading: reading.failures)
        assert "a bug of the console" in reading.failures["lost"].message
        looks = fleet.looks
        await until(frames, shown, lambda _: fleet.looks > looks + 1)
    assert "could not read lost" in caplog.text


def test_what_throttles_is_asked_less() -> None:
    """The wait doubles with each failure, up to half a minute, however long the outage."""
    task = _Task("fleet", 2.0, list)
    waits = []
    for failed in (0, 1, 2, 3, 5000):
        task.failed = failed
        waits.append(task.wait_s())
    assert waits == [2.0, 4.0, 8.0, 16.0, SLOWEST_S]


def test_a_part_that_fails_waits_longer_for_its_next_look() -> None:
    """Each time, and as long as ever once all is well."""
    fleet = fleet_of()
    feed = unhurried(fleet)
    _, snapshot, _ = feed._tasks
    dues = []
    for fleet.down in (True, True, False):
        feed._carry_out(snapshot)
        dues.append(snapshot.due)
    assert dues == [8.0, 16.0, 4.0]


def test_a_new_event_brings_a_look_at_the_fleet() -> None:
    """At once, for the picture is older than the notice; one that is known already does not."""
    fleet = fleet_of()
    feed = unhurried(fleet)
    notices, snapshot, _ = feed._tasks
    dues = []
    for happens in ((), (event("notice.seen", node(1), time.time()),), ()):
        fleet.events += happens
        feed._carry_out(snapshot)
        feed._carry_out(notices)
        dues.append(snapshot.due)
    assert dues == [4.0, 0.0, 4.0]


def unhurried(fleet: Fleet) -> Feed:
    """A feed whose thread does not run, with a look at the fleet every 4 s, at second 0."""
    return Feed(fleet, "prod", interval_s=4.0, render=Shown(), clock=time.time, monotonic=lambda: 0.0)


async def test_nobody_looks_nothing_is_asked() -> None:
    """No viewer, no call; the first one brings a look at once."""
    fleet = fleet_of()
    async with watching(fleet) as (feed, shown, frames):
        assert feed.viewers == 0
        assert fleet.looks == 0
        await until(frames, shown, lambda reading: reading.snapshot)
        assert feed.viewers == 1
        await frames.aclose()
        assert feed.viewers == 0


async def test_a_slow_viewer_skips_frames() -> None:
    """It gets the latest when it is ready; what it missed is kept nowhere."""
    fleet = fleet_of()
    async with watching(fleet) as (feed, shown, slow):
        first = await anext(slow)
        assert first is not None
        quick = feed.frames()
        await until(quick, shown, lambda _: fleet.looks > 20)
        newest = await anext(slow)
        assert newest is not None
        assert newest.number > first.number + 10
        await quick.aclose()


async def test_viewers_share_one_reader() -> None:
    """Twenty pages cost AWS what one costs, and see the same frames."""
    fleet = fleet_of()
    async with watching(fleet) as (feed, shown, _):
        pages = [feed.frames() for _ in range(20)]
        await asyncio.gather(*(until(page, shown, lambda reading: reading.snapshot) for page in pages))
        assert feed.viewers == 20
        assert fleet.looks < 20
        for page in pages:
            await page.aclose()


async def test_an_event_is_shown_once() -> None:
    """CloudWatch Logs gives events again, late and out of order; each has one number, and numbers rise."""
    fleet = fleet_of()
    now = time.time()
    late, early = event("notice.seen", node(1), now - 1), event("notice.seen", node(2), now - 5)
    async with watching(fleet) as (_, shown, frames):
        fleet.events = [late]
        await until(frames, shown, lambda reading: reading.entries)
        fleet.events = [early, late, late]
        reading = await until(frames, shown, lambda reading: len(reading.entries) > 1)
        await until(frames, shown, lambda _: fleet.looks > 10)
        assert [(entry.number, entry.event) for entry in reading.entries] == [(1, late), (2, early)]
        assert len(shown.readings[-1].entries) == 2


async def test_a_storm_is_shown_once() -> None:
    """However many events a minute has: the log gives all of them again with each look."""
    fleet, now = fleet_of(), time.time()
    fleet.events = [event("drain.requested", node(i), now, number=i) for i in range(5000)]
    async with watching(fleet) as (_, shown, frames):
        first = await until(frames, shown, lambda reading: reading.entries)
        again = await until(frames, shown, lambda _: fleet.looks > 3)
    assert first.entries[-1].number == again.entries[-1].number == 5000


async def test_a_quiet_day_is_not_read_again_and_again() -> None:
    """Each look at the log begins where the last one was, and a little before."""
    fleet = Listening(fleet_of().tiers, fleet_of().nodes)
    async with watching(fleet) as (_, shown, frames):
        await until(frames, shown, lambda _: len(fleet.since) > 2)
    first, second, *_ = fleet.since
    assert first <= time.time() - 3600
    assert time.time() - 75 < second


async def test_what_cannot_be_shown_does_not_end_the_feed(caplog: pytest.LogCaptureFixture) -> None:
    """The page keeps its last picture, the log has why, and the next look is shown."""
    fleet, failures = fleet_of(), iter([True, True])

    def render(reading: Reading) -> object:
        if reading.snapshot and next(failures, False):
            raise KeyError("moon")
        return {"looks": fleet.looks}

    feed = Feed(fleet, "prod", interval_s=0.02, render=render, clock=time.time, monotonic=time.monotonic)
    feed.start()
    async with asyncio.timeout(DEADLINE_S), aclosing(feed.frames()) as frames:
        async for frame in frames:
            if frame and json.loads(frame.data)["looks"]:
                break
    feed.close()
    assert "could not show" in caplog.text


async def test_closing_ends_every_viewer() -> None:
    """A console that stops leaves no stream open, and no reader."""
    async with watching(fleet_of()) as (feed, _, frames):
        await anext(frames)
        feed.close()
        async with asyncio.timeout(DEADLINE_S):
            assert [frame async for frame in frames if frame is None] == []
        await asyncio.to_thread(feed._thread.join, DEADLINE_S)
        assert not feed._thread.is_alive()
