"""`goldenfleet rollout` against the emulated cloud: what it tells, what it does, how it ends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from fleet.cli import main
from fleet.oncall.aws import connect
from fleet.oncall.errors import AwsFailed
from fleet.rollouts.acting import Waiting, do_all, exit_code
from fleet.rollouts.errors import NotOver
from fleet.rollouts.reading import load_rollouts
from fleet.rollouts.starting import Wish, roll_out

if TYPE_CHECKING:
    from tests.fleet.rollouts.conftest import Fleet

PREFERENCES = {
    "minHealthyPercentage": 100,
    "maxHealthyPercentage": 110,
    "checkpointPercentages": [30, 100],
    "checkpointDelay": 3600,
    "bakeTime": 60,
    "skipMatching": True,
    "autoRollback": True,
}


def asked(*words: str) -> Result:
    return CliRunner().invoke(main, ["rollout", *words])


def rolling(fleet: Fleet, tier: str = "model") -> str:
    """A rollout of the tier that waits at its checkpoint; gives the image."""
    image = fleet.image()
    policy = fleet.policy(tier, fleet.version(tier, image))
    roll_out(fleet.client, Wish(tier, {"mixedInstancesPolicy": policy}, PREFERENCES))
    fleet.tick(20)
    assert fleet.versions(tier) == ["1", "1", "2"]
    return image


def told(result: Result) -> Any:
    return json.loads(result.stdout)


@pytest.mark.parametrize("command", ["cancel", "rollback", "retry"])
def test_where_nothing_runs_there_is_nothing_to_do(command: str, fleet: Fleet) -> None:
    """Exit code 6, and what to do instead."""
    fleet.tier()
    result = asked(command, "--yes")
    assert result.exit_code == 6
    assert "model" in result.stderr
    if command == "rollback":
        assert "goldenfleet images rollback gpu prod --stack test" in result.stderr
        assert "goldenfleet up --stack test" in result.stderr


def test_an_unknown_tier_is_told_with_those_there_are(fleet: Fleet) -> None:
    """Exit code 6."""
    fleet.tier()
    for command in ("status", "cancel"):
        result = asked(command, "modle")
        assert (result.exit_code, "modle" in result.stderr, "model" in result.stderr) == (6, True, True)


def test_nothing_is_done_that_nobody_agreed_to(fleet: Fleet) -> None:
    """The plan is shown; without a terminal and --yes it ends with 2, and --dry-run with 0."""
    fleet.tier()
    image = rolling(fleet)
    for command in ("cancel", "rollback"):
        result = asked(command)
        assert result.exit_code == 2
        assert image in result.stderr
        assert asked(command, "--dry-run").exit_code == 0
    assert fleet.statuses() == ["InProgress"]


def test_status_tells_how_far_from_what_to_what_and_what_is_watched(fleet: Fleet) -> None:
    """In words and as JSON."""
    fleet.tier()
    image = rolling(fleet)
    said = asked("status").stdout
    for part in (
        "InProgress 33%",
        image,
        "(version 1)",
        "(version 2)",
        "at least 3 nodes serve",
        "Checkpoint",
    ):
        assert part in said
    (one,) = told(asked("status", "--json"))["rollouts"]
    assert one["running"]
    assert (one["last"]["percent"], one["last"]["left"], one["least"]) == (33, 2, 3)
    assert one["launches"]["version"] == "1"
    assert one["last"]["target"] == {"version": "2", "image_id": image}


def test_a_tier_that_was_never_rolled_out_has_a_line(fleet: Fleet) -> None:
    """With what it launches."""
    fleet.tier()
    assert "model: no rollout\n  launches ami-" in asked("status").stdout


def test_cancel_stops_where_it_is(fleet: Fleet) -> None:
    """What is new stays, and new nodes boot what the tier launched before."""
    fleet.tier()
    rolling(fleet)
    result = asked("cancel", "--yes", "--json")
    assert (result.exit_code, list(told(result)["refreshes"])) == (0, ["model"])
    fleet.tick(4)
    fleet.client("autoscaling").set_desired_capacity(AutoScalingGroupName="model", DesiredCapacity=4)
    fleet.tick(8)
    assert (fleet.statuses(), fleet.versions()) == (["Cancelled"], ["1", "1", "1", "2"])
    assert "it came to nothing" in asked("status").stdout


def test_rollback_undoes_all_of_it_and_retry_begins_again(fleet: Fleet) -> None:
    """Then every node is what it was; a retry goes where the rollout went, by the same preferences."""
    fleet.tier()
    image = rolling(fleet)
    assert asked("rollback", "model", "--yes").exit_code == 0
    assert asked("rollback", "model", "--yes").exit_code == 6  # it is being rolled back
    fleet.tick(60)
    assert (fleet.statuses(), fleet.versions()) == (["RollbackSuccessful"], ["1"] * 3)
    assert "retry model" in asked("status").stdout
    assert asked("status", "--wait").exit_code == 1
    assert asked("retry", "--yes").exit_code == 0
    newest, before = fleet.refreshes()
    assert newest["Preferences"] == before["Preferences"]
    fleet.tick(20)
    assert image in {one.image_id for one in fleet.cloud.instances()}


def test_a_retry_keeps_what_fallback_has_raised(fleet: Fleet) -> None:
    """It was cancelled because spot was dry, perhaps, and nodes on demand are in its place."""
    fleet.tier()
    rolling(fleet)
    asked("cancel", "--yes")
    fleet.tick(4)
    fleet.client("autoscaling").update_auto_scaling_group(
        AutoScalingGroupName="model",
        MixedInstancesPolicy={"InstancesDistribution": {"OnDemandBaseCapacity": 3}},
    )
    assert asked("retry", "--yes").exit_code == 0
    towards = fleet.refreshes()[0]["DesiredConfiguration"]["MixedInstancesPolicy"]
    assert towards["InstancesDistribution"]["OnDemandBaseCapacity"] == 3
    assert towards["LaunchTemplate"]["LaunchTemplateSpecification"]["Version"] == "2"


def test_a_rollout_of_other_shares_goes_back_like_any(fleet: Fleet) -> None:
    """Though both of its ends launch the same version of the template."""
    fleet.tier()
    policy = fleet.policy()
    policy["InstancesDistribution"]["OnDemandBaseCapacity"] = 2
    fleet.client("autoscaling").start_instance_refresh(
        AutoScalingGroupName="model", DesiredConfiguration={"MixedInstancesPolicy": policy}
    )
    fleet.tick(2)
    assert asked("rollback", "--yes").exit_code == 0
    assert fleet.statuses() == ["RollbackInProgress"]


def test_waiting_tells_each_step_once_and_ends_with_the_rollout(fleet: Fleet) -> None:
    """Or with 9, for the rollout goes on."""
    fleet.tier()
    rolling(fleet)
    aws = connect("test")
    lines: list[str] = []
    with pytest.raises(NotOver, match="still runs") as error:
        Waiting(0.0, pause=lambda _: None).until_over(aws, ["model"], lines.append)
    assert error.value.exit_code == 9
    asked("rollback", "--yes")
    waiting = Waiting(3600.0, pause=lambda _: fleet.tick())
    views = waiting.until_over(aws, ["model"], lines.append)
    assert exit_code("rollback", views) == 0
    assert lines[0].startswith("model: InProgress 33%")
    assert lines[-1].startswith("model: RollbackSuccessful")
    assert len(set(lines)) == len(lines)


def test_one_tier_that_came_to_nothing_is_a_part(fleet: Fleet) -> None:
    """Exit code 4 where others ended as wished, 1 where none did."""
    fleet.tier("model")
    fleet.tier("other")
    rolling(fleet, "model")
    rolling(fleet, "other")
    asked("cancel", "model", "--yes")
    asked("rollback", "other", "--yes")
    fleet.tick(60)
    views = load_rollouts(connect("test"))
    assert exit_code("cancel", views) == 4
    assert exit_code("retry", views) == 1


def test_what_could_be_done_to_some_tiers_is_done_and_the_others_are_told(fleet: Fleet) -> None:
    """Exit code 4: one has just ended by itself, in a way that AWS refuses to undo."""
    fleet.tier("model")
    fleet.tier("other")
    rolling(fleet, "model")
    rolling(fleet, "other")
    aws = connect("test")
    views = load_rollouts(aws)
    asked("rollback", "other", "--yes")
    begun, failed = do_all(aws, "rollback", views)
    assert list(begun) == ["model"]
    assert "IrreversibleInstanceRefresh" in failed["other"]
    with pytest.raises(AwsFailed, match="IrreversibleInstanceRefresh"):
        do_all(aws, "rollback", views)


@pytest.mark.parametrize("command", ["status", "cancel", "rollback", "retry"])
def test_help_has_examples_and_exit_codes(command: str) -> None:
    """Of every command."""
    said = asked(command, "--help").output
    assert "Examples:" in said
    assert "Exit codes:" in said
