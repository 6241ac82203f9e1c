"""What the page is told, from what was read last."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from fleet.console.losses import Losses
from fleet.console.picture import Failure, Reading, picture
from fleet.console.states import act, standing
from fleet.oncall.snapshot import Snapshot
from tests.fleet.console.fleets import PRICES, Fleet, fleet_of, node


def shown(fleet: Fleet, **fields: Any) -> dict[str, Any]:
    snapshot = Snapshot(1000.0, "prod", tuple(fleet.tiers), tuple(fleet.nodes))
    return picture(Reading("prod", snapshot, **fields), PRICES.get)


@pytest.mark.parametrize(
    ("fields", "state", "words", "asks"),
    [
        ({}, "serving", "serving", "drain"),
        ({"target_state": "unhealthy"}, "unhealthy", "fails its health check", "drain"),
        ({"phase": "dead"}, "unhealthy", "nothing listens", "drain"),
        ({"lifecycle_state": "Pending:Wait", "phase": "dead"}, "starting", "starting", "drain"),
        ({"target_state": "initial"}, "starting", "starting", "drain"),
        ({"lifecycle_state": "Standby"}, "unknown", "standby", "drain"),
        ({"target_state": None}, "unknown", "InService, no target", "drain"),
        ({"phase": None}, "serving", "serving", "drain"),
        ({"phase": "accepting"}, "leaving", "draining, still accepts", "undrain"),
        ({"phase": "refusing"}, "leaving", "draining, refuses new", "undrain"),
        ({"phase": "refusing", "binding": True}, "leaving", "draining, refuses new", ""),
        ({"phase": "handing_over"}, "leaving", "handing over", ""),
        ({"phase": "empty", "target_state": "unhealthy"}, "leaving", "empty", ""),
        ({"phase": None, "lifecycle_state": "Detached"}, "leaving", "detached", ""),
        ({"phase": None, "lifecycle_state": "Terminating:Wait"}, "leaving", "terminating", ""),
        ({"phase": None, "target_state": "draining"}, "leaving", "deregistered", ""),
    ],
)
def test_a_node_s_own_word_goes_first(fields: dict[str, Any], state: str, words: str, asks: str) -> None:
    """Each standing has one state, words, and what a person may ask; AWS's taking away cannot be undone."""
    view = node(1, **fields)
    assert (standing(view).state, standing(view).words, act(view)) == (state, words, asks)


def test_unread_is_not_empty() -> None:
    """Before the first look there is no fleet to show, and every failure is told."""
    told = picture(Reading("prod", failures={"fleet": Failure("no", "log in", 3.0)}), PRICES.get)
    assert told["at"] is None
    assert set(told["figures"]) == {"lost"}
    [failure] = told["failures"]
    assert (failure["part"], failure["message"], failure["hint"], failure["since"]) == (
        "fleet",
        "no",
        "log in",
        3.0,
    )


def test_what_nobody_knows_is_said_to_be_unknown() -> None:
    """No node answers, no price is known, no gateway counts: dashes and words, never a zero."""
    fleet = fleet_of()
    fleet.nodes = [
        replace(one, in_flight=None, hourly_price=None, instance_type="p9.huge") for one in fleet.nodes
    ]
    figures = shown(fleet, losses=Losses(0.0, 0, 3, 0, None))["figures"]
    assert figures["in-flight"]["value"] == figures["lost"]["value"] == "-"
    assert figures["lost"]["level"] == ""
    assert figures["cost"]["words"] == "9 without a known price"


@pytest.mark.parametrize(
    ("losses", "value", "level"),
    [
        (None, "-", ""),
        (Losses(0.0, 0, 2, 2, 0), "0", "ok"),
        (Losses(0.0, 2, 2, 2, 0), "2", "bad"),
        (Losses(0.0, 0, 2, 2, 5), "0", "bad"),
        (Losses(0.0, 0, 2, 0, 5), "5", "bad"),
        (Losses(0.0, 0, 2, 0, 0), "0", "ok"),
    ],
)
def test_lost(losses: Losses | None, value: str, level: str) -> None:
    """A loss by either source is bad; CloudWatch speaks where no gateway does."""
    figure = shown(fleet_of(), losses=losses)["figures"]["lost"]
    assert (figure["value"], figure["level"]) == (value, level)


def test_silent_gateways_are_counted() -> None:
    """A zero that not every gateway vouches for says so."""
    words = shown(fleet_of(), losses=Losses(0.0, 0, 3, 1, None))["figures"]["lost"]["words"]
    assert words == "since 00:00 UTC, 2 gateways did not answer"


def test_an_empty_fleet_is_an_outage() -> None:
    """No node where some are desired is bad, and divides by nothing."""
    fleet = fleet_of()
    fleet.nodes = []
    figures = shown(fleet)["figures"]
    assert (figures["serving"]["value"], figures["serving"]["level"]) == ("0", "bad")
    assert figures["split"]["share"] == 0
    assert figures["cost"]["value"] == "0.00"


def test_split_and_cost() -> None:
    """Spot by count, cost by price, and what the same instances would cost on demand."""
    figures = shown(fleet_of(gateways=3, models=3))["figures"]
    assert figures["split"]["words"] == "4 spot, 2 on demand"
    assert figures["split"]["share"] == 67
    full = 3 * PRICES["c7i.large"] + 3 * PRICES["g6.xlarge"]
    assert float(figures["cost"]["value"]) < full
    assert figures["cost"]["words"] == "41% below all on demand"


def test_requests_are_counted_once() -> None:
    """In flight is what gateways have: model nodes hold the same requests again."""
    fleet = fleet_of(gateways=1, models=1)
    fleet.nodes = [replace(one, in_flight=5) for one in fleet.nodes]
    figure = shown(fleet)["figures"]["in-flight"]
    assert (figure["value"], figure["words"]) == ("5", "requests at gateways, 5 at model nodes")


def test_the_next_to_go_comes_first() -> None:
    """By deadline; those without one last."""
    fleet = fleet_of(models=4)
    for index, deadline in ((3, None), (4, 50.0), (5, 20.0)):
        fleet.change(fleet.nodes[index].instance_id, phase="refusing", deadline=deadline)
    assert [one["deadline"] for one in shown(fleet)["leaving"]] == [20.0, 50.0, None]


def test_what_a_drain_leaves_is_told() -> None:
    """The last node that serves a tier leaves none; one that serves nobody takes nothing away."""
    fleet = fleet_of(gateways=1, models=2)
    fleet.change(fleet.nodes[2].instance_id, target_state="unhealthy")
    by_id = {
        one["id"]: one["serving_after"]
        for tier in shown(fleet)["tiers"]
        for zone in tier["zones"]
        for one in zone["nodes"]
    }
    assert [by_id[one.instance_id] for one in fleet.nodes] == [0, 0, 1]


def test_order_is_still() -> None:
    """Nodes stay where they are whatever becomes of them: a button must not move under a finger."""
    fleet = fleet_of(models=9)
    before = places(shown(fleet))
    for one in fleet.nodes[::2]:
        fleet.change(one.instance_id, phase="refusing", target_state="draining", deadline=9.0)
    fleet.nodes.reverse()
    assert places(shown(fleet)) == before


def places(told: dict[str, Any]) -> list[str]:
    return [one["id"] for tier in told["tiers"] for zone in tier["zones"] for one in zone["nodes"]]


def test_a_tier_s_trouble_is_told() -> None:
    """Fewer than desired, and an image that is not its channel's."""
    fleet = fleet_of()
    fleet.tiers = [replace(fleet.tiers[1], in_service=4, channel_image_id="ami-2", pending=1)]
    [tier] = shown(fleet)["tiers"]
    assert tier["short"] == "2 short of desired"
    assert tier["image"].endswith("not its channel's")
    assert "1 pending" in tier["words"]


def test_a_thousand_nodes_fit_a_frame() -> None:
    """A large fleet's picture stays under a megabyte."""
    fleet = Fleet(fleet_of().tiers, [node(i) for i in range(1000)])
    assert len(json.dumps(shown(fleet))) < 1_000_000
