"""Shell lines that steps share. Every value that goes into a line is quoted here."""

from __future__ import annotations

import shlex
from importlib.resources import files

from images.steps.command import Command, Facts

ROOT = "/var/lib/goldenfleet"
INBOX = f"{ROOT}/inbox"
WEIGHTS = f"{ROOT}/weights"
CONFIG = "/etc/goldenfleet"
SHARE = "/usr/share/goldenfleet"
LOGIN = "/run/goldenfleet-login"
"""On tmpfs: registry credentials never touch the disk."""

quote = shlex.quote


def write(path: str, content: str | bytes, mode: int = 0o644) -> Command:
    """Make a file of root's with this content, and its directory."""
    data = content.encode() if isinstance(content, str) else content
    return Command(f"install -D -m {mode:04o} /dev/stdin {quote(path)}", sudo=True, stdin=data, timeout_s=60)


def directory(path: str, mode: int = 0o755) -> Command:
    return Command(f"install -d -m {mode:04o} {quote(path)}", sudo=True, timeout_s=60)


def root(line: str, timeout_s: float = 600, retries: int = 0) -> Command:
    return Command(line, sudo=True, timeout_s=timeout_s, retries=retries)


def install(facts: Facts, *packages: str) -> Command:
    """Install packages of the distribution; waits for its locks, never asks, keeps changed config files.

    Debian's start no service: each would make systemd read all units anew, on slow machines for seconds.
    """
    names = " ".join(quote(package) for package in packages)
    if facts.distribution == "amzn":
        return root(f"dnf --assumeyes --setopt=install_weak_deps=False install {names}", 1800, retries=2)
    return root(f"{_APT} install --no-install-recommends {names}", 1800, retries=2)


def update(facts: Facts) -> Command:
    line = "dnf --assumeyes makecache" if facts.distribution == "amzn" else f"{_APT} update"
    return root(line, 600, retries=3)


def shipped(name: str, **values: str) -> str:
    """A file of `images/files` with its @NAME@ placeholders filled in; every one must be."""
    text = files("images").joinpath("files", name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


_APT = (
    "DEBIAN_FRONTEND=noninteractive SYSTEMD_OFFLINE=1 apt-get --quiet --assume-yes"
    " -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -o Dpkg::Options::=--force-confold"
)
