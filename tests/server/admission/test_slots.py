"""Places for requests that wait for their first token, and the queue before them."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from server.admission.gradient import Bounds, Gradient
from server.admission.slots import Slot, Slots
from server.auth.principal import Priority
from server.errors import Overloaded

LOW, NORMAL, HIGH = Priority


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def make() -> Callable[..., Slots]:
    def slots(places: int = 1, waiting: int = 8, clock: Any = None, **fields: Any) -> Slots:
        gradient = Gradient(Bounds(places, places, places))
        return Slots(gradient, most_waiting=waiting, clock=clock or Clock(), rng=Random(1), **fields)

    return slots


async def queued(slots: Slots, *priorities: Priority, seconds: float = 30.0) -> list[asyncio.Task[Slot]]:
    tasks = []
    for priority in priorities:
        tasks.append(asyncio.create_task(slots.acquire(priority, seconds)))
        await asyncio.sleep(0)
    assert slots.waiting == len(priorities)
    return tasks


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_place_is_free_again_at_the_first_token(make: Any) -> None:
    """Once: the end of the stream frees nothing more."""
    slots = make(2)
    first = slots.try_acquire()
    assert slots.try_acquire() is not None
    assert slots.try_acquire() is None
    first.first_token()
    first.first_token()
    first.end()
    assert slots.in_use == 1
    assert slots.try_acquire() is not None


async def test_higher_classes_go_first_and_within_one_who_came_first(make: Any) -> None:
    """The order of arrival decides only among equals."""
    slots, order = make(), []
    held = slots.try_acquire()
    tasks = await queued(slots, LOW, NORMAL, HIGH, NORMAL, HIGH)
    for name, task in zip(("low", "normal-1", "high-1", "normal-2", "high-2"), tasks, strict=True):
        task.add_done_callback(lambda _, name=name: order.append(name))
    held.end()
    for _ in range(5):
        await settled()
        done = next(task for task in tasks if task.done())
        tasks.remove(done)
        done.result().end()
    assert order == ["high-1", "high-2", "normal-1", "normal-2", "low"]
    assert (slots.in_use, slots.waiting) == (0, 0)


async def test_nobody_jumps_the_queue(make: Any) -> None:
    """A place that is free for a moment belongs to who waits for it."""
    slots = make()
    held = slots.try_acquire()
    [waiter] = await queued(slots, LOW)
    held.end()
    assert slots.try_acquire() is None
    (await waiter).end()
    assert slots.try_acquire() is not None


async def test_who_waits_too_long_is_refused(make: Any) -> None:
    """At its deadline, with a time to come back at and leave to."""
    shed: list[Priority] = []
    slots = make(shed=shed.append)
    held = slots.try_acquire()
    with pytest.raises(Overloaded) as caught:
        await slots.acquire(NORMAL, 0.01)
    assert (caught.value.status, caught.value.should_retry) == (503, True)
    assert 1000 <= caught.value.retry_after_ms <= 2000
    assert (slots.waiting, shed) == (0, [NORMAL])
    held.end()
    assert slots.in_use == 0


async def test_a_full_queue_refuses_the_lowest_class_that_came_last(make: Any) -> None:
    """Among equals, and for the lowest, it is the newcomer."""
    shed: list[Priority] = []
    slots = make(waiting=3, shed=shed.append)
    slots.try_acquire()
    low_1, low_2, normal = await queued(slots, LOW, LOW, NORMAL)
    with pytest.raises(Overloaded):
        await slots.acquire(LOW, 30)
    high = asyncio.create_task(slots.acquire(HIGH, 30))
    await settled()
    with pytest.raises(Overloaded):
        await low_2
    assert not low_1.done()
    assert not normal.done()
    assert slots.waiting == 3
    assert shed == [LOW, LOW]
    for task in (low_1, normal, high):
        task.cancel()
    await asyncio.gather(low_1, normal, high, return_exceptions=True)
    assert slots.waiting == 0


async def test_a_queue_of_none_refuses_at_once(make: Any) -> None:
    """Size 0 is no queue."""
    slots = make(waiting=0)
    slots.try_acquire()
    with pytest.raises(Overloaded):
        await slots.acquire(HIGH, 30)


async def test_a_client_that_leaves_leaves_the_queue(make: Any) -> None:
    """Also at the very moment at which its place comes: that goes to the next."""
    slots = make()
    held = slots.try_acquire()
    gone, next_one = await queued(slots, NORMAL, NORMAL)
    held.end()
    gone.cancel()
    await settled()
    assert next_one.done()
    next_one.result().end()
    assert (slots.in_use, slots.waiting) == (0, 0)


async def test_an_answer_that_comes_whole_gives_its_place_back_after_the_usual_wait(make: Any) -> None:
    """It is taken to decode by then, as streams do; what it teaches of the wait is nothing."""
    clock = Clock()
    slots = make(1, clock=clock)
    unary = slots.try_acquire()
    slots.expire_later(unary)
    assert slots.try_acquire() is None
    unary.end()
    for _ in range(20):
        stream = slots.try_acquire()
        clock.now += 0.5
        stream.first_token()
    unary = slots.try_acquire()
    slots.expire_later(unary)
    assert slots.try_acquire() is None
    clock.now += 0.51
    assert slots.try_acquire() is not None
    unary.end()
    assert slots.in_use == 1


async def test_a_queue_behind_whole_answers_moves(make: Any) -> None:
    """Nobody else need come for a place to be handed on."""
    loop = asyncio.get_running_loop()
    slots = make(1, clock=loop.time)
    slots.gradient.sample(0.01, 1, 10.0)
    for _ in range(10):
        slots.gradient.sample(0.01, 1, 20.0)
    unary = slots.try_acquire()
    slots.expire_later(unary)
    waiting = asyncio.create_task(slots.acquire(NORMAL, 10))
    (await asyncio.wait_for(waiting, 10)).end()
    unary.end()
    assert slots.in_use == 0
