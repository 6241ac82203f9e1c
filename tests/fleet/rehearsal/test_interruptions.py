from __future__ import annotations

from dataclasses import replace

import pytest

from fleet.rehearsal.cloud import InstanceView
from fleet.rehearsal.errors import ImpossibleError, UnknownInterruptionError
from fleet.rehearsal.interruptions import (
    Step,
    Tiers,
    check_possible,
    choose_storm,
    choose_victim,
    follow,
    leaving,
    over,
    parse,
)
from fleet.rehearsal.report import Interruption

NODE = InstanceView(
    instance_id="i-0",
    tier="model",
    address="127.0.16.4",
    availability_zone="us-east-1a",
    instance_type="c7i.large",
    purchase_option="spot",
    state="running",
    lifecycle_state="InService",
    target_state="healthy",
    launched_at=0.0,
    running_at=0.0,
    terminated_at=None,
    image_id="ami-1",
    user_data="",
    group="models",
    subnet_id="subnet-1",
    tags={},
    metadata_endpoint="http://127.0.16.4:1338",
    hourly_price=0.1,
    noticed_at=None,
    taken_at=None,
)


def node(name: str, **changes: object) -> InstanceView:
    return replace(NODE, instance_id=name, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    ["spot", "spot:", "spot:engine", "reboot:model", "storm:model", "spot:model;kill:model"],
)
def test_unknown(text: str) -> None:
    """What is no interruption is refused, with the ones that there are."""
    with pytest.raises(UnknownInterruptionError, match="KIND:TIER"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("default", ["spot:model", "spot:gateway", "kill:model", "scale-in:model"]),
        ("storm", ["storm"]),
        ("none", []),
        ("kill:gateway", ["kill:gateway"]),
        ("spot:model, storm,scale-in:gateway", ["spot:model", "storm", "scale-in:gateway"]),
    ],
)
def test_parse(text: str, steps: list[str]) -> None:
    """Names stand for sequences; a list is taken in its order."""
    assert [str(step) for step in parse(text)] == steps


def test_a_role_stands_for_a_tier() -> None:
    """Sequences name roles: the gateways, and the first model tier; a tier's own name goes first."""
    tiers = Tiers("front", ("small", "large"))
    assert [step.tier for step in parse("default", tiers)] == ["small", "front", "small", "small"]
    assert [step.tier for step in parse("kill:large,spot:front", tiers)] == ["large", "front"]
    assert parse("spot:model", Tiers("gateway", ("first", "model")))[0].tier == "model"
    with pytest.raises(ImpossibleError, match="--models 3"):
        check_possible(parse("scale-in:large", tiers), {"front": 2, "small": 3, "large": 2}, {}, tiers)


@pytest.mark.parametrize(
    ("text", "gateways", "models", "words"),
    [
        ("scale-in:model", (2, 1), (2, 1), "--models 3"),
        ("scale-in:model,scale-in:model", (2, 1), (3, 2), "--models 4"),
        ("scale-in:gateway", (1, 0), (3, 2), "--gateways 2"),
        ("spot:gateway", (1, 0), (3, 2), "--gateways 2"),
        ("storm", (1, 0), (1, 0), "no tier has one"),
    ],
)
def test_impossible(text: str, gateways: tuple[int, int], models: tuple[int, int], words: str) -> None:
    """A fleet too small for an interruption is refused beforehand, and told what would do."""
    sizes = {"gateway": gateways[0], "model": models[0]}
    spot = {"gateway": gateways[1], "model": models[1]}
    with pytest.raises(ImpossibleError) as caught:
        check_possible(parse(text), sizes, spot)
    assert words in str(caught.value)


def test_possible() -> None:
    """The default fleet bears the default sequence and a storm."""
    for text in ("default", "storm", "none"):
        check_possible(parse(text), {"gateway": 2, "model": 3}, {"gateway": 1, "model": 2})


def test_most_at_stake() -> None:
    """The node with the most requests in flight is taken."""
    nodes = [node("i-1"), node("i-2"), node("i-3")]
    assert choose_victim(nodes, Step("kill", "model"), {"i-1": 2, "i-2": 5}).instance_id == "i-2"


def test_a_spot_notice_finds_the_virtual_machine_first() -> None:
    """The node from a baked image goes by the first spot notice, and is killed like any other."""
    nodes = [node("i-1"), node("i-2")]
    busy = {"i-1": 9, "i-2": 1}
    assert choose_victim(nodes, Step("spot", "model"), busy, "i-2").instance_id == "i-2"
    assert choose_victim(nodes, Step("kill", "model"), busy, "i-2").instance_id == "i-1"


def test_only_spot_gets_notices() -> None:
    """An on-demand node never gets a spot notice, however busy; and it is killed only for want of spot."""
    nodes = [node("i-1", purchase_option="on-demand"), node("i-2")]
    for kind in ("spot", "kill"):
        assert choose_victim(nodes, Step(kind, "model"), {"i-1": 9}).instance_id == "i-2"
    assert choose_victim(nodes[:1], Step("kill", "model"), {}).instance_id == "i-1"


@pytest.mark.parametrize(
    "unfit",
    [
        {"tier": "gateway"},
        {"target_state": "initial"},
        {"target_state": "draining"},
        {"state": "pending"},
        {"noticed_at": 5.0},
        {"purchase_option": "on-demand"},
    ],
)
def test_no_victim(unfit: dict[str, object]) -> None:
    """A node that does not serve, or is on its way out already, is nobody's victim."""
    with pytest.raises(ImpossibleError, match="spot:model"):
        choose_victim([node("i-1", **unfit)], Step("spot", "model"), {})


@pytest.mark.parametrize(("spot", "taken"), [(0, 0), (1, 1), (2, 1), (3, 2), (6, 3)])
def test_storm_takes_half(spot: int, taken: int) -> None:
    """A storm takes half the spot nodes, rounded up, and no on-demand one."""
    nodes = [node(f"i-{n}", launched_at=float(n)) for n in range(spot)]
    found = choose_storm([*nodes, node("i-od", purchase_option="on-demand")])
    assert len(found) == taken
    assert all(victim.purchase_option == "spot" for victim in found)


def test_storm_hits_both_tiers() -> None:
    """In the default fleet a storm takes a gateway and a model node together."""
    nodes = [node("g", tier="gateway"), node("m-1"), node("m-2")]
    assert {victim.tier for victim in choose_storm(nodes)} == {"gateway", "model"}


def test_leaving() -> None:
    """The node that scaling in chose is the one of the tier that was there before and is terminating."""
    nodes = [
        node("i-1"),
        node("i-2", lifecycle_state="Terminating:Wait"),
        node("i-3", lifecycle_state="Terminating", tier="gateway"),
    ]
    found = leaving({"i-1", "i-2", "i-3"}, nodes, "model")
    assert found is not None
    assert found.instance_id == "i-2"
    assert leaving({"i-1"}, nodes, "model") is None


def story(kind: str = "spot") -> Interruption:
    return Interruption(kind, "model", "i-1", "spot", at=100.0)


def test_replacement_first() -> None:
    """A replacement that serves before the node is gone is noted, but it is over only afterwards."""
    before = {"i-1"}
    new = node("i-2", launched_at=101.0)
    begun = follow(story(), [node("i-1"), replace(new, target_state="initial")], before, set(), 102.0)
    assert (begun.replacement, begun.replaced_at, over(begun)) == ("i-2", None, False)
    served = follow(begun, [node("i-1"), new], before, set(), 105.0)
    assert (served.replaced_at, over(served)) == (105.0, False)
    ended = follow(served, [new], before, set(), 112.0)
    assert (ended.gone_at, over(ended)) == (112.0, True)


def test_replacements_are_not_shared() -> None:
    """Two interruptions have two replacements, the earlier launched for the first."""
    before = {"i-1"}
    new = [node("i-3", launched_at=103.0), node("i-2", launched_at=101.0)]
    assert follow(story(), new, before, set(), 110.0).replacement == "i-2"
    assert follow(story(), new, before, {"i-2"}, 110.0).replacement == "i-3"


def test_replacement_that_dies() -> None:
    """A replacement that went away before it served makes room for the next."""
    begun = replace(story(), gone_at=104.0, replacement="i-2")
    known = follow(begun, [node("i-3", launched_at=120.0)], {"i-1"}, set(), 121.0)
    assert (known.replacement, known.replaced_at) == ("i-3", 121.0)


def test_other_tier_replaces_nothing() -> None:
    """A new gateway replaces no model node."""
    known = follow(story(), [node("i-2", tier="gateway")], {"i-1"}, set(), 121.0)
    assert known.replacement is None


def test_scale_in_needs_no_replacement() -> None:
    """A scale-in is over when its node is gone."""
    assert not over(follow(story("scale-in"), [node("i-1")], {"i-1"}, set(), 101.0))
    ended = follow(story("scale-in"), [node("i-9")], {"i-1"}, set(), 109.0)
    assert (over(ended), ended.replacement) == (True, None)
