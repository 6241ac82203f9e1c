"""cloud-init's NoCloud seed: the disk by which a local machine is told what EC2 tells by user data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from images.machines.tools import run, scratch

INSTANCE_ENVIRONMENT = "/etc/goldenfleet/instance.env"
"""Settings of one instance; see images/files/goldenfleet-server.service."""


@dataclass(frozen=True)
class Seed:
    instance_id: str
    """cloud-init takes a machine for new when this differs from what its disk remembers."""
    user_data: str
    vendor_data: str = ""
    """What the platform adds; user data has the last word."""


def cloud_config(content: Mapping[str, object]) -> str:
    """JSON is YAML, and keys with newlines need no quoting of our own."""
    return f"#cloud-config\n{json.dumps(content, sort_keys=True)}\n"


def instance_environment(content: str) -> str:
    """Vendor data that writes the settings before user data runs. NAME=VALUE lines."""
    file = {"path": INSTANCE_ENVIRONMENT, "content": content, "permissions": "0600"}
    return cloud_config({"write_files": [file]})


def write_seed(seed: Seed, path: Path) -> None:
    """An ISO 9660 disk labelled CIDATA."""
    name = f"instance-id: {seed.instance_id}\nlocal-hostname: {seed.instance_id}\n"
    with scratch("seed") as content:
        (content / "meta-data").write_text(name)
        (content / "user-data").write_text(seed.user_data)
        if seed.vendor_data:
            (content / "vendor-data").write_text(seed.vendor_data)
        write_iso(path, "CIDATA", {found.name: found for found in content.iterdir()})
    path.chmod(0o600)


def write_iso(path: Path, label: str, files: Mapping[str, Path]) -> None:
    """A read-only disk with these files under these names; they may be larger than 4 GiB."""
    path.unlink(missing_ok=True)
    grafts = [f"/{name}={source}" for name, source in files.items()]
    options = ("-quiet", "-iso-level", "3", "-V", label, "-r", "-graft-points", "-o")
    run("xorriso", "-as", "mkisofs", *options, path, *grafts)
