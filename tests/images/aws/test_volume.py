"""Weights on a volume of their own: what is asked of AWS for it, what can go wrong, and what fleets read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from images.aws import tags_of
from images.builders.ec2_settings import Ec2Settings
from images.builders.ec2_volume import DEVICE
from images.errors import AwsRefused, BuilderError, CheckFailed, PlanRefused, WaitTimedOut
from images.ledger import standing
from images.recipe import load
from images.remote import Output
from images.run import IMAGE_TAG, RUN_TAG, open_run, run_ids
from images.steps.shell import WEIGHTS
from tests.images.aws.layer_parts import Fault
from tests.images.aws.world import (
    OTHER_REGION,
    REGION,
    SETTINGS,
    World,
    hooked,
    leftovers,
    publish_base,
    recipe,
    weighty,
)

RECIPES = Path(__file__).parents[3] / "images" / "recipes"
KEYED = Ec2Settings.model_validate(
    {
        "region": REGION,
        "our_address": "203.0.113.7",
        "kms_key_id": "alias/images",
        "copies": [{"region": OTHER_REGION, "kms_key_id": "alias/images"}],
        "share_accounts": ["111122223333"],
    }
)


def asked(world: World, part: str) -> list[Any]:
    """Block device mappings of every launch of the builder, or of the node."""
    return [
        params["BlockDeviceMappings"]
        for params in world.calls("run_instances")
        if f"-{part}-" in params["ClientToken"]
    ]


def after(operation: str, action: Any) -> Any:
    return hooked(lambda _: None, lambda name: action() if name == operation else None)


def told_by(world: World, image_id: str) -> Any:
    name = f"/goldenfleet/lab/launch/{image_id}/volumes"
    return json.loads(world.aws().ssm.get_parameter(Name=name)["Parameter"]["Value"])


# --- what goes wrong


def test_a_base_that_uses_the_device_is_refused(world: World) -> None:
    """A base image that maps the weights' device itself ends the bake before any machine is made."""
    from moto.ec2.models import ec2_backends

    publish_base(world.aws(), "debian-12-amd64-20270101")
    for image in ec2_backends["123456789012"][REGION].amis.values():
        image.root_device_name = DEVICE
    with pytest.raises(PlanRefused, match=f"maps {DEVICE} itself"):
        world.bake(wanted=weighty())
    assert world.calls("run_instances") == []
    assert leftovers(world) == []


def take_off(world: World) -> None:
    """Detach the weights' volume from whatever machine has it."""
    ec2 = world.aws().ec2
    for volume in ec2.describe_volumes()["Volumes"]:
        for attached in volume["Attachments"]:
            if attached["Device"] == DEVICE:
                ec2.detach_volume(
                    VolumeId=volume["VolumeId"], InstanceId=attached["InstanceId"], Device=DEVICE
                )


def test_an_image_without_the_weights_is_refused(world: World) -> None:
    """A volume that was taken off the builder is not in the image: nothing is published, nothing stays."""
    with (
        after("StopInstances", lambda: take_off(world)),
        pytest.raises(BuilderError, match=f"no snapshot of {DEVICE}"),
    ):
        world.bake(wanted=weighty())
    assert leftovers(world) == []


def test_a_copy_without_the_weights_is_refused(world: World) -> None:
    """A copy that lacks the snapshot starts nodes without weights: nothing is published, nothing stays."""
    from moto.ec2.models import ec2_backends

    def lose() -> None:
        backend = ec2_backends["123456789012"][OTHER_REGION]
        (copy,) = [each for each in backend.amis.values() if each.owner_id == "123456789012"]
        backend.snapshots.pop(copy.more.pop(DEVICE).id)
        del copy.sizes[DEVICE]

    world.settings = KEYED
    with after("CopyImage", lose), pytest.raises(BuilderError, match=f"no snapshot of {DEVICE}"):
        world.bake(wanted=weighty())
    assert leftovers(world) == []


@pytest.mark.parametrize("command", ["findmnt --options ro", "wc --lines", "sha256sum --check --strict"])
def test_wrong_weights_on_a_fresh_node_publish_nothing(world: World, command: str) -> None:
    """Not mounted read-only, with a file too many, or with other bytes: the check fails, evidence is kept."""
    world.answers[command] = Output("", "wrong here", 1)
    with pytest.raises(CheckFailed, match=r"weights(.|\n)*wrong here"):
        world.bake(wanted=weighty())
    assert leftovers(world) == []
    (run_id,) = run_ids(world.runs)
    assert "wrong here" in (world.runs / run_id / "evidence" / "error.txt").read_text()


def test_refused_launches_leave_no_entry(world: World) -> None:
    """What AWS has no room for is taken back from the ledger, volume and all, before the next try."""
    seen: list[tuple[int, int]] = []

    def look() -> None:
        (run_id,) = run_ids(world.runs)
        known = standing(open_run(world.runs, run_id, world.clock).ledger.entries)
        count = {kind: sum(each.kind == kind for each in known) for kind in ("instance", "volume")}
        seen.append((count["instance"], count["volume"]))

    def before(name: str) -> None:
        if name == "RunInstances":
            look()

    world.layer.faults.append(Fault("run_instances", "InsufficientInstanceCapacity", times=3))
    with hooked(before, lambda _: None):
        world.bake(wanted=weighty())
    assert seen[:4] == [(1, 1)] * 4
    (run_id,) = run_ids(world.runs)
    assert not [
        each for each in open_run(world.runs, run_id, world.clock).ledger.standing if each.kind == "volume"
    ]


def test_a_volume_that_is_not_attached_parks_the_run(world: World) -> None:
    """A builder that lacks its second volume is not baked on: the run waits, and goes whole when swept."""
    with after("RunInstances", lambda: take_off(world)), pytest.raises(WaitTimedOut, match="weights volume"):
        world.bake(wanted=weighty())
    assert not any("mkfs" in command.line for machine in world.machines for command in machine.commands)
    assert [each for each in leftovers(world) if each.startswith("vol-")]
    sweep = world.sweep(named=frozenset(run_ids(world.runs)))
    assert sweep.apply(sweep.plan()) == ()
    assert leftovers(world) == []


def test_a_wait_that_ends_is_resumed_with_both_snapshots(world: World) -> None:
    """Resumed after the image took too long, the run has one builder, one image and both its snapshots."""
    world.settings = SETTINGS.model_copy(update={"wait_limit_s": 1800.0})
    world.layer.lags.imaging = 7200
    with pytest.raises(WaitTimedOut):
        world.bake(wanted=weighty())
    assert all(verdict.keep for verdict in world.sweep().plan().verdicts)
    world.clock.sleep(7200)
    manifest = world.resume(*run_ids(world.runs))
    assert (len(asked(world, "builder")), len(world.calls("create_image"))) == (1, 1)
    assert manifest.image is not None
    assert len(told_by(world, manifest.image.id)["volumes"]) == 2


def test_waits_grow_with_both_disks(world: World) -> None:
    """The image of 8 GiB with 150 GiB of weights is waited for as one of 158 GiB."""
    world.layer.lags.imaging = 2.5 * 3600
    file = {"name": "w.bin", "url": "https://example.org/w", "sha256": "1" * 64, "bytes": 150 * 1024**3}
    large = weighty(weights={"strategy": "baked-volume", "files": [file]})
    assert world.bake(wanted=large).image is not None


def test_a_failed_stop_is_resumed_on_the_same_volume(world: World) -> None:
    """Kept for a look after an error, the run goes on with the volume that it has."""
    world.layer.faults.append(Fault("stop_instances", "IncorrectInstanceState"))
    with pytest.raises(AwsRefused):
        world.bake(wanted=weighty(), on_error="abort")
    world.resume(*run_ids(world.runs))
    assert len(asked(world, "builder")) == 1


# --- what is asked of AWS


def test_the_builder_has_a_second_volume(world: World) -> None:
    """Launched with it: empty, encrypted under the root's key, tagged, gone with it, and announced."""
    world.settings = KEYED
    announced: list[str] = []

    def before(name: str) -> None:
        if name == "RunInstances" and not announced:
            (run_id,) = run_ids(world.runs)
            announced.extend(each.kind for each in open_run(world.runs, run_id, world.clock).ledger.standing)

    with hooked(before, lambda _: None):
        world.bake(wanted=weighty())
    ((root, data),) = asked(world, "builder")
    assert (root["DeviceName"], data["DeviceName"]) == ("/dev/xvda", DEVICE)
    assert data["Ebs"] == {
        "VolumeSize": 14,
        "VolumeType": "gp3",
        "Throughput": 500,
        "Iops": 4000,
        "Encrypted": True,
        "KmsKeyId": "alias/images",
        "DeleteOnTermination": True,
    }
    assert "volume" in announced
    for params in world.calls("run_instances"):
        (tags,) = [each for each in params["TagSpecifications"] if each["ResourceType"] == "volume"]
        assert {RUN_TAG, IMAGE_TAG} <= set(tags_of(tags))


def test_steps_know_the_volume_by_its_serial(world: World) -> None:
    """Numbers of NVMe devices say nothing: the steps get the link that udev makes of the volume's id."""
    seen: list[str] = []

    def look() -> None:
        found = world.aws().ec2.describe_volumes()["Volumes"]
        seen.extend(each["VolumeId"] for each in found if each["Attachments"][0]["Device"] == DEVICE)

    with after("StopInstances", look):
        world.bake(wanted=weighty())
    (volume_id,) = seen
    path = f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{volume_id.replace('-', '')}"
    lines = [command.line for command in world.machines[0].commands]
    assert any(line.endswith(f"mkfs.ext4 -q -F -m 0 -L gf-weights {path}") for line in lines)


def test_a_fresh_node_is_launched_as_the_fleet_will(world: World) -> None:
    """From the snapshot at the recipe's rate, without a word of encryption, and then looked at."""
    image = world.bake(wanted=weighty()).image
    assert image is not None
    ((_, data),) = asked(world, "node")
    assert data == {
        "DeviceName": DEVICE,
        "Ebs": {
            "SnapshotId": image.snapshots[1],
            "VolumeInitializationRate": 300,
            "VolumeSize": 14,
            "VolumeType": "gp3",
            "Throughput": 500,
            "Iops": 4000,
            "DeleteOnTermination": True,
        },
    }
    (listed,) = [each for each in world.machines[1].commands if "sha256sum" in each.line]
    assert listed.stdin == f"{'1' * 64}  {WEIGHTS}/w.bin\n".encode()


def test_the_root_is_what_is_searched(world: World) -> None:
    """The disk that is searched for what must not be there is the root's, whichever EC2 tells first."""
    image = world.bake(wanted=weighty()).image
    assert image is not None
    described = world.aws().ec2.describe_images(ImageIds=[image.id])["Images"][0]
    mapped = {each["DeviceName"]: each["Ebs"]["SnapshotId"] for each in described["BlockDeviceMappings"]}
    (volume,) = world.calls("create_volume")
    assert volume["SnapshotId"] == mapped["/dev/xvda"] == image.snapshots[0]
    assert described["BlockDeviceMappings"][0]["DeviceName"] == DEVICE


def test_copies_and_shares_are_whole(world: World) -> None:
    """The copy in another region has both snapshots, tagged; image and copy are shared."""
    world.settings = KEYED
    world.bake(wanted=weighty())
    for region in (REGION, OTHER_REGION):
        ec2 = world.aws(region).ec2
        (image,) = ec2.describe_images(Owners=["self"])["Images"]
        mapped = [each["Ebs"]["SnapshotId"] for each in image["BlockDeviceMappings"]]
        found = ec2.describe_snapshots(SnapshotIds=mapped)["Snapshots"]
        assert [RUN_TAG in tags_of(each) for each in found] == [True, True]
        shared = ec2.describe_image_attribute(ImageId=image["ImageId"], Attribute="launchPermission")
        assert shared["LaunchPermissions"] == [{"UserId": "111122223333"}]


def test_sweeping_takes_both_snapshots(world: World) -> None:
    """An image that nobody needs goes with both snapshots, and what fleets read of it goes, too."""
    world.bake(wanted=weighty())
    world.aws().ssm.delete_parameter(Name="/goldenfleet/lab/image/lab-model/dev")
    world.clock.sleep(31 * 86_400)
    sweep = world.sweep()
    assert sweep.apply(sweep.plan()) == ()
    assert leftovers(world) == []


# --- what fleets read


def test_manifest_and_parameter_hand_on_the_volumes(world: World) -> None:
    """Device, snapshot, size, throughput, operations and rate: the same in the manifest and for the fleet."""
    image = world.bake(wanted=weighty()).image
    assert image is not None
    told = told_by(world, image.id)
    assert told["volumes"] == [volume.model_dump() for volume in image.volumes]
    assert told == {
        "format": 1,
        "volumes": [
            {
                "holds": "root",
                "device": "/dev/xvda",
                "snapshot": image.snapshots[0],
                "gib": 8,
                "throughput_mib_s": 125,
                "iops": 3000,
                "initialization_mib_s": None,
            },
            {
                "holds": "weights",
                "device": DEVICE,
                "snapshot": image.snapshots[1],
                "gib": 14,
                "throughput_mib_s": 500,
                "iops": 4000,
                "initialization_mib_s": 300,
            },
        ],
    }


def test_a_root_that_holds_the_weights_asks_for_its_rate(world: World) -> None:
    """Without a second volume the recipe's rate and throughput are the root's."""
    disk = {"root_gib": 8, "base_gib": 1.4, "throughput_mib_s": 250, "initialization_mib_s": 200}
    image = world.bake(wanted=recipe(disk=disk)).image
    assert image is not None
    (root,) = told_by(world, image.id)["volumes"]
    assert (root["holds"], root["throughput_mib_s"], root["initialization_mib_s"]) == ("root", 250, 200)
    assert len(asked(world, "builder")[0]) == 1


def test_promoting_and_rolling_back_keep_image_and_volumes_together(world: World) -> None:
    """What fleets read belongs to the image: whatever a channel points at has its own, and only its own."""
    first = world.bake(wanted=weighty()).image
    world.clock.sleep(60)
    second = world.bake(2, weighty()).image
    assert first is not None
    assert second is not None
    world.channels().promote("lab-model", "dev", "prod")
    for pointed, image in (
        (world.channels().show("lab-model", "prod"), second),
        (world.channels().rollback("lab-model", "dev"), first),
    ):
        snapshots = [each["snapshot"] for each in told_by(world, pointed.image_id)["volumes"]]
        assert snapshots == list(image.snapshots)


@pytest.mark.parametrize("name", ["model-gpu-vllm", "model-gpu-tgi"])
def test_gpu_recipes_bake_as_they_are(world: World, name: str) -> None:
    """Left to choose, the recipes for GPUs come on a volume of their own, at 300 MiB/s."""
    shipped = load(RECIPES / f"{name}.toml")
    assert shipped.weights is not None
    assert shipped.weights.strategy == "auto"
    server = recipe().server
    base = recipe().base
    image = world.bake(wanted=shipped.model_copy(update={"server": server, "base": base})).image
    assert image is not None
    weights = next(each for each in image.volumes if each.holds == "weights")
    assert (weights.gib, weights.initialization_mib_s, weights.throughput_mib_s) == (16, 300, 500)
