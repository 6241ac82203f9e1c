"""What tests that boot real guests share."""

from __future__ import annotations

import os
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from images.builders.local import LocalBuilder
from images.errors import MachineFailed
from images.machines.choose import choose_here
from images.machines.tools import find
from images.remote import Login, Remote, SshRemote, connect
from images.run import DEFAULT_STATE, Run
from images.steps import Command

ROOT = Path(__file__).parent.parent.parent.parent
RECIPE = ROOT / "images/recipes/rehearsal.toml"
CACHE = DEFAULT_STATE.expanduser() / "cache"
CANARY = b"canary-" + bytes(reversed(b"0f3c-ekab-eht-ni-detnalp"))
PLANT = """
install -D /dev/stdin /root/.aws/credentials
for to in /tmp/a /var/tmp/b /root/.bash_history /home/admin/.bash_history /root/.docker/config.json \\
    /var/log/planted.log /opt/deleted; do
    install -D /root/.aws/credentials $to
done
logger --file /root/.aws/credentials
sync
rm /opt/deleted
cat /etc/machine-id
"""
READY_S = 600
_PROGRAMS = ("mmdebstrap", "xorriso", "e2fsck", "debugfs", "qemu-system-x86_64")


class Planting(LocalBuilder):
    """A builder on which somebody leaves secrets lying about. It tells its machine id."""

    machine_id = ""

    def start(self, run: Run) -> Remote:
        remote = super().start(run)
        told = remote.run(Command(PLANT, sudo=True, stdin=CANARY, secret=True))
        self.machine_id = told.stdout.strip()
        return remote


def skip_without_machines() -> None:
    """Skips the test that calls it, and says why, where no guest runs in a time that a test may take."""
    try:
        for program in _PROGRAMS:
            find(program)
        choice = choose_here(CACHE)
    except MachineFailed as missing:
        pytest.skip(f"no virtual machine here: {missing}")
    if choice.accelerator == "tcg":
        pytest.skip(f"only {choice} runs guests here, at a fifth of the speed")
    if os.geteuid() != 0 and not Path("/etc/subuid").is_file():
        pytest.skip("mmdebstrap needs root, or users with namespaces and a line in /etc/subuid")


def shared_cache(state: Path) -> Path:
    """A state directory that makes no second base disk."""
    CACHE.mkdir(parents=True, exist_ok=True)
    state.mkdir(parents=True, exist_ok=True)
    (state / "cache").symlink_to(CACHE)
    return state


def host_key(console: Path) -> str:
    """The ed25519 key that cloud-init told the console last."""

    def told() -> str:
        _, found, keys = console.read_text(errors="replace").rpartition("-----BEGIN SSH HOST KEY KEYS-----")
        words = keys.partition("-----END")[0].split() if "-----END SSH HOST KEY KEYS" in keys else []
        at = words.index("ssh-ed25519") if found and "ssh-ed25519" in words else None
        return " ".join(words[at : at + 2]) if at is not None else ""

    until(lambda: bool(told()), "the console tells no host key")
    return told()


def login(console: Path, port: int, private_key: bytes) -> SshRemote:
    found = Login("127.0.0.1", port, "admin", private_key, host_key(console))
    return connect(found, time.time() + READY_S)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


def until(condition: Callable[[], bool], what: str, limit_s: float = READY_S) -> None:
    ends = time.monotonic() + limit_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < ends, what
        pause.wait(0.2)
