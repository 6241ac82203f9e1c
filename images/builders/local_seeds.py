"""What local machines are told at their first boot, as instances are by user data."""

from __future__ import annotations

from images.keys import KeyPair
from images.machines.seed import Seed, cloud_config, instance_environment

FAST_DPKG = "/etc/dpkg/dpkg.cfg.d/goldenfleet-builder"
"""A builder whose power is cut is thrown away: its packages need not reach the disk one by one."""


def builder_seed(run_id: str, user: KeyPair, host: KeyPair) -> Seed:
    """Lets us in, and gives the machine the host key that we pin."""
    user_data = {
        "ssh_authorized_keys": [user.public],
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": host.private.decode(), "ed25519_public": host.public},
        "ssh_pwauth": False,
        "write_files": [{"path": FAST_DPKG, "content": "force-unsafe-io\n"}],
    }
    return Seed(f"builder-{run_id}", cloud_config(user_data))


def node_seed(run_id: str, role: str, stack: str) -> Seed:
    """A node without AWS: the user data of the fleet's launch template, and nothing read from SSM or IMDS."""
    user_data = f"#!/bin/sh\nexec goldenfleet-boot --role {role} --stack {stack} --standalone\n"
    return Seed(f"node-{run_id}", user_data, instance_environment("GOLDENFLEET_IMDS_ENDPOINT=off\n"))
