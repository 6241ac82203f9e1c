"""What a virtual machine consists of, whatever runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Accelerator = Literal["kvm", "uml", "tcg"]
"""KVM and TCG are QEMU's; `uml` is User-mode Linux, a kernel that is an ordinary process."""

HOST_ALIAS = "169.254.0.2"
"""Where a guest reaches this host's 127.0.0.1."""
GUEST_ADDRESS = "169.254.0.15"
METADATA_ADDRESS = "169.254.169.254"


@dataclass(frozen=True)
class Forward:
    """A port of `Hardware.address` that leads to a port of the guest."""

    host_port: int
    guest_port: int


@dataclass(frozen=True)
class Hardware:
    disk: Path
    """Raw, one ext4 file system labelled `root`. Written to, unless there is an overlay."""
    directory: Path
    """For the console, sockets and overlay of this one machine."""
    overlay: bool = False
    read_only_disks: tuple[Path, ...] = ()
    """The first may be cloud-init's seed."""
    address: str = "127.0.0.1"
    """Any address in 127.0.0.0/8: where forwarded ports listen."""
    forwards: tuple[Forward, ...] = ()
    metadata: tuple[str, int] | None = None
    """Address and port on this host that the guest sees as 169.254.169.254:80."""
    memory_mib: int = 1024
    processors: int = 2

    @property
    def console(self) -> Path:
        return self.directory / "console.log"

    @property
    def overlay_path(self) -> Path:
        return self.directory / "overlay"


WIRE, SCRATCH = "@WIRE@", "@SCRATCH@"


@dataclass(frozen=True)
class Program:
    """One process of a machine. Its output is appended to `log`.

    In its arguments WIRE stands for a file descriptor: one end of a datagram socket pair, whose other end the
    machine's other program has. SCRATCH stands for a directory with a short path, gone when the machine is.
    """

    argv: tuple[str, ...]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Programs:
    """What runs a machine: it is over when `main` is, and cannot go on without the others."""

    main: Program
    others: tuple[Program, ...] = ()
