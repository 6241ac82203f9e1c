"""What the name of an EC2 instance type tells.

AWS: docs "Amazon EC2 instance type naming conventions": series, generation, then options, of which `g` is a
Graviton processor (g5g.xlarge: series g, generation 5, option g).
"""

from __future__ import annotations

import re
from typing import Literal

_FAMILY = re.compile(r"(?P<series>[a-z]+(?:-[0-9a-z]+)?)(?P<generation>\d+)(?P<options>[a-z0-9-]*)")
_GPU_SERIES = frozenset({"g", "gr", "p"})


def processor(instance_type: str) -> Literal["arm64", "x86_64"]:
    series, options = _parts(instance_type)
    return "arm64" if "g" in options.split("-")[0] or series == "a" else "x86_64"


def has_gpu(instance_type: str) -> bool:
    return _parts(instance_type)[0] in _GPU_SERIES


def _parts(instance_type: str) -> tuple[str, str]:
    family = instance_type.partition(".")[0]
    match = _FAMILY.fullmatch(family)
    return (match["series"], match["options"]) if match else (family, "")
