"""Which node a prompt belongs to."""

import os
import subprocess
import sys
from collections import Counter
from random import Random
from typing import Any

import pytest

from server.affinity import LOAD_MIN, Ring, key_of, load_limit
from server.upstreams import NodeSet

LONG = "You are a helpful assistant. " * 50


def chat(*contents: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content} for content in contents]}


def named(*names: str) -> dict[str, str]:
    return {name: name for name in names}


KEYS = [Random(number).getrandbits(64) for number in range(2000)]


def homes(ring: Ring[str]) -> dict[int, str]:
    return {key: next(ring.walk(key)) for key in KEYS}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"prompt": LONG + "a"}, {"prompt": LONG + "b"}),
        ({"prompt": [*range(500), 1]}, {"prompt": [*range(500), 2]}),
        (chat(LONG, "first"), chat(LONG, "first", "answer", "second")),
        (chat([{"type": "text", "text": LONG}]), chat([{"type": "text", "text": LONG}], "more")),
    ],
    ids=["text", "tokens", "chat", "parts"],
)
def test_prompts_that_begin_alike_have_one_key(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Only the beginning counts, in every form a prompt may have."""
    assert key_of(one, 1024) == key_of(other, 1024) is not None


def test_prompts_that_begin_differently_have_different_keys() -> None:
    """Also where only the roles differ, or the cut between two messages."""
    bodies = [
        {"prompt": LONG},
        {"prompt": "x" + LONG},
        chat(LONG),
        {"messages": [{"role": "system", "content": LONG}]},
        chat("You", LONG[3:]),
    ]
    assert len({key_of(body, 1024) for body in bodies}) == len(bodies)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"prompt": "short"},
        {"prompt": list(range(255))},
        {"prompt": 7},
        chat("short"),
        {"messages": [None, 3, {}]},
        {"messages": "x"},
    ],
)
def test_a_short_or_odd_prompt_goes_anywhere(body: dict[str, Any]) -> None:
    """There is nothing to gain from a short prefix, and what is odd is the engine's to refuse."""
    assert key_of(body, 1024) is None


def test_all_processes_agree() -> None:
    """Another process, with another hash seed, places every prompt on the same node."""
    code = (
        "from server.affinity import *; r = Ring({f'10.0.0.{n}:80': n for n in range(9)});"
        f"print(next(r.walk(key_of({{'prompt': {LONG!r}}}, 1024))))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_nodes_have_similar_shares() -> None:
    """No node owns much more of the ring than another."""
    counts = Counter(homes(Ring(named(*(f"10.0.0.{n}:80" for n in range(8))))).values())
    assert len(counts) == 8
    assert max(counts.values()) < 1.6 * len(KEYS) / 8


def test_a_lost_node_moves_only_its_own_prompts() -> None:
    """What other nodes hold in their caches stays where it is."""
    names = [f"10.0.0.{n}:80" for n in range(8)]
    before, after = homes(Ring(named(*names))), homes(Ring(named(*names[1:])))
    moved = {key for key in KEYS if before[key] != after[key]}
    assert moved == {key for key in KEYS if before[key] == names[0]}


def test_a_walk_meets_every_node_once() -> None:
    """Whoever is passed over, somebody is left."""
    ring = Ring(named("a", "b", "c"))
    assert sorted(ring.walk(KEYS[0])) == ["a", "b", "c"]
    assert list(Ring[str]({}).walk(KEYS[0])) == []


@pytest.mark.parametrize(("in_flight", "nodes", "limit"), [(0, 2, LOAD_MIN), (79, 10, 10), (99, 2, 63)])
def test_a_node_may_have_a_quarter_more_than_its_share(in_flight: int, nodes: int, limit: int) -> None:
    """And a few in any case."""
    assert load_limit(in_flight, nodes) == limit


def nodes_of(count: int) -> NodeSet:
    nodes = NodeSet(Random(5), lambda: 100.0, affinity=True)
    nodes.replace({f"i-{n}": (f"127.0.0.{n + 2}", 8080) for n in range(count)})
    return nodes


def test_a_prompt_stays_on_its_node_while_that_may_take_it() -> None:
    """Over its share, not ready or tried already: the next on the ring, and always the same."""
    nodes = nodes_of(4)
    key = KEYS[1]
    home = nodes.pick(frozenset(), key)
    assert home is not None
    assert {nodes.pick(frozenset(), key) for _ in range(50)} == {home}
    for _ in range(LOAD_MIN):
        nodes.begin(home)
    following = {nodes.pick(frozenset(), key) for _ in range(50)}
    assert len(following) == 1
    assert home not in following
    for _ in range(LOAD_MIN):
        nodes.end(home)
    assert nodes.pick({home}, key) in following
    nodes.suspected(home)
    assert nodes.pick(frozenset(), key) in following


def test_with_no_node_ready_a_prompt_goes_where_it_can() -> None:
    """Affinity gives way to being served."""
    nodes = nodes_of(2)
    for node in nodes.nodes:
        nodes.suspected(node)
    assert nodes.pick(frozenset(), KEYS[0]) is not None


async def test_a_gateway_sends_one_conversation_to_one_node(stage: Any) -> None:
    """With affinity on, all turns of a chat reach the node that has its beginning; other chats may not."""
    engines = [await stage.engine() for _ in range(4)]
    gateway = await stage.gateway(*(engine.address for engine in engines), affinity="prefix")
    for turn in range(12):
        body = chat(LONG, *["turn"] * turn) | {"max_tokens": 2}
        assert (await gateway.post("/v1/chat/completions", body)).status == 200
    assert sorted(len(engine.asked) for engine in engines) == [0, 0, 0, 12]
