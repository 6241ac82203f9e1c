"""A gateway before tiers that serve different models."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest

from server.catalogue import RELEARN_S, UNNAMED, Catalogue, Listing, Unreadable, read_listing
from server.errors import ModelNotFound, NoNodeReady
from server.upstreams import Node, NodeSet

CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
Until = Callable[[Callable[[], bool]], Awaitable[None]]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Log:
    def __init__(self) -> None:
        self.events: list[str] = []

    def info(self, event: str, **fields: object) -> None:
        self.events.append(event)


class Tiers:
    """Nodes n1, n2... of tiers, each with the models that it says it serves; None says nothing."""

    def __init__(self, sources: int) -> None:
        self.said: dict[str, list[str] | None] = {}
        self.asked: list[str] = []
        self.ready = 0
        self.clock, self.log = Clock(), Log()
        self.nodes = NodeSet(Random(3), self.clock, by_model=True)
        self.catalogue = Catalogue(
            self.nodes, sources, self._ask, ready=self._is_ready, log=self.log, clock=self.clock
        )

    async def found(self, source: int, **nodes: list[str] | None) -> None:
        """Discovery finds these nodes in a tier, and all that are asked have answered."""
        self.said |= nodes
        self.catalogue.found(source, {name: ("127.0.0.1", int(name[1:])) for name in nodes})
        await asyncio.gather(*(task for task in asyncio.all_tasks() if task is not asyncio.current_task()))

    def picked(self, model: str | None) -> set[str]:
        found = (self.nodes.pick(frozenset(), model=model) for _ in range(100))
        return {node.id for node in found if node is not None}

    def listed(self) -> list[str]:
        return [item["id"] for item in self.catalogue.listing()["data"]]

    def _is_ready(self) -> None:
        self.ready += 1

    async def _ask(self, node: Node) -> Listing:
        self.asked.append(node.id)
        models = self.said[node.id]
        if models is None:
            raise Unreadable("it does not answer: ResponseLost")
        return {model: {"id": model} for model in models}


async def test_requests_go_to_nodes_of_their_model() -> None:
    """A node gets what it said it serves and nothing else; what names no model goes to the first tier."""
    tiers = Tiers(2)
    await tiers.found(0, n1=["small"], n2=["small", "code"])
    await tiers.found(1, n3=["large"])
    assert tiers.picked("small") == {"n1", "n2"}
    assert tiers.picked("code") == {"n2"}
    assert tiers.picked("large") == {"n3"}
    for nothing in (None, "tgi", 7):
        assert tiers.picked(tiers.catalogue.model_of(nothing)) == {"n1", "n2"}
    assert tiers.listed() == ["small", "code", "large"]


async def test_a_model_that_nobody_serves_is_not_found_once_every_tier_has_spoken() -> None:
    """Until then it may be the silent tier's, and its requests wait."""
    tiers = Tiers(2)
    await tiers.found(0, n1=["small"])
    assert tiers.catalogue.model_of("large") == "large"
    waiting = asyncio.create_task(tiers.nodes.wait_for_node(frozenset(), 1000.0, "large"))
    await asyncio.wait_for(_started(waiting), 5)
    tiers.said["n3"] = ["large"]
    tiers.catalogue.found(1, {"n3": ("127.0.0.1", 3)})
    assert (await asyncio.wait_for(waiting, 5)).id == "n3"
    with pytest.raises(ModelNotFound):
        tiers.catalogue.model_of("huge")


async def _started(task: asyncio.Task[Any]) -> None:
    """A turn of the loop: the task has run up to its first wait."""
    await asyncio.sleep(0)
    assert not task.done()


async def test_a_model_stays_known_while_its_tier_has_no_node() -> None:
    """A spot drought is no reason to say that a model does not exist; another image is."""
    tiers = Tiers(2)
    await tiers.found(0, n1=["small"])
    await tiers.found(1, n2=["large"])
    await tiers.found(1)
    assert tiers.catalogue.model_of("large") == "large"
    assert tiers.picked("large") == set()
    await tiers.found(1, n3=["larger"])
    assert tiers.listed() == ["small", "larger"]
    with pytest.raises(ModelNotFound):
        tiers.catalogue.model_of("large")


async def test_a_node_gets_nothing_before_it_has_spoken() -> None:
    """It is asked again at the next look, and one that has answered is not."""
    tiers = Tiers(2)
    await tiers.found(0, n1=["small"], n2=None)
    assert tiers.picked("small") == tiers.picked(UNNAMED) == {"n1"}
    await tiers.found(0, n1=["small"], n2=["small"])
    assert tiers.asked == ["n1", "n2", "n2"]
    assert tiers.picked("small") == {"n1", "n2"}
    assert tiers.log.events == ["models.learned", "models.unreadable", "models.learned"]


async def test_nodes_are_asked_again_from_time_to_time() -> None:
    """Adapters come and go while an engine runs."""
    tiers = Tiers(2)
    await tiers.found(0, n1=["small"])
    await tiers.found(0, n1=["small", "adapter"])
    assert tiers.picked("adapter") == set()
    tiers.clock.now += RELEARN_S
    await tiers.found(0, n1=["small", "adapter"])
    assert tiers.picked("adapter") == {"n1"}


async def test_a_gateway_is_ready_once_a_node_has_spoken() -> None:
    """Not when one was found, for nothing could be sent to it."""
    tiers = Tiers(2)
    await tiers.found(1, n1=None)
    assert tiers.ready == 0
    with pytest.raises(NoNodeReady):
        tiers.catalogue.listing()
    await tiers.found(1, n1=["large"])
    assert tiers.ready == 1


async def test_another_node_can_take_over_only_what_it_serves_too() -> None:
    """The only node of a model has no replacement, however many others there are."""
    tiers = Tiers(2)
    await tiers.found(0, n1=["small"], n2=["small"])
    await tiers.found(1, n3=["large"])
    can = {node.id: tiers.nodes.can_replace(node) for node in tiers.nodes.nodes}
    assert can == {"n1": True, "n2": True, "n3": False}
    alone = next(node for node in tiers.nodes.nodes if node.id == "n3")
    for _ in range(50):
        tiers.nodes.failed(alone)
    assert tiers.nodes.ejected == 0


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"data": 3}', b'{"data": [3]}', b'{"data": [{}]}'])
def test_what_is_no_list_of_models_is_unreadable(body: bytes) -> None:
    """A node that answers something else serves nothing yet."""
    with pytest.raises(Unreadable):
        read_listing(body, None)


# --- over the wire


async def _two_tiers(stage: Any, until: Until, small: list[Any], large: list[Any]) -> Any:
    for engine in large:
        engine.models = ["large"]
    for engine in small:
        engine.models = ["small"]
    nodes = ",".join("static:" + ",".join(engine.address for engine in tier) for tier in (small, large))
    gateway = await stage.gateway(nodes=nodes)
    await until(lambda: all(node.models for node in gateway.nodes.nodes) and bool(gateway.nodes.nodes))
    return gateway


@pytest.mark.parametrize("stream", [True, False])
async def test_each_model_is_answered_by_its_tier(stage: Any, until: Until, stream: bool) -> None:
    """Both tiers behind one address; TGI's routes, which name no model, are the first one's."""
    small, large = await stage.engine(), await stage.engine()
    gateway = await _two_tiers(stage, until, [small], [large])
    for model, asked, other in (("small", small, large), ("large", large, small)):
        before = len(other.asked)
        got = await gateway.post("/v1/chat/completions", CHAT | {"model": model, "stream": stream})
        assert (got.status, got.clean) == (200, True)
        assert asked.asked[-1][1]["model"] == model
        assert len(other.asked) == before
    told = await gateway.post("/generate", {"inputs": "hi"})
    assert told.status == 200
    assert (len(small.asked), len(large.asked)) == (2, 1)


async def test_models_are_those_of_all_tiers(stage: Any, until: Until) -> None:
    """The list is what the nodes said; what is on none of them is not found, and no node is asked."""
    small, large = await stage.engine(), await stage.engine()
    gateway = await _two_tiers(stage, until, [small], [large])
    listed = await gateway.ask("GET", "/v1/models")
    assert [item["id"] for item in listed.json["data"]] == ["small", "large"]
    got = await gateway.post("/v1/chat/completions", CHAT | {"model": "huge"})
    assert (got.status, got.error["code"]) == (404, "model_not_found")
    streamed = await gateway.post("/v1/chat/completions", CHAT | {"model": "huge", "stream": True})
    assert (streamed.status, streamed.error["code"]) == (404, "model_not_found")
    assert small.asked == large.asked == []


async def test_a_failed_request_stays_in_its_tier(stage: Any, plan: Any, until: Until) -> None:
    """Nodes of another tier cannot answer it, so they are not asked."""
    failing = await stage.engine(default=plan(status=500))
    other = await stage.engine()
    gateway = await _two_tiers(stage, until, [other], [failing])
    got = await gateway.post("/v1/chat/completions", CHAT | {"model": "large"})
    assert (got.status, got.error["code"]) == (502, "nodes_failed")
    assert other.asked == []


async def test_a_cut_stream_goes_on_in_its_tier(stage: Any, plan: Any, until: Until) -> None:
    """Resumed on a node of the same model, whatever other nodes are free."""
    cut = await stage.engine(default=plan(tokens=2, end="reset"))
    whole, other = await stage.engine(), await stage.engine()
    gateway = await _two_tiers(stage, until, [other], [cut, whole])
    for _ in range(8):
        got = await gateway.post("/v1/chat/completions", CHAT | {"model": "large", "stream": True})
        assert got.clean
        assert got.data[-1] == "[DONE]"
    assert gateway.events("request.resumed")
    assert other.asked == []
