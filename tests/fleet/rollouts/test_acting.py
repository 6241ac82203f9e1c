"""What may be done to which rollout, without any AWS."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from fleet.rollouts.acting import Act, meant, plan
from fleet.rollouts.errors import NothingRuns
from fleet.rollouts.reading import Launched, Refresh, RolloutView

OLD, NEW = Launched("1", "ami-old"), Launched("2", "ami-new")


def view(tier: str, status: str | None, *, one_way: bool = False) -> RolloutView:
    last = None
    if status is not None:
        last = Refresh(
            refresh_id="r",
            status=status,
            reason="",
            rollback_reason="",
            percent=33,
            left=2,
            started_at=1.0,
            ended_at=None,
            target=NEW,
            least_percent=90,
            most_percent=110,
            checkpoints=(),
            checkpoint_delay_s=0,
            bake_s=0,
            rolls_back=True,
            one_way=one_way,
            alarms={},
        )
    return RolloutView(tier, f"g-{tier}", "gpu/prod", 3, 3, OLD, last)


def possible(of: RolloutView) -> set[Act]:
    """What a person may do to it."""
    able: set[Act] = set()
    for act in get_args(Act):
        try:
            able |= {act} if meant(act, [of], ["model"], "test") else set()
        except NothingRuns:
            continue
    return able


@pytest.mark.parametrize(
    ("status", "acts"),
    [
        (None, set()),
        ("Pending", {"cancel", "rollback"}),
        ("InProgress", {"cancel", "rollback"}),
        ("Baking", {"cancel", "rollback"}),
        ("RollbackInProgress", {"cancel"}),
        ("Cancelling", set()),
        ("Successful", set()),
        ("Failed", {"retry"}),
        ("Cancelled", {"retry"}),
        ("RollbackSuccessful", {"retry"}),
        ("RollbackFailed", {"retry"}),
    ],
)
def test_a_rollout_allows_what_aws_would(status: str | None, acts: set[Act]) -> None:
    """One that runs can be stopped or undone, one that came to nothing tried again, and nothing else."""
    assert possible(view("model", status)) == acts


def test_a_rollout_without_a_way_back_can_only_be_stopped() -> None:
    """The group says already where it goes; retrying it once it is over is possible."""
    assert possible(view("model", "InProgress", one_way=True)) == {"cancel"}
    assert possible(view("model", "Failed", one_way=True)) == {"retry"}


def test_a_tier_that_was_named_must_be_able_to() -> None:
    """Where none is named, those are meant that can; where none can, it is told of all."""
    views = [view("gateway", "Successful"), view("model", "InProgress")]
    assert [one.tier for one in meant("cancel", views, [], "test")] == ["model"]
    assert [one.tier for one in meant("cancel", views, ["model"], "test")] == ["model"]
    with pytest.raises(NothingRuns, match="gateway"):
        meant("cancel", views, ["model", "gateway"], "test")
    with pytest.raises(NothingRuns, match="gateway, model"):
        meant("retry", views, [], "test")


def test_what_cannot_be_undone_any_more_goes_back_by_the_image_before() -> None:
    """By its channel; where nothing says which that is, the hint has words to put it in."""
    for channel, words in (("gpu/prod", "gpu prod"), ("", "RECIPE CHANNEL")):
        over = replace(view("model", "Successful"), channel=channel)
        with pytest.raises(NothingRuns) as raised:
            meant("rollback", [over], [], "test")
        assert f"goldenfleet images rollback {words} --stack test" in raised.value.hint


def test_a_plan_says_which_nodes_will_be_what() -> None:
    """Of every act, by image; of a rollback also how many serve all the while."""
    runs = view("model", "InProgress")
    assert plan("cancel", runs) == (
        "model: stops at 33%; nodes that are ami-new (version 2) stay so, and new nodes boot "
        "ami-old (version 1)"
    )
    assert "its way back stops" in plan("cancel", view("model", "RollbackInProgress"))
    assert "replaced by ami-old (version 1); at least 3 of 3 serve" in plan("rollback", runs)
    assert "to ami-new (version 2) again, which ended as Failed" in plan("retry", view("model", "Failed"))
