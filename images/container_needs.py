"""Which installed distributions our server's container needs, and which of their files."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from images.errors import BuilderError

_PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
# What botocore needs of its 31 MB of service descriptions.
_SERVICES = frozenset({"autoscaling", "ec2", "elbv2", "s3", "ssm", "sso", "sso-oidc", "sts", "sqs"})
_UNUSED = frozenset({".a", ".c", ".h", ".pyi", ".pyx", ".pxd", ".typed"})
# For people's terminals; the server never imports it.
_LEFT_OUT_OF_NEEDS = frozenset({"rich"})


def needed(requirement: str) -> list[Distribution]:
    """What the requirement needs, itself left out, as it is installed here."""
    found: dict[str, Distribution] = {}
    pending = [Requirement(requirement)]
    while pending:
        wanted = pending.pop()
        known = wanted.name.lower() in found
        if wanted.name.lower() in _LEFT_OUT_OF_NEEDS:
            continue
        here = _distribution(wanted.name)
        if not known:
            found[wanted.name.lower()] = here
        if not known or wanted.extras:
            pending += _requirements(here, wanted.extras)
    return [here for name, here in sorted(found.items()) if name != "goldenfleet"]


def _requirements(here: Distribution, extras: set[str]) -> Iterator[Requirement]:
    for line in _declared(extras) if here.metadata["Name"] == "goldenfleet" else here.requires or ():
        needed = Requirement(line)
        environments = [{"extra": extra} for extra in ("", *extras)]
        if needed.marker is None or any(needed.marker.evaluate(where) for where in environments):
            yield needed


def _declared(extras: set[str]) -> list[str]:
    """Our own as the checkout says, which may be newer than what was installed of it."""
    project = tomllib.loads(_PYPROJECT.read_text(encoding="utf-8"))["project"]
    lists = (project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras))
    return [line for lines in lists for line in lines]


def _distribution(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError as exc:
        raise BuilderError(
            f"{name} is not installed here", "install requirements/dev.txt first: scripts/test does"
        ) from exc


def useful(relative: str) -> bool:
    parts = Path(relative).parts
    if relative.startswith("../") or "__pycache__" in parts or "tests" in parts:
        return False
    if parts[:2] == ("botocore", "data") and len(parts) > 3 and parts[2] not in _SERVICES:
        return False
    return Path(relative).suffix not in _UNUSED
