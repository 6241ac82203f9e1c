"""Wait for the machine, install Docker and what GPUs need, hold kernel and driver."""

from __future__ import annotations

import json
from collections.abc import Iterator

from images.recipe import PackageSource, Recipe
from images.steps.command import Command, Facts, Materials
from images.steps.shell import INBOX, directory, install, quote, root, update, write

_TIMERS = "apt-daily.timer apt-daily-upgrade.timer"
_JOBS = "apt-daily.service apt-daily-upgrade.service"
# No container of ours has a network of its own, so Docker needs neither bridge nor firewall rules.
_DAEMON = {"bridge": "none", "iptables": False, "ip6tables": False, "log-driver": "journald"}
_HELD_DEB = (
    "'linux-image-*' 'linux-headers-*' 'nvidia-*' 'libnvidia-*' 'cuda-drivers*'"
    " docker.io docker-ce containerd containerd.io"
)
_HELD_RPM = "'kernel*' 'nvidia*' 'libnvidia*' docker containerd"


def wait(facts: Facts) -> Iterator[Command]:
    """Until cloud-init is done (2: done, with something it recovered from) and nobody holds package locks."""
    if facts.cloud_init:
        yield root("cloud-init status --wait >/dev/null; code=$?; test $code -eq 0 -o $code -eq 2", 1200)
    if facts.distribution == "amzn":
        yield root("while fuser --silent /var/lib/rpm/.rpm.lock; do sleep 1; done", 900)
        return
    # An upgrade behind our back would change what was checked.
    # Only where it is to do: each change of a unit makes systemd read all of them, seconds on a slow machine.
    masked = 'test "$(systemctl is-enabled $timer 2>/dev/null)" = masked'
    yield root(f"for timer in {_TIMERS}; do {masked} || systemctl mask --now $timer; done", 120)
    yield root(f"while systemctl is-active --quiet {_JOBS}; do sleep 1; done", 900)
    yield root("systemctl disable --now unattended-upgrades.service 2>/dev/null || true", 300)


def docker(recipe: Recipe, facts: Facts, materials: Materials) -> Iterator[Command]:
    yield directory(INBOX, 0o700)
    yield from _sources(recipe, facts)
    yield update(facts)
    yield write("/etc/docker/daemon.json", json.dumps(_DAEMON, indent=2) + "\n")
    missing = _missing(recipe, facts)
    if materials.quirks.iptables_legacy:
        missing = ("iptables", *missing)
    if missing:
        yield install(facts, *missing)
    if materials.quirks.iptables_legacy:
        yield root("update-alternatives --set iptables /usr/sbin/iptables-legacy", 60)
    yield root("systemctl is-enabled --quiet docker || systemctl enable docker", 60)
    yield root("systemctl restart docker", 300, retries=1)
    yield root("docker info --format '{{.ServerVersion}} {{.Driver}}'", 120, retries=5)


def container_toolkit(recipe: Recipe, facts: Facts) -> Iterator[Command]:
    """NVIDIA's hook by which Docker hands GPUs to containers. The base image may bring it."""
    if not recipe.gpu:
        return
    name = "nvidia-container-toolkit"
    hint = "add its repository to package_sources, or take a base image that has it"
    line = install(facts, name).line
    yield root(
        f"command -v nvidia-ctk >/dev/null || {line}"
        f" || {{ echo {quote(f'no {name}: {hint}')} >&2; exit 1; }}",
        1800,
    )
    yield root("nvidia-ctk runtime configure --runtime=docker", 120)
    yield root("systemctl restart docker", 300)
    if facts.gpu:
        yield root("nvidia-smi --query-gpu=name,driver_version --format=csv,noheader", 120)
        return
    # Without a GPU the driver cannot be loaded, yet its module must be there for this kernel.
    yield root(
        "modinfo --field version nvidia || "
        "{ echo 'no NVIDIA driver for this kernel: take a base image that has one' >&2; exit 1; }",
        60,
    )


def hold(facts: Facts) -> Iterator[Command]:
    """Kernel, driver and Docker stay at the versions that were checked."""
    if facts.distribution == "amzn":
        yield install(facts, "python3-dnf-plugin-versionlock")
        yield root(f"dnf --assumeyes versionlock add {_HELD_RPM}", 300)
        return
    yield root(
        f"dpkg-query --show --showformat='${{db:Status-Abbrev}} ${{Package}}\\n' {_HELD_DEB} 2>/dev/null"
        " | awk '$1 == \"ii\" { print $2 }' | xargs --no-run-if-empty apt-mark hold",
        120,
    )


def _missing(recipe: Recipe, facts: Facts) -> tuple[str, ...]:
    wanted = ["ca-certificates", "curl"] if facts.distribution != "amzn" else []
    if not facts.docker_present:
        wanted += ["docker"] if facts.distribution == "amzn" else ["apparmor", "docker.io"]
    if any((container.archive or "").endswith(".zst") for container in recipe.containers):
        wanted.append("zstd")
    return tuple(wanted)


def _sources(recipe: Recipe, facts: Facts) -> Iterator[Command]:
    for source in recipe.package_sources:
        key = recipe.path(source.key).read_bytes()
        if facts.distribution == "amzn":
            yield write(f"/etc/pki/rpm-gpg/{source.name}.asc", key)
            yield write(f"/etc/yum.repos.d/{source.name}.repo", _repo(source))
        else:
            keyring = f"/etc/apt/keyrings/{source.name}.asc"
            yield write(keyring, key)
            yield write(f"/etc/apt/sources.list.d/{source.name}.list", _deb_line(source, keyring))


def _deb_line(source: PackageSource, keyring: str) -> str:
    kind, _, rest = source.line.partition(" ")
    return f"{kind} [signed-by={keyring}] {rest}\n"


def _repo(source: PackageSource) -> str:
    return (
        f"[{source.name}]\nname={source.name}\nbaseurl={source.line}\nenabled=1\ngpgcheck=1\n"
        f"gpgkey=file:///etc/pki/rpm-gpg/{source.name}.asc\n"
    )
