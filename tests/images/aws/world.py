"""A small account in moto under the layer, a machine that takes every command, and a bake in it."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from images.aws import Aws
from images.bake import Inspection, Options, bake, resume
from images.builders import Booted
from images.builders.ec2 import Ec2Builder
from images.builders.ec2_settings import Ec2Settings
from images.channels import Channels
from images.checks import refuse_failures, run_checks, wait_ready
from images.clock import Clock
from images.errors import CommandFailed
from images.manifest import CheckPart, Manifest
from images.recipe import Recipe, parse
from images.remote import Login, Output
from images.run import PART_TAG
from images.steps import Command, Facts, Upload
from images.sweep import Sweep
from tests.images.aws.layer import Layer, installed
from tests.images.aws.layer_parts import FakeClock, Lags

REGION, OTHER_REGION = "us-east-1", "eu-west-1"
STACK = "lab"
_OWNER = "136693071363"
_DIGEST = "0" * 64
FACTS = Facts("debian", "12", "bookworm", "x86_64", "admin")
_SEPARATOR = "-- goldenfleet --\n"
_INVENTORY = ("base-files\t12.4\tamd64\tii\n", "6.1.0-25-cloud-amd64\n", "\n")
_INSPECT = "docker image inspect "


SETTINGS = Ec2Settings.model_validate({"region": REGION, "our_address": "203.0.113.7"})


def recipe(**changes: Any) -> Recipe:
    """A gateway, which needs no weights; `changes` replace top-level tables."""
    return parse(
        {
            "name": "lab-gateway",
            "role": "gateway",
            "architecture": "x86_64",
            "boot_mode": "uefi-preferred",
            "launch_instance_types": ["c7i.large"],
            "base": {
                "ec2": {"owners": [_OWNER], "name": "debian-12-*", "most_recent": True, "user": "admin"}
            },
            "disk": {"root_gib": 8, "base_gib": 1.4},
            "builder": {"instance_types": ["c7i.large", "c6i.large"], "purchase": ["spot", "on-demand"]},
            "server": {
                "container": {"reference": f"registry.example/server@sha256:{_DIGEST}", "unpacked_gib": 0.25}
            },
            "checks": [{"name": "is-ready", "path": "/ready", "expect": {"regex": "ready"}}],
            **changes,
        },
        Path("/nowhere/lab-gateway.toml"),
    )


def weighty(**changes: Any) -> Recipe:
    """A model whose weights come on a volume of their own; `changes` replace top-level tables."""
    named: dict[str, Any] = {
        "name": "lab-model",
        "role": "model",
        "engine": {"kind": "embedded", "model": "goldenfleet-embedded"},
        "weights": {
            "strategy": "baked-volume",
            "files": [
                {"name": "w.bin", "url": "https://example.org/w", "sha256": "1" * 64, "bytes": 12 * 1024**3}
            ],
        },
        "disk": {
            "root_gib": 8,
            "base_gib": 1.4,
            "throughput_mib_s": 500,
            "iops": 4000,
            "initialization_mib_s": 300,
        },
    }
    return recipe(**{**named, **changes})


def _inventory(containers: list[str]) -> str:
    inspected = json.dumps([{"Id": f"sha256:{name}", "RepoDigests": [name]} for name in containers])
    return _SEPARATOR.join([*_INVENTORY, inspected])


@dataclass
class Machine:
    """A Remote that takes every command and knows which ones it was given."""

    login: Login
    commands: list[Command] = field(default_factory=list)
    answers: dict[str, Output] = field(default_factory=dict)
    """Part of a command line -> what the machine answers to it."""
    closed: bool = False

    def run(self, command: Command, *, check: bool = True) -> Output:
        self.commands.append(command)
        if _SEPARATOR.strip() in command.line:
            return Output(_inventory(command.line.rpartition(_INSPECT)[2].split()), "", 0)
        said = next((said for part, said in self.answers.items() if part in command.line), Output("", "", 0))
        if check and said.exit != 0:
            raise CommandFailed(f"{command.line}: {said.stderr}")
        return said

    def put(self, upload: Upload) -> None:
        raise AssertionError(f"nothing to upload in this recipe: {upload}")

    def facts(self) -> Facts:
        return FACTS

    def close(self) -> None:
        self.closed = True


@dataclass
class World:
    layer: Layer
    state: Path
    node_url: str = ""
    """Where the golden checks are really put; empty: the node is taken as ready."""
    settings: Ec2Settings = SETTINGS
    machines: list[Machine] = field(default_factory=list)
    answers: dict[str, Output] = field(default_factory=dict)
    regions: dict[str, Aws] = field(default_factory=dict)

    @property
    def clock(self) -> FakeClock:
        return self.layer.clock

    @property
    def runs(self) -> Path:
        return self.state / "runs"

    def aws(self, region: str = REGION) -> Aws:
        if region not in self.regions:
            self.regions[region] = Aws(REGION) if region == REGION else self.aws().at(region)
        return self.regions[region]

    def channels(self) -> Channels:
        return Channels(self.aws(), STACK, self.clock)

    def builder(self) -> Ec2Builder:
        return Ec2Builder(self.aws(), self.settings, self._connect)

    def options(self, **changes: Any) -> Options:
        return Options(**{"publisher": self.channels(), "inspect": self._inspect, **changes})

    def bake(self, seed: int = 1, wanted: Recipe | None = None, **changes: Any) -> Manifest:
        return bake(
            wanted or recipe(),
            self.builder(),
            runs=self.runs,
            stack=STACK,
            options=self.options(**changes),
            clock=self.clock,
            rng=random.Random(seed),
        )

    def resume(self, run_id: str, **changes: Any) -> Manifest:
        options = self.options(**changes)
        return resume(run_id, self.builder(), runs=self.runs, options=options, clock=self.clock)

    def sweep(self, runs: Path | None = None, **changes: Any) -> Sweep:
        regions = [self.aws(REGION), *(self.aws(copy.region) for copy in self.settings.copies)]
        return Sweep(regions, runs or self.runs, self.clock, **changes)

    def calls(self, action: str) -> list[Any]:
        return [call.params for call in self.layer.calls if call.action == action]

    def _connect(self, login: Login, deadline: float, clock: Clock) -> Machine:
        machine = Machine(login, answers=self.answers)
        self.machines.append(machine)
        return machine

    def _inspect(self, wanted: Recipe, booted: Booted) -> Inspection:
        if not self.node_url:
            return Inspection((CheckPart(name="is-ready", seconds=0.1),), 5.0)
        ready_after_s = wait_ready(self.node_url, deadline_s=5)
        results = run_checks(self.node_url, wanted.checks, model=None)
        refuse_failures(results)
        return Inspection(tuple(CheckPart(name=r.name, seconds=r.seconds) for r in results), ready_after_s)


@contextmanager
def in_process(
    state: Path, lags: Lags | None = None, regions: dict[str, Aws] | None = None
) -> Iterator[World]:
    """A fresh account in this process: a crash that is a fork takes AWS's state along.

    `regions` are clients to use again: making one takes longer than a bake.
    """
    from moto import mock_aws

    layer = Layer(FakeClock(), lags or Lags())
    with credentials(), mock_aws(), installed(layer):
        world = World(layer, state, regions=regions if regions is not None else {})
        publish_base(world.aws())
        yield world


@contextmanager
def credentials() -> Iterator[None]:
    wanted = {
        "AWS_ACCESS_KEY_ID": "lab",
        "AWS_SECRET_ACCESS_KEY": "lab",
        "AWS_DEFAULT_REGION": REGION,
        "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def publish_base(aws: Aws, name: str = "debian-12-amd64-20260901") -> str:
    """An AMI of Debian's, as its builder finds it."""
    from moto.ec2.models import ec2_backends

    image_id = aws.ec2.register_image(
        Name=name, RootDeviceName="/dev/xvda", Architecture="x86_64", VirtualizationType="hvm"
    )["ImageId"]
    image = ec2_backends["123456789012"][aws.region].amis[image_id]
    image.owner_id, image.state, image.architecture = _OWNER, "available", "x86_64"
    image.root_device_name = "/dev/xvda"
    return image_id


def leftovers(world: World) -> list[str]:
    """Everything in the account that a bake could have made: by moto's own books, not by our tags."""
    from moto.ec2.models import ec2_backends
    from moto.ssm.models import ssm_backends

    found = []
    for region in (REGION, OTHER_REGION):
        ec2 = ec2_backends["123456789012"][region]
        found += [i.id for r in ec2.reservations.values() for i in r.instances if i.state != "terminated"]
        found += [image.id for image in ec2.amis.values() if image.owner_id != _OWNER]
        base = {image.ebs_snapshot.id for image in ec2.amis.values() if image.owner_id == _OWNER}
        found += [snapshot for snapshot in ec2.snapshots if snapshot not in base]
        found += list(ec2.key_pairs)
        found += [g.id for groups in ec2.groups.values() for g in groups.values() if g.name != "default"]
        found += [volume.id for volume in ec2.volumes.values()]
        found += [name for name in ssm_backends["123456789012"][region]._parameters if "goldenfleet" in name]
    found += [sir.id for sir in world.layer.spot.values() if sir.persistent and sir.state == "active"]
    return found + world.layer.defects


def part_of(described: Any) -> str:
    return next(tag["Value"] for tag in described["Tags"] if tag["Key"] == PART_TAG)


Hook = Callable[[str], None]


@contextmanager
def hooked(before: Hook, after: Hook) -> Iterator[None]:
    """Call `before` and `after` around every call of every AWS client, with its name."""
    from botocore.client import BaseClient

    original = BaseClient._make_api_call  # type: ignore[attr-defined]

    def call(self: Any, operation: str, params: Any) -> Any:
        before(operation)
        answer = original(self, operation, params)
        after(operation)
        return answer

    BaseClient._make_api_call = call  # type: ignore[attr-defined]
    try:
        yield
    finally:
        BaseClient._make_api_call = original  # type: ignore[attr-defined]
