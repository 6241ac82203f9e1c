from __future__ import annotations

from pathlib import Path

import pytest

from images.forbidden import FORBIDDEN, contains, forbidden_in, holding

CLEAN = {
    "etc/machine-id": "uninitialized\n",
    "etc/hostname": "",
    "var/log/apt/history.log": "",
    "home/admin/.bashrc": "export A=1\n",
    "etc/ssh/sshd_config": "",
    "var/lib/cloud/scripts/per-boot/README": "",
}
LEFT = [
    ("etc/ssh/ssh_host_ed25519_key", "k"),
    ("root/.ssh/authorized_keys", "ssh-ed25519 A"),
    ("home/admin/.ssh/authorized_keys", "ssh-ed25519 A"),
    ("home/admin/.ssh/authorized_keys2", ""),
    ("root/.docker/config.json", "{}"),
    ("home/ubuntu/.aws/credentials", "x"),
    ("root/.cache/huggingface/token", "hf_x"),
    ("root/.bash_history", "ls"),
    ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
    ("var/lib/dbus/machine-id", "x"),
    ("var/lib/systemd/random-seed", "x"),
    ("var/lib/systemd/credential.secret", "x"),
    ("etc/machine-info", ""),
    ("etc/hostname", "ip-10-0-0-1\n"),
    ("var/lib/cloud/instances/i-1/user-data.txt", "x"),
    ("var/lib/cloud/seed/nocloud/user-data", "x"),
    ("var/log/journal/abc/system.journal", "x"),
    ("var/log/wtmp", ""),
    ("tmp/.X11-unix/X0", ""),
    ("var/log/cloud-init-output.log", "x"),
    ("tmp/leftover", ""),
    ("var/tmp/leftover", ""),
    ("var/lib/docker/containers/abc/config.v2.json", "{}"),
    ("var/lib/docker/engine-id", "x"),
    ("etc/docker/key.json", "{}"),
    ("var/lib/amazon/ssm/Vault/Store/x", "x"),
    ("var/lib/apt/lists/deb.example_dists_x_Packages", "x"),
    ("var/cache/dnf/x", "x"),
    ("etc/goldenfleet/node.env", "ROLE=model"),
    ("var/lib/goldenfleet/inbox/a.tar", ""),
]


def plant(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def test_clean_disk(tmp_path: Path) -> None:
    """A disk with nothing of the builder's is let through."""
    plant(tmp_path, CLEAN)
    assert list(forbidden_in(tmp_path)) == []


@pytest.mark.parametrize(("name", "content"), LEFT, ids=[name for name, _ in LEFT])
def test_left(tmp_path: Path, name: str, content: str) -> None:
    """Each thing of the builder's is found alone on an otherwise clean disk."""
    plant(tmp_path, {**CLEAN, name: content})
    found = list(forbidden_in(tmp_path))
    assert len(found) == 1
    assert f"/{name}".startswith(found[0].partition(":")[0])


def test_dangling_link(tmp_path: Path) -> None:
    """A link to nowhere counts: cloud-init's `instance` is one on a half-cleaned disk."""
    plant(tmp_path, {"var/lib/cloud/x": ""})
    (tmp_path / "var/lib/cloud/instance").symlink_to("/var/lib/cloud/instances/i-1")
    assert [line.partition(":")[0] for line in forbidden_in(tmp_path)] == ["/var/lib/cloud/instance"]


def test_every_rule_has_a_reason() -> None:
    """Patterns are absolute and unique, and each says why."""
    patterns = [rule.pattern for rule in FORBIDDEN]
    assert len(set(patterns)) == len(patterns)
    assert all(rule.pattern.startswith("/") and rule.why for rule in FORBIDDEN)


def test_canary(tmp_path: Path) -> None:
    """A planted secret is found in any file, also across a read's border, and on a whole disk."""
    canary = b"canary-7f3a"
    plant(tmp_path, {"etc/innocent": "x"})
    border = tmp_path / "var/border"
    border.parent.mkdir()
    border.write_bytes(b"x" * (1024 * 1024 - 5) + canary)
    assert list(holding(tmp_path, canary)) == ["/var/border"]
    assert list(holding(tmp_path, b"another")) == []
    assert contains(border, canary)
    assert not contains(tmp_path / "etc/innocent", canary)
