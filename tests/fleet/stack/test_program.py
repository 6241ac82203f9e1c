"""What the program makes as a whole, and what it refuses, in every stack of the project."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from fleet.policy.kinds import UNTAGGABLE
from fleet.stack.image import unread
from fleet.stack.settings import load_settings
from server.settings import load_settings as load_server_settings
from tests.fleet.stack.conftest import IMAGE_ID, PROJECT, Registered

TIERS = ("gateway", "model")


def test_every_resource_is_tagged(registered: Registered) -> None:
    """Stack and tier are on all that can have tags, and a tier's are its own."""
    tagged = [r for r in registered.resources if r.type.startswith("aws:") and r.type not in UNTAGGABLE]
    for resource in tagged:
        tags = resource.inputs["tags"]
        if isinstance(tags, list):
            kept = {tag["key"] for tag in tags if not tag["propagateAtLaunch"]}
            assert kept <= {"goldenfleet:fallback"}
            tags = {tag["key"]: tag["value"] for tag in tags}
        assert tags["goldenfleet:stack"] == registered.stack, resource.urn
        assert tags["goldenfleet:tier"] in {*TIERS, "shared"}, resource.urn
    for tier in TIERS:
        for kind in ("autoscaling/group:Group", "lb/targetGroup:TargetGroup", "lb/loadBalancer:LoadBalancer"):
            assert f"'{tier}'" in str(registered.one(kind, tier).inputs["tags"])


@pytest.mark.parametrize("tier", TIERS)
def test_instances_and_volumes_are_tagged_at_launch(registered: Registered, tier: str) -> None:
    """The control handler knows its own by the instance's tags, and the image is told."""
    template = registered.one("ec2/launchTemplate:LaunchTemplate", tier)
    specifications = {s["resourceType"]: s["tags"] for s in template.inputs["tagSpecifications"]}
    assert set(specifications) == {"instance", "volume"}
    for tags in specifications.values():
        assert tags["goldenfleet:stack"] == registered.stack
        assert tags["goldenfleet:tier"] == tier
        assert tags["goldenfleet:image"] == IMAGE_ID


def test_names_leave_room_for_the_suffix(registered: Registered) -> None:
    """pulumi-aws appends eight characters, and load balancers and target groups hold 32."""
    for kind in ("lb/loadBalancer:LoadBalancer", "lb/targetGroup:TargetGroup"):
        assert all(len(r.name) <= 24 for r in registered.of(kind))


def test_nodes_are_told_what_they_boot_with(registered: Registered) -> None:
    """Gateways where the model nodes and the keys are, model nodes their engine; only a rehearsal is open."""
    targets = registered.one("lb/targetGroup:TargetGroup", "model")
    values = {
        p.inputs["name"]: json.loads(p.inputs["insecureValue"])
        for p in registered.of("ssm/parameter:Parameter")
    }
    engine = "embedded" if registered.stack == "rehearsal" else "vllm"
    path = f"/goldenfleet/{registered.stack}/tier"
    blocks = load_settings(PROJECT, registered.stack).network.public_blocks
    secured = {"auth": "on", "keys": f"ssm:/goldenfleet/{registered.stack}/keys"}
    common = {"node_metrics": "on", "access_log": "troubled", "keep_alive_seconds": 315}
    assert values == {
        f"{path}/gateway/config": {
            "nodes": f"target-group:arn:aws:{targets.type}:{targets.name}",
            "proxies": ",".join(map(str, blocks)),
            **common,
            **({"auth": "off"} if registered.stack == "rehearsal" else secured),
        },
        f"{path}/model/config": {"engine": engine, "scaling_metric": "on", **common},
    }


def test_servers_accept_what_nodes_are_told(registered: Registered) -> None:
    """The two meet only in this JSON, so a key that one of them renames shows here."""
    for tier in TIERS:
        told = json.loads(registered.one("ssm/parameter:Parameter", f"{tier}-config").inputs["insecureValue"])
        settings = load_server_settings(role=tier, stack=registered.stack, tier_config=told, environ={})
        assert {key: getattr(settings, key) for key in told} == told


def test_outputs_tell_what_others_go_by(registered_rehearsal: Registered) -> None:
    """Exactly the names that the rehearsal and the control handler read."""
    outputs = registered_rehearsal.outputs
    prefix = "gf-rehearsal"
    assert set(outputs) == {
        "endpoint",
        "loadBalancerArn",
        "loadBalancerDns",
        "noticeQueueUrl",
        "noticeQueueArn",
        "tiers",
        "control",
    }
    assert outputs["endpoint"] == f"http://{outputs['loadBalancerDns']}"
    assert outputs["noticeQueueUrl"] == f"https://sqs.test/{prefix}-notices"
    assert outputs["tiers"]["model"] == {
        "autoScalingGroup": f"{prefix}-model-1a2b3c4",
        "targetGroupArn": f"arn:aws:aws:lb/targetGroup:TargetGroup:{prefix}-model",
        "launchTemplateId": registered_rehearsal.one("ec2/launchTemplate:LaunchTemplate", "model").id,
        "launchTemplateVersion": 7,
        "port": 8080,
        "imageId": IMAGE_ID,
    }
    assert set(outputs["tiers"]) == set(TIERS)


def test_a_missing_image_is_named(refusal: Callable[[str], str]) -> None:
    """Which parameter is empty, and the command that fills it."""
    said = refusal("no image")
    assert "no image is published at /goldenfleet/rehearsal/image/rehearsal/dev" in said
    assert "goldenfleet images bake rehearsal --stack rehearsal" in said


@pytest.mark.parametrize(
    ("why", "says"),
    [
        ("ParameterNotFound: Parameter /p not found.", "no image is published at /p"),
        ("reading SSM Parameter (/p): couldn't find resource", "no image is published at /p"),
        ("AccessDeniedException: not authorized to perform ssm:GetParameter", "/p cannot be read"),
        ("Could not connect to the endpoint URL", "/p cannot be read"),
    ],
)
def test_a_channel_that_cannot_be_looked_at_is_not_taken_for_an_empty_one(why: str, says: str) -> None:
    """Nobody bakes an image because a permission is missing."""
    error = unread("/p", why, "Bake one.")
    assert error.message.startswith(says)
    assert (error.hint == "Bake one.") == ("no image" in says)


def test_a_parameter_that_holds_no_image_id_is_refused(refusal: Callable[[str], str]) -> None:
    """What it holds is shown."""
    assert "holds 'latest', which is no image id" in refusal("no image id")


def test_a_rate_that_ebs_refuses_is_refused(refusal: Callable[[str], str]) -> None:
    """Before anything is made, with the parameter and the number."""
    said = refusal("rate out of range")
    assert f"/goldenfleet/rehearsal/launch/{IMAGE_ID}/volumes cannot be used" in said
    assert "initialization_mib_s: Input should be less than or equal to 300, not 500" in said


def test_a_root_smaller_than_the_images_is_refused(refusal: Callable[[str], str]) -> None:
    """Auto Scaling would find out at the first launch, and launch nothing."""
    said = refusal("root too small")
    assert "tiers.gateway.volumes.rootGib is 16, and the root volume" in said
    assert "raise it to 17" in said


def test_an_image_of_another_processor_is_refused(refusal: Callable[[str], str]) -> None:
    """It would launch nowhere."""
    assert "built for x86_64: not for c7g.large" in refusal("other processor")


def test_a_region_with_too_few_zones_is_refused(refusal: Callable[[str], str]) -> None:
    """Local zones do not count."""
    assert "goldenfleet:network.zones is 5, and the region has 4" in refusal("too few zones")


def test_unknown_keys_reach_the_program_and_are_refused(refusal: Callable[[str], str]) -> None:
    """Also at the top level, where pulumi.Config would pass them over."""
    assert "goldenfleet:tier: there is no such setting" in refusal("unknown key")
