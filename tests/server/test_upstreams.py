"""Which node a gateway sends to."""

import asyncio
from random import Random

import pytest

from server.errors import NoNodeReady
from server.upstreams import DOWN_S, EJECT_AFTER, EJECT_S, LEAVING_S, QUIET_S, SUSPECT_S, Node, NodeSet


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def nodes_of(count: int, clock: Clock) -> NodeSet:
    nodes = NodeSet(Random(5), clock)
    nodes.replace({f"i-{n}": (f"127.0.0.{n + 2}", 8080) for n in range(count)})
    return nodes


def picked(nodes: NodeSet, times: int = 200) -> set[Node]:
    return {node for _ in range(times) if (node := nodes.pick(frozenset())) is not None}


def test_the_less_busy_of_two_is_picked(clock: Clock) -> None:
    """The busiest node is picked only when chance offers no other."""
    nodes = nodes_of(3, clock)
    busiest = nodes.nodes[0]
    busiest.in_flight = 9
    assert picked(nodes) == set(nodes.nodes) - {busiest}


def test_a_node_that_was_tried_is_not_picked(clock: Clock) -> None:
    """Whatever its load, a request does not meet the same node twice."""
    nodes = nodes_of(3, clock)
    tried = set(nodes.nodes[:2])
    assert nodes.pick(tried) is nodes.nodes[2]
    assert nodes.pick(set(nodes.nodes)) is None


def fail(nodes: NodeSet, node: Node, times: int = EJECT_AFTER) -> None:
    for _ in range(times):
        nodes.failed(node)


def test_failures_in_a_row_eject_a_node_for_longer_each_time(clock: Clock) -> None:
    """Five failures eject for 30 s, the next five for 60 s; a success in between starts anew."""
    nodes = nodes_of(4, clock)
    node = nodes.nodes[0]
    for n in (1, 2):
        fail(nodes, node)
        assert node not in picked(nodes)
        clock.now += EJECT_S * n - 0.1
        assert node not in picked(nodes)
        clock.now += 0.2
        assert node in picked(nodes)
    nodes.succeeded(node)
    fail(nodes, node)
    clock.now += EJECT_S + 0.1
    assert node in picked(nodes)


def test_a_success_forgives_failures(clock: Clock) -> None:
    """Only failures in a row count."""
    nodes = nodes_of(2, clock)
    node = nodes.nodes[0]
    fail(nodes, node, EJECT_AFTER - 1)
    nodes.succeeded(node)
    fail(nodes, node, EJECT_AFTER - 1)
    assert node in picked(nodes)


@pytest.mark.parametrize(("count", "left"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_at_most_half_are_ejected_and_never_the_last(clock: Clock, count: int, left: int) -> None:
    """However sick the fleet looks, somebody is asked."""
    nodes = nodes_of(count, clock)
    for node in nodes.nodes:
        fail(nodes, node)
    assert len(picked(nodes)) == left


def test_a_suspect_is_asked_only_when_nobody_else_is_there(clock: Clock) -> None:
    """A node that cut a request rests for a moment, unless it is the only one."""
    nodes = nodes_of(2, clock)
    suspect, other = nodes.nodes
    nodes.suspected(suspect)
    assert picked(nodes) == {other}
    assert nodes.pick({other}) is suspect
    clock.now += SUSPECT_S
    assert picked(nodes) == {suspect, other}


def test_a_node_that_refuses_connections_is_left_alone_for_longer_each_time(clock: Clock) -> None:
    """Nobody waits for a connection that will not come; after an answer all is forgotten."""
    nodes = nodes_of(2, clock)
    down, other = nodes.nodes
    for wait_s in (DOWN_S, DOWN_S * 2, DOWN_S * 4):
        nodes.refused_connection(down)
        clock.now += wait_s - 0.01
        assert nodes.pick({other}) is None
        clock.now += 0.02
        assert nodes.pick({other}) is down
    nodes.answered(down)
    nodes.refused_connection(down)
    clock.now += DOWN_S
    assert nodes.pick({other}) is down


def test_a_node_that_may_be_gone_is_tried_by_one_request_at_a_time(clock: Clock) -> None:
    """Until it answers, a lost node cannot take a second request with it while others are there."""
    nodes = nodes_of(2, clock)
    lost, other = nodes.nodes
    nodes.suspected(lost)
    clock.now += SUSPECT_S
    assert lost in picked(nodes)
    with nodes.sending(lost):
        other.in_flight = 9
        assert picked(nodes) == {other}
        nodes.answered(lost)
        assert lost in picked(nodes)


def test_a_draining_node_is_the_last_resort_until_it_refuses(clock: Clock) -> None:
    """While it accepts, a draining node is better than none; once it refuses, it is not asked."""
    nodes = nodes_of(2, clock)
    leaving, other = nodes.nodes
    nodes.drains(leaving, refuses=False)
    assert picked(nodes) == {other}
    assert nodes.pick({other}) is leaving
    nodes.drains(leaving, refuses=True)
    assert nodes.pick({other}) is None
    clock.now += LEAVING_S
    assert nodes.pick({other}) is leaving


def test_a_silent_node_gets_nothing_until_it_answers(clock: Clock) -> None:
    """Not even as the last resort, nor by time alone; then one request at a time, until one is answered."""
    nodes = nodes_of(2, clock)
    silent, other = nodes.nodes
    nodes.silenced(silent)
    clock.now += 1e6
    assert nodes.counts()["silent"] == 1
    assert nodes.pick({other}) is None
    nodes.lives(silent)
    assert nodes.pick({other}) is silent
    with nodes.sending(silent):
        other.in_flight = 9
        assert picked(nodes) == {other}
        nodes.answered(silent)
        assert silent in picked(nodes)


def test_a_quiet_node_is_asked_last_for_a_moment(clock: Clock) -> None:
    """It lives and says nothing to anybody: new work goes elsewhere while there is an elsewhere."""
    nodes = nodes_of(2, clock)
    quiet, other = nodes.nodes
    nodes.quiet(quiet)
    assert picked(nodes) == {other}
    assert not nodes.has_ready({other})
    clock.now += QUIET_S
    assert picked(nodes) == {quiet, other}
    assert nodes.has_ready({other})


async def test_a_waiter_is_woken_by_a_silent_node_that_answers(clock: Clock) -> None:
    """A held request need not wait for its deadline, nor for the next look of discovery."""
    nodes = nodes_of(1, clock)
    [silent] = nodes.nodes
    nodes.silenced(silent)
    waiting = asyncio.create_task(nodes.wait_for_node(frozenset(), 1000.0))
    await asyncio.sleep(0)
    nodes.lives(silent)
    async with asyncio.timeout(5):
        assert await waiting is silent


def test_what_is_known_of_a_node_survives_discovery(clock: Clock) -> None:
    """A node that stays keeps its state; one with its address and another id is new."""
    nodes = nodes_of(2, clock)
    stays, goes = nodes.nodes
    nodes.drains(stays, refuses=True)
    nodes.replace({stays.id: stays.address, "i-new": goes.address})
    assert stays in nodes.nodes
    assert goes not in nodes.nodes
    assert nodes.counts()["refusing"] == 1
    assert len(nodes.nodes) == 2


async def test_a_waiter_gets_the_node_that_comes(clock: Clock) -> None:
    """A held request is woken by discovery."""
    nodes = nodes_of(0, clock)
    waiting = asyncio.create_task(nodes.wait_for_node(frozenset(), 1000.0))
    await asyncio.sleep(0)
    nodes.replace({"i-1": ("127.0.0.2", 8080)})
    async with asyncio.timeout(5):
        assert (await waiting).id == "i-1"


async def test_a_waiter_gives_up_at_its_deadline(clock: Clock) -> None:
    """With no time left the request is refused, and may be sent again."""
    with pytest.raises(NoNodeReady) as refused:
        await nodes_of(0, clock).wait_for_node(frozenset(), 0.0)
    assert refused.value.should_retry
