"""The user network that QEMU's slirp gives a guest, also to one that QEMU does not run."""

from __future__ import annotations

import shlex
import socket
import sys
from pathlib import Path

from images.machines.hardware import GUEST_ADDRESS, HOST_ALIAS, METADATA_ADDRESS, Hardware

_RELAY = Path(__file__).with_name("relay.py")
# slirp forwards addresses of its own network only. With this one a guest finds its metadata service, and no
# program in the guest has to be told another address.
_NETWORK = f"net=169.254.0.0/16,host={HOST_ALIAS},dns=169.254.0.3,dhcpstart={GUEST_ADDRESS}"


def slirp(hardware: Hardware) -> str:
    """The -netdev argument."""
    forwards = [
        f"hostfwd=tcp:{hardware.address}:{forward.host_port}-{GUEST_ADDRESS}:{forward.guest_port}"
        for forward in hardware.forwards
    ]
    metadata = []
    if hardware.metadata is not None:
        host, port = hardware.metadata
        relay = shlex.join([sys.executable, "-I", "-S", str(_RELAY), host, str(port)])
        metadata = [f"guestfwd=tcp:{METADATA_ADDRESS}:80-cmd:{relay}"]
    return ",".join(["user", "id=user", _NETWORK, *forwards, *metadata])


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
