from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from images.errors import PlanRefused
from images.recipe import Recipe
from images.steps.command import Command, Facts, MachineQuirks, Materials
from images.steps.facts import ASK, gather_facts, parse
from images.steps.packages import container_toolkit, docker, hold, wait

APT = (
    "DEBIAN_FRONTEND=noninteractive SYSTEMD_OFFLINE=1 apt-get --quiet --assume-yes"
    " -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -o Dpkg::Options::=--force-confold"
)
DEB_INSTALL = f"{APT} install --no-install-recommends"
DNF_INSTALL = "dnf --assumeyes --setopt=install_weak_deps=False install"
DAEMON = "install -D -m 0644 /dev/stdin /etc/docker/daemon.json"
START = [
    "systemctl is-enabled --quiet docker || systemctl enable docker",
    "systemctl restart docker",
    "docker info --format '{{.ServerVersion}} {{.Driver}}'",
]
CLOUD_INIT = "cloud-init status --wait >/dev/null; code=$?; test $code -eq 0 -o $code -eq 2"
MASKED = 'test "$(systemctl is-enabled $timer 2>/dev/null)" = masked'
APT_QUIET = [
    f"for timer in apt-daily.timer apt-daily-upgrade.timer; do {MASKED} || systemctl mask --now $timer; done",
    "while systemctl is-active --quiet apt-daily.service apt-daily-upgrade.service; do sleep 1; done",
    "systemctl disable --now unattended-upgrades.service 2>/dev/null || true",
]
Lines = Callable[[Any], list[str]]


@pytest.fixture
def machines(debian: Facts, ubuntu: Facts, amazon: Facts) -> dict[str, Facts]:
    bare = dataclasses.replace(debian, cloud_init=False)
    return {"debian": debian, "ubuntu": ubuntu, "amazon": amazon, "no cloud-init": bare}


@pytest.mark.parametrize(
    ("machine", "wanted"),
    [
        ("debian", [CLOUD_INIT, *APT_QUIET]),
        ("no cloud-init", APT_QUIET),
        ("amazon", [CLOUD_INIT, "while fuser --silent /var/lib/rpm/.rpm.lock; do sleep 1; done"]),
    ],
)
def test_wait(machines: dict[str, Facts], lines: Lines, machine: str, wanted: list[str]) -> None:
    """Nothing is installed while cloud-init or an upgrade of the machine's own still runs."""
    assert lines(wait(machines[machine])) == wanted


@pytest.mark.parametrize(
    ("machine", "wanted"),
    [
        (
            "debian",
            [f"{APT} update", DAEMON, f"{DEB_INSTALL} ca-certificates curl apparmor docker.io", *START],
        ),
        ("ubuntu", [f"{APT} update", DAEMON, f"{DEB_INSTALL} ca-certificates curl", *START]),
        ("amazon", ["dnf --assumeyes makecache", DAEMON, f"{DNF_INSTALL} docker", *START]),
    ],
)
def test_docker(
    make_recipe: Callable[..., Recipe],
    machines: dict[str, Facts],
    materials: Materials,
    lines: Lines,
    machine: str,
    wanted: list[str],
) -> None:
    """Docker comes from the distribution where the base has none, and starts without its own network."""
    made = list(docker(make_recipe("rehearsal"), machines[machine], materials))
    assert lines(made) == ["install -d -m 0700 /var/lib/goldenfleet/inbox", *wanted]
    settings = json.loads(next(command.stdin for command in made if command.stdin) or b"")
    assert (settings["bridge"], settings["iptables"]) == ("none", False)


def test_quirks(
    make_recipe: Callable[..., Recipe], debian: Facts, materials: Materials, lines: Lines
) -> None:
    """A kernel without nf_tables gets the old iptables before Docker starts."""
    quirky = dataclasses.replace(materials, quirks=MachineQuirks(iptables_legacy=True))
    made = lines(docker(make_recipe("rehearsal"), debian, quirky))
    legacy = made.index("update-alternatives --set iptables /usr/sbin/iptables-legacy")
    installed = made.index(f"{DEB_INSTALL} iptables ca-certificates curl apparmor docker.io")
    assert installed < legacy < made.index("systemctl restart docker")


@pytest.mark.parametrize(
    ("machine", "line", "files"),
    [
        (
            "debian",
            "deb https://packages.example/deb /",
            {
                "/etc/apt/keyrings/tools.asc": b"KEY",
                "/etc/apt/sources.list.d/tools.list": (
                    b"deb [signed-by=/etc/apt/keyrings/tools.asc] https://packages.example/deb /\n"
                ),
            },
        ),
        (
            "amazon",
            "https://packages.example/rpm",
            {
                "/etc/pki/rpm-gpg/tools.asc": b"KEY",
                "/etc/yum.repos.d/tools.repo": (
                    b"[tools]\nname=tools\nbaseurl=https://packages.example/rpm\nenabled=1\ngpgcheck=1\n"
                    b"gpgkey=file:///etc/pki/rpm-gpg/tools.asc\n"
                ),
            },
        ),
    ],
)
def test_sources(
    make_recipe: Callable[..., Recipe],
    machines: dict[str, Facts],
    materials: Materials,
    tmp_path: Path,
    machine: str,
    line: str,
    files: dict[str, bytes],
) -> None:
    """A recipe's own package source is trusted by its key alone, and written before the lists are read."""
    key = tmp_path / "key.asc"
    key.write_bytes(b"KEY")
    recipe = make_recipe("rehearsal", package_sources=[{"name": "tools", "line": line, "key": str(key)}])
    made = list(docker(recipe, machines[machine], materials))
    written = {command.line.rpartition(" ")[2]: command.stdin for command in made[1:3]}
    assert written == files
    assert "update" in made[3].line or "makecache" in made[3].line


def test_toolkit(make_recipe: Callable[..., Recipe], ubuntu: Facts, debian: Facts, lines: Lines) -> None:
    """GPU images get NVIDIA's hook or the reason why not; a builder without a GPU checks the module."""
    assert lines(container_toolkit(make_recipe("rehearsal"), debian)) == []
    without = lines(container_toolkit(make_recipe("model-gpu-vllm"), ubuntu))
    assert without[0].startswith("command -v nvidia-ctk >/dev/null || DEBIAN_FRONTEND")
    assert "add its repository to package_sources" in without[0]
    assert without[1:3] == ["nvidia-ctk runtime configure --runtime=docker", "systemctl restart docker"]
    assert without[3].startswith("modinfo --field version nvidia || ")
    with_gpu = lines(container_toolkit(make_recipe("model-gpu-vllm"), dataclasses.replace(ubuntu, gpu=True)))
    assert with_gpu[3] == "nvidia-smi --query-gpu=name,driver_version --format=csv,noheader"


def test_hold(debian: Facts, amazon: Facts, lines: Lines) -> None:
    """Kernel, driver and Docker stay at the versions that were checked."""
    (deb,) = lines(hold(debian))
    assert "'linux-image-*'" in deb
    assert deb.endswith("| awk '$1 == \"ii\" { print $2 }' | xargs --no-run-if-empty apt-mark hold")
    assert lines(hold(amazon)) == [
        f"{DNF_INSTALL} python3-dnf-plugin-versionlock",
        "dnf --assumeyes versionlock add 'kernel*' 'nvidia*' 'libnvidia*' docker containerd",
    ]


SAID = (
    "id={id}\nversion={version}\ncodename=x\nmachine={machine}\nkernel=6.1.0\nuser=admin\ngpu={gpu}\n"
    "cloud_init=1\ndocker=0\n"
)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (("debian", "12", "x86_64", "0"), ("debian", "x86_64", False)),
        (("ubuntu", "24.04", "aarch64", "1"), ("ubuntu", "arm64", True)),
        (("amzn", "2023", "x86_64", "4"), ("amzn", "x86_64", True)),
    ],
)
def test_facts(given: tuple[str, str, str, str], wanted: tuple[str, str, bool]) -> None:
    """A machine's answer becomes facts."""
    text = SAID.format(**dict(zip(("id", "version", "machine", "gpu"), given, strict=True)))
    facts = parse(text)
    assert (facts.distribution, facts.architecture, facts.gpu) == wanted
    assert (facts.user, facts.kernel, facts.cloud_init, facts.docker_present) == (
        "admin",
        "6.1.0",
        True,
        False,
    )


def test_facts_of_this_machine() -> None:
    """The question can be asked of a real machine: this one."""

    def run(command: Command) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["sh", "-c", command.line], capture_output=True, text=True, check=True)

    facts = gather_facts(run)
    assert facts.version
    assert facts.user
    assert not ASK.sudo


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("fedora", "42", "x86_64", "0"), "fedora 42 is not known"),
        (("amzn", "2", "x86_64", "0"), "amzn 2 is not known"),
        (("debian", "12", "riscv64", "0"), "riscv64 architecture"),
        (("", "", "x86_64", "0"), "an unknown distribution"),
    ],
)
def test_unknown_machines(given: tuple[str, str, str, str], said: str) -> None:
    """A machine that the steps do not know is refused by name before anything is done to it."""
    with pytest.raises(PlanRefused, match=said):
        parse(SAID.format(**dict(zip(("id", "version", "machine", "gpu"), given, strict=True))))
