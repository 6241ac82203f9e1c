"""Where images are made: on EC2, or in a virtual machine on this one. `images.bake` drives both alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from images.remote import Remote
from images.run import Run
from images.steps import Command, Materials


@dataclass(frozen=True)
class Volume:
    """A volume that nodes get with the image, and what their launch template should ask for it."""

    holds: Literal["root", "weights"]
    device: str
    """As the image maps it, e.g. /dev/sdf; what the node's kernel calls it is another matter."""
    snapshot: str
    gib: int
    throughput_mib_s: int
    iops: int
    initialization_mib_s: int | None = None


@dataclass(frozen=True)
class Image:
    """What a bake makes, before anyone may launch it."""

    id: str
    """`ami-...`, or the path of a disk image."""
    name: str
    digest: str = ""
    """sha256 of a disk image; AMIs have none."""
    region: str = ""
    snapshots: tuple[str, ...] = ()
    """Ids of the snapshots below an AMI: what a launch template's VolumeInitializationRate is about."""
    volumes: tuple[Volume, ...] = ()
    """What each of the snapshots is for, the root first; local images have none."""
    copies: Mapping[str, str] = field(default_factory=dict)
    """Region -> image id of the copies made for other regions."""
    initialization_mib_s: int | None = None
    """VolumeInitializationRate that a launch template should ask for."""


@dataclass(frozen=True)
class Booted:
    """A fresh machine started from an image, not yet known to serve."""

    address: str
    ports: Mapping[int, int]
    """Port on the node -> port at `address` where it is reached."""
    asked_at: float | None
    """When the launch was asked for, in seconds since the epoch; None for a machine found running."""
    remote: Remote | None = None
    """A shell on it, where the builder can have one."""
    pause: Callable[[float], None] = time.sleep
    """How to wait for it: raises MachineFailed where it is known to be gone."""


class Builder(Protocol):
    """Every method may be called again for a run that it was called for before: it finds what is there."""

    @property
    def name(self) -> Literal["ec2", "local"]: ...

    def start(self, run: Run) -> Remote:
        """A bare machine that answers, or the one that this run has already."""
        ...

    def materials(self, run: Run) -> Materials:
        """What the steps need that depends on where they run."""
        ...

    def base(self, run: Run) -> str:
        """What the machine started from: an AMI's id, or a suite of a distribution."""
        ...

    def closing(self) -> tuple[Command, ...]:
        """What the machine must be told before it is cleaned: afterwards it is not touched."""
        ...

    def image(self, run: Run) -> Image:
        """Stop the machine and image it, or find this run's image.

        Raises WaitTimedOut while the image is still being made; calling again goes on waiting.
        """
        ...

    def boot(self, run: Run, image: Image) -> Booted:
        """A fresh machine from the image."""
        ...

    def forbidden(self, run: Run, image: Image, booted: Booted) -> tuple[str, ...]:
        """What the image's own disk, as no node has booted it, holds and must not: one line each."""
        ...

    def evidence(self, run: Run) -> Mapping[str, bytes]:
        """File name -> what the run's machines have printed, for the run directory."""
        ...

    def release(self, run: Run, image: Image) -> Image:
        """After the checks: copy, share and date the image as the settings say."""
        ...

    def discard(self, run: Run, *, keep_image: bool) -> None:
        """Remove everything that the run made, and its image unless it is kept. Raises LeftBehind."""
        ...

    def left(self, run: Run) -> tuple[str, ...]:
        """What the run has made and not removed, one line each, by what is known on this machine."""
        ...
