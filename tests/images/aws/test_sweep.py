"""The sweep: what it keeps and removes, and why."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from images.builders.ec2_inventory import Found
from images.errors import AwsRefused, RunError
from images.run import LASTS_S, PARKED, PUBLISHED, held, new_run, open_run, run_ids
from images.sweep import Facts, KnownRun, decide
from tests.images.aws.layer_parts import Fault
from tests.images.aws.world import World, leftovers, recipe

NOW = 1_000_000_000.0
DAY = 86_400.0
MACHINE = Found("instance", "i-1", "us-east-1", "run-1", "r", "lab", "builder", deadline=NOW + 3600)
IMAGE = Found("image", "ami-1", "us-east-1", "run-1", part="image", created=NOW - DAY, snapshots=("snap-1",))
SNAPSHOT = Found("snapshot", "snap-1", "us-east-1", "run-1", part="image")
COPY = Found("image", "ami-2", "eu-west-1", "run-1", part="copy-eu-west-1", snapshots=("snap-2",))
GOING = KnownRun(held=True, outcome="", deadline=NOW + 3600)
KILLED = KnownRun(held=False, outcome="", deadline=NOW + 3600)


def kept(found: Found, *others: Found, **facts: Any) -> tuple[bool, str]:
    verdict = decide([found, *others], Facts(NOW, **facts))[0]
    return verdict.keep, verdict.reason


@pytest.mark.parametrize(
    ("run", "keep", "why"),
    [
        (GOING, True, "going on"),
        (replace(GOING, deadline=NOW - 1), True, "going on"),
        (KILLED, False, "was killed"),
        (replace(KILLED, outcome="failed"), False, "failed"),
        (replace(KILLED, outcome=PARKED), True, "waits to be resumed"),
        (replace(KILLED, outcome=PARKED, deadline=NOW - 1), False, "past its deadline"),
        (replace(KILLED, outcome=PUBLISHED), False, "was published"),
    ],
)
def test_machines_go_with_their_run(run: KnownRun, keep: bool, why: str) -> None:
    """A machine is kept while its run goes on or waits to be resumed, and removed after."""
    said = kept(MACHINE, runs={"run-1": run})
    assert (said[0], why in said[1]) == (keep, True)


def test_unknown_runs_are_kept_until_their_deadline() -> None:
    """A run of another machine is left alone until its tag says that it is dead, or its name is given."""
    assert kept(MACHINE)[0]
    assert not kept(replace(MACHINE, deadline=NOW - 1))[0]
    assert not kept(MACHINE, named=frozenset({"run-1"}))[0]
    assert kept(replace(MACHINE, deadline=None))[0]


@pytest.mark.parametrize("published", [True, False])
def test_referenced_images_are_kept(published: bool) -> None:
    """What a channel, its history or a launch template points at is kept, however old it is."""
    old = replace(IMAGE, published=published, created=NOW - 900 * DAY)
    said = kept(
        old, runs={"run-1": KILLED}, references={"ami-1": ["/goldenfleet/lab/image/r/prod at version 3"]}
    )
    assert said == (True, "referred to by /goldenfleet/lab/image/r/prod at version 3")


@pytest.mark.parametrize(
    ("days", "launched", "keep"), [(29, None, True), (31, None, False), (400, 29, True), (400, 31, False)]
)
def test_unreferenced_images_go_by_age(days: float, launched: float | None, keep: bool) -> None:
    """A published image that nothing refers to goes 30 days after it was made or last launched."""
    last = None if launched is None else NOW - launched * DAY
    found = replace(IMAGE, published=True, created=NOW - days * DAY, last_launched=last)
    assert kept(found, runs={"run-1": KILLED})[0] is keep


@pytest.mark.parametrize(("days", "keep"), [(29, True), (31, False)])
def test_an_image_just_marked_is_not_old(days: float, keep: bool) -> None:
    """Between its mark and the channel of another stack nothing may refer to it: it counts from the mark."""
    found = replace(IMAGE, published=True, created=NOW - 900 * DAY, published_at=NOW - days * DAY)
    assert kept(found, runs={"run-1": KILLED})[0] is keep


def test_a_leftover_machine_does_not_hold_its_image() -> None:
    """The reference of a machine that goes in the same sweep does not keep the image that it runs from."""
    refers = {"ami-1": ["arn:aws:ec2:us-east-1:1:instance/i-1"]}
    assert not kept(IMAGE, MACHINE, runs={"run-1": KILLED}, references=refers)[0]
    assert kept(IMAGE, MACHINE, runs={"run-1": GOING}, references=refers)[0]


def test_snapshots_go_with_their_image() -> None:
    """A snapshot under a kept image is kept, and goes with one that goes."""
    channel = {"ami-1": ["channel"]}
    assert kept(SNAPSHOT, IMAGE, runs={"run-1": KILLED}, references=channel)[0]
    assert not kept(SNAPSHOT, IMAGE, runs={"run-1": KILLED})[0]


def test_copies_go_with_their_original() -> None:
    """A copy in another region, to which no channel points, is kept as long as its original."""
    channel = {"ami-1": ["channel"]}
    assert kept(COPY, IMAGE, runs={"run-1": KILLED}, references=channel)[0]
    assert not kept(COPY, IMAGE, runs={"run-1": KILLED})[0]


def test_a_look_changes_nothing(world: World) -> None:
    """Planning removes nothing, and tells every resource with its reason."""
    world.layer.faults.append(Fault("stop_instances", "IncorrectInstanceState"))
    with pytest.raises(AwsRefused):
        world.bake(on_error="abort")
    before = leftovers(world)
    (run_id,) = run_ids(world.runs)
    plan = world.sweep(named=frozenset({run_id})).plan()
    assert {each.id for each in plan.doomed} >= {each for each in before if each.startswith(("i-", "sg-"))}
    assert all(verdict.reason for verdict in plan.verdicts)
    assert leftovers(world) == before


def test_a_run_that_goes_on_cannot_be_swept(world: World) -> None:
    """Naming a run that a process of this machine works on is refused."""
    world.layer.faults.append(Fault("stop_instances", "IncorrectInstanceState"))
    with pytest.raises(AwsRefused):
        world.bake(on_error="abort")
    (run_id,) = run_ids(world.runs)
    with held(open_run(world.runs, run_id, world.clock)):
        with pytest.raises(RunError, match="going on"):
            world.sweep(named=frozenset({run_id})).plan()
        world.clock.sleep(LASTS_S)
        assert all(verdict.keep for verdict in world.sweep().plan().verdicts)


def test_local_runs_are_not_ours(world: World) -> None:
    """What stands in the ledger of a run on this machine's own builder is not taken for gone."""
    run = new_run(world.runs, recipe(), "lab", world.clock, random.Random(1), "local")
    run.ledger.made("image", "image", "/images/one.qcow2")
    before = world.clock.now()
    sweep = world.sweep()
    sweep.apply(sweep.plan())
    assert open_run(world.runs, run.id, world.clock).ledger.standing == run.ledger.standing
    assert world.clock.now() - before < 60
    with pytest.raises(RunError, match="begun on local"):
        world.resume(run.id)


def test_images_wait_for_references_of_plain_search(world: World) -> None:
    """Where EC2 does not tell references, launch templates and machines are searched for them."""
    image = world.bake().image
    assert image is not None
    world.aws().ec2.create_launch_template(LaunchTemplateName="lt", LaunchTemplateData={"ImageId": image.id})
    world.aws().ssm.delete_parameter(Name="/goldenfleet/lab/image/lab-gateway/dev")
    world.clock.sleep(60 * DAY)
    world.layer.faults.append(Fault("describe_image_references", "UnsupportedOperation", times=9))
    (verdict,) = [each for each in world.sweep().plan().verdicts if each.resource.kind == "image"]
    assert (verdict.keep, verdict.reason) == (True, "referred to by launch template lt")


def test_old_images_go_with_snapshot_and_manifest(world: World) -> None:
    """An image out of every channel goes after 30 days, and all that was written of it."""
    world.bake()
    world.aws().ssm.delete_parameter(Name="/goldenfleet/lab/image/lab-gateway/dev")
    sweep = world.sweep()
    assert sweep.apply(sweep.plan()) == ()
    assert len(leftovers(world)) == 5
    world.clock.sleep(31 * DAY)
    assert sweep.apply(sweep.plan()) == ()
    assert leftovers(world) == []


def test_a_swept_run_has_no_keys_and_is_told(world: World) -> None:
    """After a sweep the ledger of the dead run says that all is gone, and its private keys are removed."""
    world.layer.faults.append(Fault("stop_instances", "IncorrectInstanceState"))
    with pytest.raises(AwsRefused):
        world.bake(on_error="abort")
    (run_id,) = run_ids(world.runs)
    sweep = world.sweep(named=frozenset({run_id}))
    sweep.apply(sweep.plan())
    run = open_run(world.runs, run_id, world.clock)
    assert run.ledger.standing == ()
    assert not (run.directory / "key").exists()
    assert leftovers(world) == []
