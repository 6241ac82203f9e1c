"""The program run on Pulumi's mocks, in a process of its own, for each stack of the project."""

from __future__ import annotations

import functools
import json
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


def file_config(stack: str) -> dict[str, str]:
    """As the Pulumi engine hands it to a program: structured values as JSON text."""
    config = yaml.safe_load((PROJECT / f"Pulumi.{stack}.yaml").read_text())["config"]
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}


def published_images(stack: str, config: Mapping[str, str]) -> dict[str, str]:
    tiers = json.loads(config["goldenfleet:tiers"]).values()
    return {f"/goldenfleet/{stack}/image/{tier['recipe']}/{tier['channel']}": IMAGE_ID for tier in tiers}


def run(stack: str, config: Mapping[str, str], images: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).with_name("record.py")
    command = [sys.executable, str(script), stack, json.dumps(config), json.dumps(images)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@functools.cache
def recorded(stack: str) -> Registered:
    config = file_config(stack)
    done = run(stack, config, published_images(stack, config))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    resources = tuple(
        Resource(
            **{**r, "dependencies": tuple(r["dependencies"]), "ignore_changes": tuple(r["ignore_changes"])}
        )
        for r in document["resources"]
    )
    return Registered(stack, resources, document["outputs"])


@pytest.fixture(params=STACKS)
def registered(request: pytest.FixtureRequest) -> Registered:
    return recorded(request.param)


@pytest.fixture
def registered_prod() -> Registered:
    return recorded("prod")


@pytest.fixture
def registered_rehearsal() -> Registered:
    return recorded("rehearsal")


@pytest.fixture
def complaint() -> Callable[..., str]:
    """What the program says on stderr when it refuses the rehearsal stack with these changes."""

    def complain(changes: Mapping[str, str], images: Mapping[str, str] | None = None) -> str:
        config = {**file_config("rehearsal"), **changes}
        done = run("rehearsal", config, published_images("rehearsal", config) if images is None else images)
        assert done.returncode != 0
        return done.stderr

    return complain
