"""Policy documents of what was registered."""

from __future__ import annotations

import json
from typing import Any

from tests.fleet.stack.conftest import Registered


def statements(document: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(document)["Statement"]
    return found


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def role_statements(registered: Registered, part: str = "") -> list[dict[str, Any]]:
    """Of the roles of the stack whose part of the name begins so."""
    prefix = f"gf-{registered.stack}-{part}"
    policies = registered.of("iam/rolePolicy:RolePolicy")
    return [s for p in policies if p.name.startswith(prefix) for s in statements(p.inputs["policy"])]
