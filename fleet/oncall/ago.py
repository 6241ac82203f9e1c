"""Times as people give them: 90s, 15m, 1h, 2d."""

from __future__ import annotations

import re

from fleet.oncall.errors import Impossible

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def ago(text: str, now: float) -> float:
    """The time that long before `now`, in unix seconds. Raises Impossible."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if found is None:
        raise Impossible(f"{text!r} is no length of time", "Give a number and s, m, h or d, such as 15m.")
    return max(0.0, now - float(found[1]) * _SECONDS[found[2]])
