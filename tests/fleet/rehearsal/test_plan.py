from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleet.rehearsal.errors import RehearsalError, UnknownInterruptionError
from fleet.rehearsal.plan import Plan, check, spot_nodes, watchers_of
from fleet.rehearsal.ports import free_port
from fleet.stack.settings import load_settings

PROJECT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("desired", "base", "percent", "spot"),
    [
        (3, 1, 0, 2),
        (3, 0, 0, 3),
        (3, 3, 0, 0),
        (2, 3, 0, 0),
        (3, 1, 50, 1),
        (5, 1, 50, 2),
        (4, 1, 50, 1),
        (3, 0, 100, 0),
    ],
)
def test_spot_nodes(desired: int, base: int, percent: int, spot: int) -> None:
    """Spot is what is above the base, less the on-demand share, which AWS rounds up."""
    tier = load_settings(PROJECT, "rehearsal").tier("model")
    purchase = tier.purchase.model_copy(update={"on_demand_base": base, "on_demand_percent": percent})
    capacity = tier.capacity.model_copy(update={"desired": desired})
    changed = tier.model_copy(update={"capacity": capacity, "purchase": purchase})
    assert spot_nodes(changed) == spot


def test_sizes() -> None:
    """The sizes asked for become settings of the stack, and nothing else changes."""
    port = free_port("127.0.0.1")
    checked = check(Plan(PROJECT, gateways=3, models=4, port=port))
    assert {name: tier.capacity.desired for name, tier in checked.tiers.items()} == {"gateway": 3, "model": 4}
    plain = load_settings(PROJECT, "rehearsal")
    assert checked.settings.network == plain.network
    assert checked.tiers["model"].purchase == plain.tier("model").purchase


@pytest.mark.parametrize(("seconds", "scale"), [(12.0, 0.1), (120.0, 1.0)])
def test_scale(seconds: float, scale: float) -> None:
    """The notice's length sets the scale of all time."""
    assert Plan(PROJECT, notice_seconds=seconds).time_scale == scale


def test_a_missing_disk_image_is_refused(tmp_path: Path) -> None:
    """An --image that is not there is an error before anything starts, and says how to bake one."""
    with pytest.raises(RehearsalError) as error:
        check(Plan(PROJECT, port=free_port("127.0.0.1"), image=tmp_path / "none.raw"))
    assert "images bake rehearsal --on local" in error.value.hint


def test_a_virtual_machine_is_given_time_to_boot(tmp_path: Path) -> None:
    """With --image a model node may be unhealthy for minutes of real time before it is replaced."""
    disk = tmp_path / "disk.raw"
    disk.touch()
    checked = check(Plan(PROJECT, port=free_port("127.0.0.1"), image=disk))
    assert checked.tiers["model"].boot.grace_seconds * checked.plan.time_scale >= 300
    assert checked.tiers["gateway"].boot == load_settings(PROJECT, "rehearsal").gateway.boot


def two_model_tiers() -> dict[str, str]:
    """The rehearsal's tiers, with a second model tier under another name."""
    first = load_settings(PROJECT, "rehearsal")
    gateway, model = (tier.model_dump(mode="json", by_alias=True) for tier in first.tiers)
    second = {**model, "name": "second", "model": "second-model"}
    return {"goldenfleet:tiers": json.dumps([gateway, model, second])}


def test_model_tiers_have_their_sizes_and_clients() -> None:
    """Every model tier starts at the size asked for, and every model is asked."""
    checked = check(
        Plan(
            PROJECT, models=2, port=free_port("127.0.0.1"), interrupt="spot:second", config=two_model_tiers()
        )
    )
    sizes = {name: tier.capacity.desired for name, tier in checked.tiers.items()}
    assert sizes == {"gateway": 2, "model": 2, "second": 2}
    assert checked.models == ("goldenfleet-embedded", "second-model")
    assert checked.told()["interrupt"] == ["spot:second"]


def test_an_interruption_of_no_tier_is_refused() -> None:
    """The stack's own tiers are named."""
    with pytest.raises(UnknownInterruptionError, match="TIER one of gateway, model, second"):
        check(Plan(PROJECT, port=free_port("127.0.0.1"), interrupt="spot:third", config=two_model_tiers()))


def test_somebody_must_see_notices() -> None:
    """Each watcher can be left out, and not both."""
    with pytest.raises(RehearsalError, match="exclude"):
        watchers_of(control_only=True, imds_only=True)
    assert watchers_of(control_only=True, imds_only=False) == "control"
    assert watchers_of(control_only=False, imds_only=True) == "imds"
    assert watchers_of(control_only=False, imds_only=False) == "both"
