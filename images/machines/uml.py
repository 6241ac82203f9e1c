"""User-mode Linux as processes: the kernel itself, and a QEMU without a machine as its network.

A QEMU process that has no processors still runs slirp, so guests have DHCP, DNS and the Internet without root
on the host. Frames pass over a socket pair, which outlasts a reboot: the kernel starts itself anew in the
same process and finds it open, where a socket of its own would still hold its port.
User-mode Linux is no wall: root in the guest may mount the host's files (hostfs) with the rights of whoever
runs it. Boot only images that were baked here.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from images.machines.hardware import SCRATCH, WIRE, Hardware, Program, Programs
from images.machines.network import slirp
from images.machines.tools import find

MODULES = Path("/usr/lib/uml/modules")
_INIT = f"mount -t hostfs none /lib/modules -o {MODULES}; exec /lib/systemd/systemd"
_SHARED_MEMORY = "/dev/shm"  # noqa: S108  only where the kernel unlinks its file at once
_MAC = "52:54:00:12:34:56"


def programs(hardware: Hardware) -> Programs:
    """What to run for this machine. Raises MachineFailed when a program is not installed."""
    return Programs(
        main=Program(_kernel(hardware), hardware.console, environment()),
        others=(Program(_network(hardware), hardware.directory / "network.log"),),
    )


def _kernel(hardware: Hardware) -> tuple[str, ...]:
    root = f"{hardware.overlay_path},{hardware.disk}" if hardware.overlay else f"{hardware.disk}"
    return (
        find("linux.uml"),
        f"ubd0={root}",
        *(f"ubd{number}r={disk}" for number, disk in enumerate(hardware.read_only_disks, 1)),
        f"mem={hardware.memory_mib}M",
        "root=/dev/ubda",
        "ro",
        "con=null",
        "con0=null,fd:1",
        "ssl=null",
        f"uml_dir={SCRATCH}",
        "umid=vm",
        f"vec0:transport=fd,fd={WIRE},depth=64,mac={_MAC}",
        "quiet",
        # udev would look at each of 512 terminals that nobody uses.
        "pty.legacy_count=0",
        "init=/bin/sh",
        "--",
        "-c",
        f'"{_INIT}"',
    )


def _network(hardware: Hardware) -> tuple[str, ...]:
    return (
        find("qemu-system-x86_64"),
        *("-M", "none", "-nodefaults", "-no-user-config", "-display", "none"),
        *("-netdev", slirp(hardware)),
        *("-netdev", f"dgram,id=wire,local.type=fd,local.str={WIRE}"),
        *("-netdev", "hubport,id=port1,hubid=0,netdev=user"),
        *("-netdev", "hubport,id=port2,hubid=0,netdev=wire"),
    )


def proof() -> tuple[tuple[str, ...], bytes]:
    """A guest that adds two numbers on the host's own files, and what it then says."""
    scratch = tempfile.gettempdir()
    left, right = secrets.randbelow(10**6), secrets.randbelow(10**6)
    argv = (
        find("linux.uml"),
        *("mem=64M", "rootfstype=hostfs", "rootflags=/", "ro", "quiet"),
        *("con=null", "con0=null,fd:1", "ssl=null", f"uml_dir={scratch}"),
        *("init=/bin/sh", "--", "-c", f'"echo sum=$(({left}+{right})).; exec sleep 60"'),
    )
    return argv, f"sum={left + right}.".encode()


def environment() -> dict[str, str]:
    """Guest memory is a file under TMPDIR: on a disk it would be written back all the time."""
    return {"TMPDIR": _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else tempfile.gettempdir()}
