"""What a golden image must not contain, in one table.

The clean step removes it; the verify step, and the check of the booted image's disk, look for it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MACHINE_ID = "uninitialized\n"
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Forbidden:
    """Paths that match `pattern` (shell globs, absolute) must be absent, or be empty files."""

    pattern: str
    why: str
    allowed: Literal["absent", "empty"] = "absent"


_HOMES = ("/root", "/home/*")
_IN_HOMES = (
    (".ssh/authorized_keys*", "whoever baked the image could log in to every node"),
    (".ssh/id_*", "a private key"),
    (".docker/config.json", "registry credentials"),
    (".aws", "AWS credentials"),
    (".cache/huggingface", "hub tokens"),
    (".huggingface", "hub tokens"),
    (".netrc", "credentials"),
    (".git-credentials", "credentials"),
    (".bash_history", "commands, and secrets typed into them"),
    (".python_history", "commands, and secrets typed into them"),
    (".lesshst", "what was searched for"),
    (".viminfo", "what was edited"),
    (".wget-hsts", "what was fetched"),
    (".local/share/nano", "what was edited"),
)

FORBIDDEN = (
    Forbidden("/etc/ssh/ssh_host_*", "every node would have the same host keys"),
    *(Forbidden(f"{home}/{path}", why) for home in _HOMES for path, why in _IN_HOMES),
    Forbidden("/var/lib/dbus/machine-id", "a second copy of the machine id"),
    Forbidden("/var/lib/systemd/random-seed", "nodes would start from the same entropy"),
    Forbidden("/var/lib/systemd/credential.secret", "one key for every node's credentials"),
    Forbidden("/etc/machine-info", "the builder's own description"),
    Forbidden("/etc/hostname", "the builder's name", "empty"),
    Forbidden("/etc/docker/key.json", "one Docker identity for every node"),
    Forbidden("/var/lib/docker/engine-id", "one Docker identity for every node"),
    Forbidden("/var/lib/docker/containers/*", "a container of the builder's"),
    Forbidden("/var/lib/dhcp/*", "the builder's leases"),
    Forbidden("/var/lib/dhclient/*", "the builder's leases"),
    Forbidden("/var/lib/NetworkManager/*lease*", "the builder's leases"),
    Forbidden("/var/lib/cloud/instance", "cloud-init would take a node for the builder"),
    Forbidden("/var/lib/cloud/instances/*", "the builder's user data, with what secrets it held"),
    Forbidden("/var/lib/cloud/data/instance-id", "cloud-init would take a node for the builder"),
    Forbidden("/var/lib/cloud/seed/*", "the builder's user data"),
    Forbidden("/var/lib/amazon/ssm/*", "the builder's registration with Systems Manager"),
    Forbidden("/var/log/journal/*", "the builder's journal"),
    # Removed and not emptied: who writes to these at shutdown does not make them, and every boot does.
    Forbidden("/var/log/wtmp", "the builder's logins"),
    Forbidden("/var/log/btmp", "the builder's logins"),
    Forbidden("/var/log/lastlog", "the builder's logins"),
    Forbidden("/var/log/audit/*", "the builder's audit trail", "empty"),
    Forbidden("/var/log/cloud-init*", "user data is logged there", "empty"),
    Forbidden("/var/log/apt/history.log*", "package history", "empty"),
    Forbidden("/var/log/auth.log*", "the builder's logins", "empty"),
    Forbidden("/var/log/secure*", "the builder's logins", "empty"),
    Forbidden("/var/log/*.gz", "rotated logs"),
    Forbidden("/var/lib/apt/lists/*_*", "package lists, stale at once"),
    Forbidden("/var/cache/apt/archives/*.deb", "package cache"),
    Forbidden("/var/cache/dnf/*", "package cache"),
    Forbidden("/var/lib/dnf/history*", "package history"),
    *(
        Forbidden(f"{folder}/{pattern}", "temporary files")
        for folder in ("/tmp", "/var/tmp")  # noqa: S108  looked into, not written to
        # A shell's * leaves hidden files out.
        for pattern in ("*", ".[!.]*")
    ),
    Forbidden("/var/crash/*", "memory of what crashed", "empty"),
    Forbidden("/var/lib/goldenfleet/inbox", "archives that were loaded already"),
    Forbidden("/etc/goldenfleet/logs.env", "where to log comes from user data and the instance"),
    Forbidden("/etc/goldenfleet/node.env", "role and stack come from user data"),
    Forbidden("/etc/goldenfleet/instance.env", "one instance's settings"),
)


def forbidden_in(root: Path) -> Iterator[str]:
    """Every forbidden thing on the mounted disk `root`, one line each. Links are not followed out of it."""
    found = {
        path: rule.why
        for rule in FORBIDDEN
        for path in _matches(root, rule.pattern)
        if rule.allowed == "absent" or _has_content(path)
    }
    for path, why in found.items():
        yield f"/{path.relative_to(root)}: {why}"
    yield from _machine_id(root)


def holding(root: Path, canary: bytes) -> Iterator[str]:
    """Files on the mounted disk that contain `canary`: a secret planted during the bake."""
    for path in root.rglob("*"):
        if _is_file(path) and _contains(path, canary):
            yield f"/{path.relative_to(root)}"


def contains(disk: Path, canary: bytes) -> bool:
    """Whether a whole disk, blocks of deleted files included, holds `canary`."""
    return _contains(disk, canary)


def _matches(root: Path, pattern: str) -> list[Path]:
    relative = pattern.removeprefix("/")
    # glob() looks through links that lead nowhere as if they were not there.
    found = root.glob(relative) if "*" in relative else [root / relative]
    inside = root.resolve()
    return sorted(
        path for path in found if os.path.lexists(path) and path.parent.resolve().is_relative_to(inside)
    )


def _has_content(path: Path) -> bool:
    found = path.lstat()
    return not stat.S_ISREG(found.st_mode) or found.st_size > 0


def _machine_id(root: Path) -> Iterator[str]:
    path = root / "etc/machine-id"
    if path.is_file() and not path.is_symlink():
        said = path.read_text(encoding="utf-8", errors="replace")
        if said not in ("", MACHINE_ID):
            yield "/etc/machine-id: every node would be the same machine"


def _is_file(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


def _contains(path: Path, canary: bytes) -> bool:
    kept = b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            if canary in kept + chunk:
                return True
            kept = chunk[-(len(canary) - 1) :] if len(canary) > 1 else b""
    return False
