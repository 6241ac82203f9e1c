"""What a machine says of itself, asked once by a single command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, get_args

from images.errors import PlanRefused
from images.steps.command import Architecture, Command, Distribution, Facts

# 10de is NVIDIA's PCI vendor id.
ASK = Command(
    ". /etc/os-release; "
    'echo "id=$ID"; echo "version=$VERSION_ID"; echo "codename=${VERSION_CODENAME-}"; '
    'echo "machine=$(uname -m)"; echo "kernel=$(uname -r)"; echo "user=$(id -un)"; '
    'echo "gpu=$(cat /sys/bus/pci/devices/*/vendor 2>/dev/null | grep -c 0x10de)"; '
    'echo "cloud_init=$(command -v cloud-init >/dev/null && echo 1 || echo 0)"; '
    'echo "docker=$(command -v docker >/dev/null && echo 1 || echo 0)"',
    timeout_s=60,
    retries=2,
)
_ARCHITECTURES: dict[str, Architecture] = {"x86_64": "x86_64", "aarch64": "arm64"}


class _Output(Protocol):
    @property
    def stdout(self) -> str: ...


def gather_facts(run: Callable[[Command], _Output]) -> Facts:
    """Ask the machine that `run` runs commands on. Raises PlanRefused."""
    return parse(run(ASK).stdout)


def parse(output: str) -> Facts:
    """Raises PlanRefused for a machine that the steps do not know."""
    said = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    distribution = _distribution(said.get("id", ""), said.get("version", ""))
    architecture = _ARCHITECTURES.get(said.get("machine", ""))
    if architecture is None:
        raise PlanRefused(f"a machine of {said.get('machine') or 'unknown'} architecture cannot be imaged")
    return Facts(
        distribution=distribution,
        version=said.get("version", ""),
        codename=said.get("codename", ""),
        architecture=architecture,
        user=said.get("user", "root"),
        gpu=said.get("gpu", "0") not in ("", "0"),
        cloud_init=said.get("cloud_init") == "1",
        docker_present=said.get("docker") == "1",
        kernel=said.get("kernel", ""),
    )


def _distribution(name: str, version: str) -> Distribution:
    for known in get_args(Distribution):
        if name == known and not (name == "amzn" and version == "2"):
            found: Distribution = known
            return found
    raise PlanRefused(
        f"{name or 'an unknown distribution'} {version} is not known to the steps".replace("  ", " "),
        "take a Debian, Ubuntu or Amazon Linux 2023 base",
    )
