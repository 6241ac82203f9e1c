"""Bakes on EC2: what is asked of AWS, what is retried, and how a run goes on."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from pydantic import ValidationError

from images.aws import tags_of
from images.bake import Progress
from images.builders.ec2_settings import Ec2Settings
from images.errors import (
    AwsRefused,
    BuilderError,
    CheckFailed,
    ImagesError,
    LeftBehind,
    NoCapacity,
    RunError,
    WaitTimedOut,
)
from images.launch import boot_parameter
from images.recipe import digest
from images.remote import Output
from images.run import DEADLINE_TAG, IMAGE_TAG, RUN_TAG, STACK_TAG, run_ids
from tests.images.aws.layer_parts import Fault
from tests.images.aws.world import OTHER_REGION, REGION, SETTINGS, World, leftovers, recipe

KEYED = {
    "region": REGION,
    "our_address": "203.0.113.7",
    "kms_key_id": "alias/images",
    "copies": [{"region": OTHER_REGION, "kms_key_id": "alias/images"}],
    "share_accounts": ["111122223333"],
    "deprecate_after_days": 90,
}


def only_run(world: World) -> str:
    (run_id,) = run_ids(world.runs)
    return run_id


def test_whole_bake(world: World) -> None:
    """A bake publishes one image to dev with its manifest and leaves no machine, key or group."""
    manifest = world.bake()
    pointer = world.channels().show("lab-gateway", "dev")
    assert manifest.image is not None
    assert pointer.image_id == manifest.image.id
    assert manifest.recipe_digest == digest(recipe())
    assert json.loads(world.channels().manifest(pointer.image_id))["run_id"] == manifest.run_id
    name = boot_parameter("lab", pointer.image_id)
    told = json.loads(world.aws().ssm.get_parameter(Name=name)["Parameter"]["Value"])
    assert told["launch_to_ready_s"] == round(manifest.boot_seconds or 0.0, 1) > 0
    assert sorted(each.split("-")[0] for each in leftovers(world)) == [
        "/goldenfleet/lab/image/lab",
        "/goldenfleet/lab/launch/ami",
        "/goldenfleet/lab/launch/ami",
        "/goldenfleet/lab/manifest/ami",
        "ami",
        "snap",
    ]


def test_steps_are_told_with_their_time(world: World) -> None:
    """Every step is told when it starts and when it is done, in the order of the golden flow."""
    told: list[Progress] = []
    world.bake(on_step=told.append)
    done = [each.step for each in told if each.state == "done"]
    assert [each.step for each in told if each.state == "started"] == done
    flow = ["start a machine", "verify", "clean", "cut access", "make the image", "boot a fresh node"]
    flow += ["put the checks to it", "search its disk", "release the image", "remove the machines", "publish"]
    assert [step for step in done if step in flow] == flow
    assert next(each.seconds for each in told if (each.step, each.state) == ("make the image", "done")) > 300


def test_every_create_is_tagged(world: World) -> None:
    """Every resource carries run, recipe, stack and deadline from the call that creates it."""
    world.settings = Ec2Settings.model_validate(KEYED)
    world.bake()
    creates = ["import_key_pair", "create_security_group", "run_instances", "create_image", "copy_image"]
    for action in [*creates, "create_volume", "authorize_security_group_ingress"]:
        assert world.calls(action), action
        for params in world.calls(action):
            specifications = params["TagSpecifications"]
            for specification in specifications:
                assert {RUN_TAG, IMAGE_TAG, STACK_TAG, DEADLINE_TAG} <= set(tags_of(specification)), action
    (image,) = world.calls("create_image")
    assert {each["ResourceType"] for each in image["TagSpecifications"]} == {"image", "snapshot"}
    for launched in world.calls("run_instances"):
        kinds = {each["ResourceType"] for each in launched["TagSpecifications"]}
        assert {"instance", "volume", "network-interface"} <= kinds


def test_machines_defend_themselves(world: World) -> None:
    """Builder and node: tokens required, encrypted disk, terminate on shutdown, a deadline of their own."""
    world.settings = Ec2Settings.model_validate({**KEYED, "guest_deadline_minutes": 45})
    world.bake()
    for params in world.calls("run_instances"):
        assert params["MetadataOptions"]["HttpTokens"] == "required"
        assert int(params["MetadataOptions"]["HttpPutResponseHopLimit"]) == 2
        assert params["InstanceInitiatedShutdownBehavior"] == "terminate"
        disk = params["BlockDeviceMappings"][0]["Ebs"]
        assert (disk["Encrypted"], disk["KmsKeyId"]) == (True, "alias/images")
        data = base64.b64decode(params["UserData"]).decode().removeprefix("#cloud-config\n")
        config = json.loads(data)
        assert config["bootcmd"][0][-3:] == ["shutdown", "-P", "+45"]
        assert config["ssh_keys"]["ed25519_public"] == world.machines[0].login.host_key
    image_id = world.channels().show("lab-gateway", "dev").image_id
    assert world.aws().ec2.describe_images(ImageIds=[image_id])["Images"][0]["ImdsSupport"] == "v2.0"


def test_ingress_is_our_own_address(world: World) -> None:
    """The group is open to our /32 on SSH and the node's port alone; under SSM to nobody."""
    world.bake()
    for params in world.calls("authorize_security_group_ingress"):
        ranges = [each["CidrIp"] for rule in params["IpPermissions"] for each in rule["IpRanges"]]
        assert set(ranges) == {"203.0.113.7/32"}
        assert [rule["FromPort"] for rule in params["IpPermissions"]] == [22, 8080]


def test_the_deadline_is_stopped_before_cleaning(world: World) -> None:
    """The machine's own deadline is cancelled before the clean, so that it cannot fall into the stop."""
    world.bake()
    lines = [command.line for command in world.machines[0].commands]
    stopped = lines.index("shutdown -c")
    assert any("machine-id" in line for line in lines[stopped:])
    assert not any("machine-id" in line for line in lines[:stopped])
    assert world.machines[0].closed


@pytest.mark.parametrize(
    "code", ["InsufficientInstanceCapacity", "MaxSpotInstanceCountExceeded", "VcpuLimitExceeded"]
)
def test_falls_back_over_types_and_purchase(world: World, code: str) -> None:
    """Where AWS has no room, the next zone, type and purchase option are tried, in the recipe's order."""

    def is_spot(params: Any) -> bool:
        return "InstanceMarketOptions" in params

    world.layer.faults.append(Fault("run_instances", code, times=99, when=is_spot))
    world.bake()
    asked = [
        (params["InstanceType"], is_spot(params))
        for params in world.calls("run_instances")
        if params["ClientToken"].partition("-builder-")[2]
    ]
    zones = len(world.aws().ec2.describe_subnets()["Subnets"])
    assert asked == [*[("c7i.large", True)] * zones, *[("c6i.large", True)] * zones, ("c7i.large", False)]
    assert len({params["ClientToken"] for params in world.calls("run_instances")}) == len(asked) + 1


def test_no_room_anywhere_names_every_refusal(world: World) -> None:
    """With no capacity at all the error names every choice, and nothing is left."""
    world.layer.faults.append(Fault("run_instances", "InsufficientInstanceCapacity", "none", times=99))
    with pytest.raises(NoCapacity, match=r"on-demand c6i\.large in subnet-"):
        world.bake()
    assert leftovers(world) == []


def test_other_refusals_are_not_retried(world: World) -> None:
    """A refusal that no other type would change ends the bake at once."""
    world.layer.faults.append(Fault("run_instances", "UnauthorizedOperation", times=99))
    with pytest.raises(AwsRefused, match="lack this permission"):
        world.bake()
    assert len(world.calls("run_instances")) == 1


def test_throttles_are_botocores_business(world: World) -> None:
    """A throttled call is repeated by botocore's own standard retries, and the bake does not notice."""
    world.layer.faults.append(Fault("create_image", "RequestLimitExceeded", times=2))
    world.bake()
    assert len(world.calls("create_image")) == 3
    assert len([each for each in leftovers(world) if each.startswith("ami-")]) == 1


def test_new_things_may_be_denied(world: World) -> None:
    """A bake goes through while EC2 denies for a minute whatever it has just made."""
    world.layer.lags.hidden = 60
    world.bake()
    assert len(world.calls("create_image")) == 1


def test_a_wait_that_ends_is_resumed(world: World) -> None:
    """When the image takes too long the run is kept; resumed, it finishes with no second machine or image."""
    world.settings = SETTINGS.model_copy(update={"wait_limit_s": 1800.0})
    world.layer.lags.imaging = 7200
    with pytest.raises(WaitTimedOut) as caught:
        world.bake()
    run_id = only_run(world)
    assert f"--resume {run_id}" in caught.value.hint
    assert all(verdict.keep for verdict in world.sweep().plan().verdicts)
    launched = len(world.calls("run_instances"))
    world.clock.sleep(7200)
    manifest = world.resume(run_id)
    assert len(world.calls("create_image")) == 1
    builders = [params for params in world.calls("run_instances") if "-builder-" in params["ClientToken"]]
    assert len(builders) == launched
    assert world.channels().show("lab-gateway", "dev").image_id == (manifest.image and manifest.image.id)


def test_waits_grow_with_the_disk(world: World) -> None:
    """A large disk is waited for longer than botocore's ten minutes, up to the four hours of the settings."""
    world.layer.lags.imaging = 3.5 * 3600
    large = recipe(disk={"root_gib": 500, "base_gib": 1.4})
    assert world.bake(wanted=large).image is not None


def test_a_failed_image_says_why(world: World) -> None:
    """An image that fails ends the bake with AWS's reason, and is removed."""
    world.layer.image_fails = "Client.InvalidKMSKey.InvalidState: the KMS key is disabled"
    with pytest.raises(BuilderError, match="KMS key is disabled") as caught:
        world.bake()
    assert "KMS key" in caught.value.hint
    assert leftovers(world) == []


def test_a_failed_check_publishes_nothing(world: World) -> None:
    """A wrong answer moves no channel, leaves no image, and its evidence is kept."""

    def wrong(*_: object) -> Any:
        raise CheckFailed("check is-ready: the answer is 'nonsense'")

    with pytest.raises(CheckFailed, match="nonsense"):
        world.bake(inspect=wrong)
    assert leftovers(world) == []
    kept = world.runs / only_run(world) / "evidence"
    assert "nonsense" in (kept / "error.txt").read_text()
    assert {path.name for path in kept.iterdir()} >= {"console-node.log", "standing.txt"}


def test_forbidden_things_on_the_disk_fail_the_bake(world: World) -> None:
    """What is found on the image's own disk, attached to a node that did not boot it, publishes nothing."""
    world.answers["lsblk"] = Output("/etc/ssh/ssh_host_ed25519_key: every node would have the same\n", "", 0)
    with pytest.raises(CheckFailed, match="ssh_host_ed25519_key"):
        world.bake()
    (volume,) = world.calls("create_volume")
    assert volume["SnapshotId"].startswith("snap-")
    assert leftovers(world) == []


@pytest.mark.parametrize("wanted", ["abort", "ask"])
def test_on_error_abort_keeps_all(world: World, wanted: str) -> None:
    """Told to abort, a failed bake keeps its machines for a look, and can be resumed to the end."""
    world.layer.faults.append(Fault("stop_instances", "IncorrectInstanceState"))
    with pytest.raises(AwsRefused):
        world.bake(on_error=wanted, ask=lambda _: "abort")
    assert any(each.startswith("i-") for each in leftovers(world))
    world.resume(only_run(world))
    assert len(world.calls("create_image")) == 1


def test_a_finished_run_is_not_resumed(world: World) -> None:
    """A run that has published, or was cleaned up, is not gone on with; an unknown one is refused."""
    world.bake()
    with pytest.raises(RunError, match="was published"):
        world.resume(only_run(world))
    with pytest.raises(RunError, match="no run"):
        world.resume("20200101-000000-abcdef")


def test_cleaning_up_says_what_is_left(world: World) -> None:
    """What a clean-up cannot remove is named with the reason, after the error that led to it."""
    world.layer.faults.append(Fault("create_image", "UnauthorizedOperation"))
    world.layer.faults.append(Fault("delete_security_group", "UnauthorizedOperation", times=999))
    with pytest.raises(LeftBehind, match=r"creating image(.|\n)*security-group sg-"):
        world.bake()


def test_copies_are_whole_images(world: World) -> None:
    """Copies are encrypted under their own key, tagged, shared, dated, and require tokens, too."""
    world.settings = Ec2Settings.model_validate(KEYED)
    world.bake()
    for region in (REGION, OTHER_REGION):
        (image,) = world.aws(region).ec2.describe_images(Owners=["self"])["Images"]
        assert tags_of(image)[IMAGE_TAG] == "lab-gateway"
        assert image["ImdsSupport"] == "v2.0"
        assert image["DeprecationTime"]
        permissions = world.aws(region).ec2.describe_image_attribute(
            ImageId=image["ImageId"], Attribute="launchPermission"
        )
        assert permissions["LaunchPermissions"] == [{"UserId": "111122223333"}]
    (copied,) = world.calls("copy_image")
    assert (copied["Encrypted"], copied["CopyImageTags"], copied["KmsKeyId"]) == (True, True, "alias/images")


@pytest.mark.parametrize(
    "shared",
    [
        {"share_accounts": ["111122223333"]},
        {"share_organizations": ["arn:aws:organizations::1:organization/o-1"]},
    ],
)
@pytest.mark.parametrize("keys", [{}, {"kms_key_id": "alias/aws/ebs"}])
def test_sharing_under_the_default_key_is_refused(shared: dict[str, Any], keys: dict[str, Any]) -> None:
    """Nobody else can use an image under the account's default key: settings that share one are refused."""
    accounts = json.loads(json.dumps(shared).replace("::1:", "::111122223333:"))
    with pytest.raises(ValidationError, match="default key"):
        Ec2Settings.model_validate({"region": REGION, **accounts, **keys})


def test_the_manifest_hands_on_the_rate(world: World) -> None:
    """The manifest names the snapshots and the rate that the launch template shall ask for."""
    wanted = recipe(disk={"root_gib": 8, "base_gib": 1.4, "initialization_mib_s": 300})
    image = world.bake(wanted=wanted).image
    assert image is not None
    assert image.initialization_mib_s == 300
    assert image.snapshots
    described = world.aws().ec2.describe_images(ImageIds=[image.id])["Images"][0]
    assert image.snapshots == (described["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"],)


@pytest.mark.parametrize(("count", "most_recent", "said"), [(0, True, "is named"), (2, False, "most_recent")])
def test_the_base_image_is_one(world: World, count: int, most_recent: bool, said: str) -> None:
    """No base image, or several without most_recent, is refused before anything is made."""
    from tests.images.aws.world import publish_base

    base = {"owners": ["136693071363"], "name": f"debian-1{'2' if count else '9'}-*", "user": "admin"}
    if count:
        publish_base(world.aws(), "debian-12-amd64-20261001")
    with pytest.raises(ImagesError, match=said):
        world.bake(wanted=recipe(base={"ec2": {**base, "most_recent": most_recent}}))
    assert world.calls("run_instances") == []


def test_secrets_stay_out_of_the_log(world: World) -> None:
    """The run's private keys are its owner's alone while it lives, and are gone afterwards."""
    world.layer.faults.append(Fault("stop_instances", "IncorrectInstanceState"))
    with pytest.raises(AwsRefused):
        world.bake(on_error="abort")
    directory = world.runs / only_run(world)
    assert (directory / "key").stat().st_mode & 0o777 == 0o600
    world.resume(directory.name)
    assert not (directory / "key").exists()
    assert "PRIVATE" not in (directory / "steps.log").read_text()
