"""Remove what is the builder's own; see `images.forbidden` for what must be gone in the end."""

from __future__ import annotations

from collections.abc import Iterator

from images.forbidden import FORBIDDEN, MACHINE_ID
from images.steps.command import Command, Facts
from images.steps.shell import LOGIN, quote, root, write

_UNITS = (
    "goldenfleet-server.service goldenfleet-logs.service goldenfleet-engine.service"
    " goldenfleet-weights.service goldenfleet-readahead.service"
)


def clean(facts: Facts) -> Iterator[Command]:
    """Everything but the login user's authorized_keys: that is `cut_access`."""
    yield root(f"systemctl stop {_UNITS} 2>/dev/null || true", 300)
    yield root("docker ps --all --quiet | xargs --no-run-if-empty docker rm --force", 120)
    # Its state and containers' folders are written again as it stops.
    yield root("systemctl stop docker.socket docker.service containerd.service 2>/dev/null || true", 120)
    if facts.distribution == "amzn":
        yield root("systemctl stop amazon-ssm-agent.service 2>/dev/null || true", 120)
        yield root("dnf --assumeyes clean all", 120)
    else:
        yield root("systemctl stop snap.amazon-ssm-agent.amazon-ssm-agent.service 2>/dev/null || true", 120)
        yield root("apt-get --quiet clean", 120)
        yield root("rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin", 120)
    if facts.cloud_init:
        yield from _cloud_init()
    yield from _logs()
    yield root(f"rm -rf {LOGIN}", 60)
    # One command: a slow machine takes half a second for each.
    yield root("; ".join(_removals(facts)), 300)
    yield write("/etc/machine-id", MACHINE_ID, 0o444)
    yield root("fstrim --all --quiet-unsupported 2>/dev/null || true; sync", 600)


def _logs() -> Iterator[Command]:
    """Stop who would write once more while the machine goes down, then empty what they wrote."""
    yield root("systemctl stop syslog.socket rsyslog.service 2>/dev/null || true", 60)
    # auditd refuses to be stopped by systemctl; `service` looks ten seconds for one that is not there.
    yield root("if command -v auditctl >/dev/null; then service auditd stop 2>/dev/null || true; fi", 60)
    # These two write as they stop: a seed to /var/lib/systemd, a record to wtmp.
    yield root("systemctl stop systemd-random-seed.service systemd-update-utmp.service || true", 60)
    yield root("journalctl --relinquish-var --quiet; rm -rf /var/log/journal/*", 120)
    yield root("find /var/log -type f \\( -name '*.gz' -o -name '*.old' -o -name '*.[0-9]' \\) -delete", 60)
    yield root("find /var/log -type f -exec truncate --size 0 {} +", 60)


def cut_access(facts: Facts) -> Iterator[Command]:
    """The last act on a live connection: nobody who baked the image can log in again."""
    home = "/root" if facts.user == "root" else f"/home/{facts.user}"
    yield root(f"rm -rf {quote(f'{home}/.ssh')} /root/.ssh; sync", 60)


def _cloud_init() -> Iterator[Command]:
    # --configs came with 23.2; Debian 12 has 22.4.
    yield root(
        "cloud-init clean --logs --seed --configs all --machine-id 2>/dev/null"
        " || cloud-init clean --logs --seed --machine-id",
        120,
    )


def _removals(facts: Facts) -> Iterator[str]:
    """One line per forbidden pattern. The login user keeps the key that this very connection needs next."""
    for rule in FORBIDDEN:
        if rule.pattern.startswith(("/root/.ssh/auth", "/home/*/.ssh/auth")):
            continue
        if rule.allowed == "absent":
            yield f"rm -rf {rule.pattern}"
        else:
            yield f'for file in {rule.pattern}; do test ! -e "$file" || truncate --size 0 "$file"; done'
    yield (
        "for keys in /root/.ssh/authorized_keys* /home/*/.ssh/authorized_keys*; do"
        f' test "$keys" = {quote(_own_keys(facts))} || rm -f "$keys"; done'
    )


def _own_keys(facts: Facts) -> str:
    return (
        "/root/.ssh/authorized_keys" if facts.user == "root" else f"/home/{facts.user}/.ssh/authorized_keys"
    )
