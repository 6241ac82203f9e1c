"""What a step consists of. Every other module of the package is a pure generator of these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Distribution = Literal["debian", "ubuntu", "amzn"]
Architecture = Literal["x86_64", "arm64"]
Strategy = Literal["baked-root", "baked-volume", "s3-nvme", "s3-stream"]


@dataclass(frozen=True)
class Command:
    """One line for a POSIX shell on the machine.

    Secrets and the contents of files travel in `stdin` and nowhere else: arguments and environment are
    visible to every process of the machine, and end up in logs.
    """

    line: str
    sudo: bool = False
    """Run the whole line as root: `sudo -n sh -c LINE`."""
    stdin: bytes | None = field(default=None, repr=False)
    timeout_s: float = 600
    retries: int = 0
    """Further attempts after a failure; only for commands that may run twice."""
    secret: bool = False
    """`stdin` is a secret, and so may be what the command prints: neither is logged."""


@dataclass(frozen=True)
class Upload:
    """A local file for the machine. `target` is owned by root, and its directory exists."""

    source: Path
    target: str
    mode: int = 0o644
    timeout_s: float = 3600


Action = Command | Upload


@dataclass(frozen=True)
class NamedStep:
    """Actions that succeed or fail together; `name` is what a person sees in the progress."""

    name: str
    actions: tuple[Action, ...]

    @property
    def commands(self) -> tuple[Command, ...]:
        return tuple(action for action in self.actions if isinstance(action, Command))


@dataclass(frozen=True)
class Facts:
    """What a machine says of itself; see `images.steps.facts`."""

    distribution: Distribution
    version: str
    codename: str
    architecture: Architecture
    user: str
    """Who we are logged in as; its authorized_keys go last."""
    gpu: bool = False
    """An NVIDIA device is on the PCI bus. A GPU image can be baked without one."""
    cloud_init: bool = True
    docker_present: bool = False
    kernel: str = ""


@dataclass(frozen=True)
class MachineQuirks:
    """What steps do differently because of the machine that the image is baked on, and will run on."""

    iptables_legacy: bool = False
    """The kernel has no nf_tables (User-mode Linux)."""


@dataclass(frozen=True)
class Materials:
    """What steps need that neither the recipe nor the machine knows. Its repr shows no secret."""

    run_id: str
    strategy: Strategy | None = None
    """The plan's choice; by default the recipe's."""
    archive_sha256: Mapping[str, str] = field(default_factory=dict)
    """Container archive as the recipe names it -> its digest, for those of `local-build`."""
    weights_device: str | None = None
    """Second volume of a `baked-volume` builder, by its own name: numbers of NVMe devices say nothing.

    E.g. /dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0.
    """
    registry_passwords: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """Registry host -> password for user AWS, from ecr:GetAuthorizationToken."""
    weight_urls: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """Name of a weight file -> its https:// URL, signed by the baker where the recipe says s3://."""
    hub_token: bytes | None = field(default=None, repr=False)
    quirks: MachineQuirks = MachineQuirks()
