"""From a stack's file, or from what Pulumi hands a program, to plain values; and from refusals to text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fleet.errors import SettingsError
from fleet.stack.settings_base import NAMESPACE

_ROLES = ("gateway", "model")


def read_config(path: Path) -> dict[str, object]:
    """Everything below `config:` in a Pulumi.<stack>.yaml. Raises SettingsError."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise SettingsError(
            f"there is no {path}", "Name one of the stacks that have a Pulumi.<stack>.yaml."
        ) from exc
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise SettingsError(f"{path} cannot be read: {exc}", "Correct the file.") from exc
    config = document.get("config") if isinstance(document, dict) else None
    if not isinstance(config, dict):
        raise SettingsError(
            f"{path} has no `config:` mapping", f"Put {NAMESPACE}:tiers and the rest below `config:`."
        )
    return {str(key): value for key, value in config.items()}


def own_values(config: Mapping[str, object]) -> dict[str, object]:
    """What is ours, without its namespace, structured values decoded. Raises SettingsError."""
    prefix = f"{NAMESPACE}:"
    own = {key.removeprefix(prefix): _decoded(v) for key, v in config.items() if key.startswith(prefix)}
    if "stack" in own:
        raise SettingsError(f"{prefix}stack cannot be set", "The stack's name comes from the file's name.")
    if isinstance(own.get("tiers"), dict):
        raise SettingsError(
            f"{prefix}tiers is a mapping, and is a list now",
            "Write each tier as `- name: NAME` with `role: gateway` or `role: model`, put min, desired and "
            "max below `capacity:`, and onDemandBase, onDemandPercent and instanceTypes below `purchase:`; "
            "see docs/settings.md.",
        )
    return own


def listed(error: ValidationError, own: Mapping[str, object]) -> str:
    """A line for each mistake, which begins with the setting's path; a tier goes by its name."""
    return "\n".join(
        f"  {_where(item['loc'], own)}{_complaint(item)}" for item in error.errors(include_url=False)
    )


def _decoded(value: object) -> object:
    """Pulumi hands structured values to programs as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _where(location: tuple[int | str, ...], own: Mapping[str, object]) -> str:
    match location:
        case ():
            return ""
        case ("tiers", int(number), role, *rest) if role in _ROLES:
            path: list[int | str] = ["tiers", _tier_name(number, own), *rest]
        case ("tiers", int(number), *rest):
            path = ["tiers", _tier_name(number, own), *rest]
        case _:
            path = list(location)
    return f"{NAMESPACE}:{'.'.join(map(str, path))}: "


def _tier_name(number: int, own: Mapping[str, object]) -> str:
    tiers = own["tiers"]
    tier = tiers[number] if isinstance(tiers, list) else None
    name = tier.get("name") if isinstance(tier, dict) else None
    return name if isinstance(name, str) and name else str(number)


def _complaint(item: Any) -> str:
    match item["type"]:
        case "extra_forbidden":
            return "there is no such setting"
        case "missing":
            return "is missing"
        case "union_tag_not_found":
            return f"role is missing: set it to {' or '.join(_ROLES)}"
        case "union_tag_invalid":
            return f"role must be {' or '.join(_ROLES)}, not {item['ctx']['tag']!r}"
        case "value_error":
            return str(item["ctx"]["error"])
        case _:
            return f"{item['msg']}, not {item['input']!r}"
