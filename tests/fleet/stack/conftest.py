"""The program run on Pulumi's mocks, in a process of its own, for each stack of the project."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).parents[3]
STACKS = ("rehearsal", "dev", "stage", "prod")
IMAGE_ID = "ami-0123456789abcdef0"


@dataclass(frozen=True)
class Resource:
    urn: str
    id: str
    type: str
    name: str
    inputs: Mapping[str, Any]
    dependencies: tuple[str, ...]
    ignore_changes: tuple[str, ...]
    retain: bool
    refs: Mapping[str, list[str]]
    """Argument -> URNs of the resources that its value comes from."""


@dataclass(frozen=True)
class Registered:
    stack: str
    resources: tuple[Resource, ...]
    outputs: Mapping[str, Any]

    def of(self, kind: str) -> list[Resource]:
        """Resources of type aws:`kind`; fails where there is none."""
        found = [r for r in self.resources if r.type == f"aws:{kind}"]
        assert found, f"no {kind} in {self.stack}"
        return found

    def one(self, kind: str, part: str) -> Resource:
        (found,) = [r for r in self.of(kind) if r.name == f"gf-{self.stack}-{part}"]
        return found

    def security_groups(self) -> Mapping[str, str]:
        """By id, without the stack's part of the name."""
        prefix = f"gf-{self.stack}-"
        return {g.id: g.name.removeprefix(prefix) for g in self.of("ec2/securityGroup:SecurityGroup")}


def file_config(stack: str) -> dict[str, str]:
    """As the Pulumi engine hands it to a program: structured values as JSON text."""
    config = yaml.safe_load((PROJECT / f"Pulumi.{stack}.yaml").read_text())["config"]
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}


def published_images(stack: str, config: Mapping[str, str]) -> dict[str, str]:
    tiers = json.loads(config["goldenfleet:tiers"])
    return {f"/goldenfleet/{stack}/image/{tier['recipe']}/{tier['channel']}": IMAGE_ID for tier in tiers}


VOLUMES_PARAMETER = f"/goldenfleet/{{stack}}/launch/{IMAGE_ID}/volumes"
BOOT_PARAMETER = f"/goldenfleet/{{stack}}/launch/{IMAGE_ID}/boot"
ROOT_VOLUME: Mapping[str, Any] = {
    "holds": "root",
    "device": "/dev/sda1",
    "snapshot": "snap-1",
    "gib": 8,
    "throughput_mib_s": 125,
    "iops": 3000,
    "initialization_mib_s": None,
}
WEIGHTS_VOLUME: Mapping[str, Any] = {
    "holds": "weights",
    "device": "/dev/sdf",
    "snapshot": "snap-2",
    "gib": 17,
    "throughput_mib_s": 500,
    "iops": 4000,
    "initialization_mib_s": 300,
}


def volumes(*asked: Mapping[str, Any]) -> dict[str, str]:
    """The parameter that a bake has written of the rehearsal stack's image."""
    text = json.dumps({"format": 1, "volumes": asked})
    return {VOLUMES_PARAMETER.format(stack="rehearsal"): text}


def boot_time(seconds: float) -> dict[str, str]:
    """The parameter that a bake has written of how long the rehearsal stack's image takes to serve."""
    name = BOOT_PARAMETER.format(stack="rehearsal")
    return {name: json.dumps({"format": 1, "launch_to_ready_s": seconds})}


def asking_images() -> dict[str, dict[str, str]]:
    """Name -> what the rehearsal stack's image asks of its volumes."""
    fast_root = {**ROOT_VOLUME, "throughput_mib_s": 1000, "iops": 5000, "initialization_mib_s": 200}
    return {
        "weights volume": volumes(ROOT_VOLUME, WEIGHTS_VOLUME),
        "weights on the root": volumes(fast_root),
        "own pace": volumes(ROOT_VOLUME, {**WEIGHTS_VOLUME, "initialization_mib_s": None}),
    }


def arm_tiers() -> str:
    tiers = json.loads(file_config("rehearsal")["goldenfleet:tiers"])
    for tier in tiers:
        tier["purchase"]["instanceTypes"] = ["c7g.large"]
    return json.dumps(tiers)


PUBLIC, PRIVATE = ["subnet-0000000a", "subnet-0000000b"], ["subnet-0000000c", "subnet-0000000d"]
EXISTING = {"vpcId": "vpc-0000000a", "publicSubnetIds": PUBLIC, "privateSubnetIds": PRIVATE}


def tiers_with(changes: Mapping[str, Any], *more: Mapping[str, Any], gateway: Mapping[str, Any] = {}) -> str:
    """The rehearsal's tiers, the model tier with `changes`, and one more tier like it for each of `more`."""
    first, model = json.loads(file_config("rehearsal")["goldenfleet:tiers"])
    return json.dumps([{**first, **gateway}, {**model, **changes}, *({**model, **each} for each in more)])


def shapes() -> dict[str, dict[str, str]]:
    """Name -> configuration of a stack that no file of the project has."""
    fitting = {"vcpus": {"min": 4, "max": 16}, "memoryGib": {"min": 16}, "gpus": {"min": 1, "max": 1}}
    weighed = {"instanceTypes": ["c7i.xlarge", "c7i.2xlarge"], "weights": {"c7i.xlarge": 1, "c7i.2xlarge": 2}}
    waiting = {"instanceTypes": ["c7i.xlarge"], "onDemandBase": 1, "onDemandPercent": 100}
    day = {"name": "day", "cron": "0 8 * * 1-5", "timeZone": "Europe/Zurich", "min": 2, "desired": 4}
    night = {"name": "night", "cron": "0 20 * * *", "min": 1, "max": 3}
    follows = {"predictive": {"metric": "in-flight", "mode": "forecast-and-scale", "aheadSeconds": 600}}
    tiers = {
        "by the clock": tiers_with({"scaling": {"schedules": [day, night], "scaleIn": False}}),
        "forecast": tiers_with(
            {"scaling": {**follows, "inFlightPerNode": 8, "inFlightSeconds": 10, "cpuTargetPercent": None}},
            gateway={"scaling": {"predictive": {"metric": "requests"}}},
        ),
        "forecast of CPU": tiers_with(
            {"scaling": {"predictive": {"metric": "cpu"}, "inFlightPerNode": None}},
            gateway={"scaling": {"requestsPerTarget": None}},
        ),
        "two model tiers": tiers_with({}, {"name": "second", "model": "other-model"}),
        "requirements": tiers_with(
            {"purchase": {"requirements": {**fitting, "gpuMemoryGib": {"min": 22}}, "onDemandBase": 1}}
        ),
        "weights": tiers_with({"purchase": {**weighed, "onDemandBase": 1}}),
        "warm pool": tiers_with({"purchase": waiting, "warmPool": {"min": 1, "maxPrepared": 4}}),
        "short drain": tiers_with({"drain": {"deregistrationDelaySeconds": 20, "hookSeconds": 30}}),
    }
    networks = {
        "existing network": {"existing": EXISTING},
        "no way out": {"nat": "none", "endpoints": True},
    }
    return {
        **{name: {"goldenfleet:tiers": value} for name, value in tiers.items()},
        **{name: {"goldenfleet:network": json.dumps(value)} for name, value in networks.items()},
    }


def existing(**changes: Any) -> dict[str, Any]:
    return {"config": {"goldenfleet:network": json.dumps({"existing": {**EXISTING, **changes}})}}


def refused_changes() -> dict[str, dict[str, Any]]:
    """Name -> what is wrong with the rehearsal stack's configuration, or with the images that it finds."""
    parameter = "/goldenfleet/rehearsal/image/rehearsal/dev"
    return {
        "no image": {"images": {}},
        "no image id": {"images": {parameter: "latest"}},
        "other processor": {"config": {"goldenfleet:tiers": arm_tiers()}},
        "boot time out of range": {"more": boot_time(-3)},
        "slow boot": {"more": boot_time(301)},
        "rate out of range": {"more": volumes({**WEIGHTS_VOLUME, "initialization_mib_s": 500})},
        "root too small": {"more": volumes({**ROOT_VOLUME, "gib": 17})},
        "too few zones": {"config": {"goldenfleet:network": '{"zones": 5}'}},
        "foreign subnets": existing(vpcId="vpc-0000000b"),
        "private subnets in public": existing(publicSubnetIds=PRIVATE, privateSubnetIds=PUBLIC),
        "one zone": existing(privateSubnetIds=["subnet-0000000d", "subnet-0000000e"]),
        "no such subnet": existing(publicSubnetIds=[PUBLIC[0], "subnet-0000000f"]),
        "unknown key": {"config": {"goldenfleet:tier": "{}"}},
    }


def told_alarms() -> dict[str, dict[str, Any]]:
    """Name -> where the rehearsal stack's alarms go."""
    topic = '{"topicArn": "arn:aws:sns:us-east-1:123456789012:pager"}'
    return {
        "alarms by mail": {"config": {"goldenfleet:alarms": '{"email": "oncall@example.com"}'}},
        "alarms to a topic": {"config": {"goldenfleet:alarms": topic}},
    }


BOUNDARY = "arn:aws:iam::123456789012:policy/bounded"
SHARED_LIMITS = {"limitsUrl": "ssm:/ours/redis", "limitsSecurityGroup": "sg-0123abcd", "limitsPort": 6380}
TRACED = {"tracesUrl": "https://traces.example.com/otel", "tracesHeaders": "secretsmanager:ours/traces"}


def secured() -> dict[str, dict[str, str]]:
    """Name -> what makes the rehearsal stack safer than it need be."""
    existing = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    acl = "arn:aws:wafv2:us-east-1:123456789012:regional/webacl/ours/1234abcd-12ab-34cd-56ef-1234567890ab"
    whole = {
        "security": {
            "key": "own",
            "accessLogs": True,
            "flowLogs": True,
            "logsKeptDays": 30,
            "permissionsBoundary": BOUNDARY,
            "interruptions": True,
        },
        "edge": {"waf": "managed"},
        "network": {"nat": "none", "endpoints": True},
    }
    given = {"security": {"key": existing, "flowLogs": True}, "edge": {"waf": acl}}
    gateway, model = json.loads(file_config("rehearsal")["goldenfleet:tiers"])
    reading = {**model, "engine": "llama-server", "weightsFrom": ["s3://models/llama", "s3://theirs/"]}
    settings: dict[str, dict[str, Any]] = {
        "secured": whole,
        "given key and acl": given,
        "doors": {"network": {"endpoints": True}},
        "told": {
            "security": {"key": existing},
            "access": SHARED_LIMITS,
            "telemetry": TRACED,
            "tiers": [gateway, reading],
        },
    }
    return {
        name: {f"goldenfleet:{key}": json.dumps(value) for key, value in group.items()}
        for name, group in settings.items()
    }


def runs() -> dict[str, dict[str, Any]]:
    configs = {stack: file_config(stack) for stack in STACKS}
    good = {
        stack: {"stack": stack, "config": config, "images": published_images(stack, config)}
        for stack, config in configs.items()
    }
    base = good["rehearsal"]
    bad = {name: _changed(base, **change) for name, change in refused_changes().items()}
    asking = {name: _changed(base, more=more) for name, more in asking_images().items()}
    told = {name: _changed(base, **change) for name, change in told_alarms().items()}
    booted = {"measured": _changed(base, more=boot_time(87.2))}
    shaped = {name: _changed(base, config=config) for name, config in shapes().items()}
    safe = {name: _changed(base, config=config) for name, config in secured().items()}
    return {**good, **bad, **asking, **booted, **told, **shaped, **safe}


def _changed(
    base: dict[str, Any],
    *,
    config: Mapping[str, str] | None = None,
    images: Mapping[str, str] | None = None,
    more: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    published = base["images"] if images is None else images
    return {**base, "config": {**base["config"], **(config or {})}, "images": {**published, **(more or {})}}


def record_all() -> str:
    command = [sys.executable, str(Path(__file__).with_name("record.py"))]
    done = subprocess.run(
        command, input=json.dumps(runs()), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Name -> result of each of `runs`, made once for all workers of pytest-xdist."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return json.loads(record_all())  # type: ignore[no-any-return]
    kept = tmp_path_factory.getbasetemp().parent / "stack-runs.json"
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            kept.write_text(record_all())
    return json.loads(kept.read_text())  # type: ignore[no-any-return]


def parsed(recorded: Mapping[str, Any], stack: str) -> Registered:
    document = recorded[stack]
    assert "refusal" not in document, document["refusal"]
    resources = tuple(
        Resource(
            **{**r, "dependencies": tuple(r["dependencies"]), "ignore_changes": tuple(r["ignore_changes"])}
        )
        for r in document["resources"]
    )
    return Registered(stack, resources, document["outputs"])


@pytest.fixture(params=STACKS)
def registered(request: pytest.FixtureRequest, recorded: dict[str, Any]) -> Registered:
    return parsed(recorded, request.param)


@pytest.fixture
def registered_prod(recorded: dict[str, Any]) -> Registered:
    return parsed(recorded, "prod")


@pytest.fixture
def registered_rehearsal(recorded: dict[str, Any]) -> Registered:
    return parsed(recorded, "rehearsal")


@pytest.fixture
def mappings(recorded: dict[str, Any]) -> Callable[[str], list[dict[str, Any]]]:
    """Block device mappings of the model tier's template, for one of `asking_images`."""

    def of(name: str) -> list[dict[str, Any]]:
        made = {**recorded, "rehearsal": recorded[name]}
        template = parsed(made, "rehearsal").one("ec2/launchTemplate:LaunchTemplate", "model")
        return list(template.inputs["blockDeviceMappings"])

    return of


@pytest.fixture
def shape(recorded: dict[str, Any]) -> Callable[[str], Registered]:
    """What was registered for one of `shapes`."""
    return lambda name: parsed({"rehearsal": recorded[name]}, "rehearsal")


@pytest.fixture
def refusal(recorded: dict[str, Any]) -> Callable[[str], str]:
    """What the program says to one of `refused_changes`."""
    return lambda name: str(recorded[name]["refusal"])


Made = Callable[[str], Registered]


@pytest.fixture
def made(recorded: dict[str, Any]) -> Made:
    """The rehearsal stack as one of `secured` makes it."""
    return lambda name: parsed({**recorded, "rehearsal": recorded[name]}, "rehearsal")
