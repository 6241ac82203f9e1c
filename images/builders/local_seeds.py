"""What local machines are told at their first boot, as instances are by user data."""

from __future__ import annotations

from images.keys import KeyPair
from images.machines.seed import Seed, cloud_config

INSTANCE_ENVIRONMENT = "/etc/goldenfleet/instance.env"
"""Settings of one instance; see images/files/goldenfleet-server.service."""


def builder_seed(run_id: str, user: KeyPair, host: KeyPair) -> Seed:
    """Lets us in, and gives the machine the host key that we pin."""
    user_data = {
        "ssh_authorized_keys": [user.public],
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": host.private.decode(), "ed25519_public": host.public},
        "ssh_pwauth": False,
    }
    return Seed(f"builder-{run_id}", cloud_config(user_data))


def node_seed(run_id: str, role: str, stack: str) -> Seed:
    """A node without AWS: the user data of the fleet's launch template, and nothing read from SSM or IMDS."""
    user_data = f"#!/bin/sh\nexec goldenfleet-boot --role {role} --stack {stack} --standalone\n"
    return Seed(f"node-{run_id}", user_data, instance_environment("GOLDENFLEET_IMDS_ENDPOINT=off\n"))


def instance_environment(content: str) -> str:
    """Vendor data that writes the settings before user data runs. NAME=VALUE lines."""
    file = {"path": INSTANCE_ENVIRONMENT, "content": content, "permissions": "0600"}
    return cloud_config({"write_files": [file]})
