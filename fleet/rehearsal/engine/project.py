"""The Pulumi project: where its program is, and what a stack configures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fleet.rehearsal.engine.errors import ProjectError


@dataclass(frozen=True)
class Project:
    name: str
    stack: str
    folder: Path
    program: Path
    """The folder that the program runs in, with its __main__.py."""
    config: Mapping[str, str]
    """Namespaced key -> text; structured values are JSON, as Pulumi hands them to programs."""


def load_project(folder: Path, stack: str, overrides: Mapping[str, str]) -> Project:
    """Raises ProjectError."""
    description = _read(folder / "Pulumi.yaml")
    name = description.get("name")
    if not isinstance(name, str):
        raise ProjectError(f"{folder / 'Pulumi.yaml'} gives no name", "Add `name:`.")
    program = (folder / str(description.get("main", "."))).resolve()
    if not (program / "__main__.py").is_file():
        raise ProjectError(
            f"there is no program at {program / '__main__.py'}", "Correct `main:` in Pulumi.yaml."
        )
    config = {**_defaults(description), **_stack_config(folder, stack), **overrides}
    texts = {_namespaced(key, name): _text(key, value) for key, value in config.items()}
    return Project(name, stack, folder.resolve(), program, texts)


def _defaults(description: Mapping[str, Any]) -> dict[str, Any]:
    """Values that Pulumi.yaml gives for every stack, plain or by `default:` and `value:`."""
    found: dict[str, Any] = {}
    for key, entry in (description.get("config") or {}).items():
        declared = isinstance(entry, dict) and {"default", "value", "type"} & entry.keys()
        value = entry.get("value", entry.get("default")) if declared else entry
        if value is not None:
            found[key] = value
    return found


def _stack_config(folder: Path, stack: str) -> dict[str, Any]:
    path = folder / f"Pulumi.{stack}.yaml"
    if not path.is_file():
        known = sorted(
            p.name.removeprefix("Pulumi.").removesuffix(".yaml") for p in folder.glob("Pulumi.*.yaml")
        )
        raise ProjectError(
            f"there is no stack {stack!r}: no {path}", f"Stacks here: {', '.join(known) or 'none'}."
        )
    return dict(_read(path).get("config") or {})


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise ProjectError(f"there is no {path}", "Name the folder of a Pulumi project.") from exc
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise ProjectError(f"{path} cannot be read: {exc}", "Correct the file.") from exc
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ProjectError(f"{path} is no mapping", "Correct the file.")
    return document


def _namespaced(key: str, project: str) -> str:
    return key if ":" in key else f"{project}:{key}"


def _text(key: str, value: Any) -> str:
    if isinstance(value, dict) and value.keys() == {"secure"}:
        raise ProjectError(
            f"configuration {key} is encrypted, and the rehearsal holds no key",
            "Override it with a value for the rehearsal.",
        )
    return value if isinstance(value, str) else json.dumps(value)
