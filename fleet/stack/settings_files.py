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
from fleet.stack.settings_complaints import ROLES, complaint

_PREFIX = f"{NAMESPACE}:"


def read_config(path: Path) -> dict[str, object]:
    """Everything below `config:` in a Pulumi.<stack>.yaml. Raises SettingsError."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise SettingsError(
            f"there is no {path}", "Name one of the stacks that have a Pulumi.<stack>.yaml."
        ) from exc
    except yaml.MarkedYAMLError as exc:
        raise SettingsError(f"{path} is no YAML: {_at(exc)}", "Correct the file.") from exc
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
    own = {key.removeprefix(_PREFIX): _decoded(v) for key, v in config.items() if key.startswith(_PREFIX)}
    if "stack" in own:
        raise SettingsError(f"{_PREFIX}stack cannot be set", "The stack's name comes from the file's name.")
    if isinstance(own.get("tiers"), dict):
        raise SettingsError(
            f"{_PREFIX}tiers is a mapping, and is a list now",
            "Write each tier as `- name: NAME` with `role: gateway` or `role: model`, put min, desired and "
            "max below `capacity:`, and onDemandBase, onDemandPercent and instanceTypes below `purchase:`; "
            "see docs/settings.md.",
        )
    return own


def listed(error: ValidationError, own: Mapping[str, object]) -> str:
    """A line for each setting that is wrong, which begins with its path; a tier goes by its name."""
    # Here, for it reads what imports this.
    from fleet.stack.explain import all_settings

    known = sorted({setting.path.rpartition(".")[2].removeprefix(_PREFIX) for setting in all_settings()})
    found: dict[str, list[Any]] = {}
    for item in error.errors(include_url=False):
        found.setdefault(_where(item["loc"], own), []).append(item)
    return "\n".join(f"  {where}{complaint(items, known)}" for where, items in found.items())


def _decoded(value: object) -> object:
    """Pulumi hands structured values to programs as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _at(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark
    return f"{f'line {mark.line + 1}, column {mark.column + 1}: ' if mark else ''}{error.problem}"


def _where(location: tuple[int | str, ...], own: Mapping[str, object]) -> str:
    # Which of several things a setting was tried as stands behind its name, with brackets in it.
    match tuple(part for part in location if "[" not in str(part)):
        case ():
            return ""
        case ("tiers", int(number), role, *rest) if role in ROLES:
            path: list[int | str] = ["tiers", _tier_name(number, own), *rest]
        case ("tiers", int(number), *rest):
            path = ["tiers", _tier_name(number, own), *rest]
        case named:
            path = list(named)
    return f"{_PREFIX}{'.'.join(map(str, path))}: "


def _tier_name(number: int, own: Mapping[str, object]) -> str:
    tiers = own["tiers"]
    tier = tiers[number] if isinstance(tiers, list) else None
    name = tier.get("name") if isinstance(tier, dict) else None
    return name if isinstance(name, str) and name else str(number)
