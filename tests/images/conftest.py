"""Recipes that tests vary."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from images.recipe import Recipe, parse

RECIPES = Path(__file__).parent.parent.parent / "images" / "recipes"

MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def make_recipe() -> MakeRecipe:
    """A shipped recipe, with keys set by their dotted path; None removes one."""
    return _make


@pytest.fixture(scope="session")
def make_variant() -> MakeRecipe:
    """`make_recipe` for fixtures that outlive a test."""
    return _make


def _make(name: str = "rehearsal", /, **changes: Any) -> Recipe:
    path = RECIPES / f"{name}.toml"
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    for dotted, value in changes.items():
        _set(data, dotted.split("__"), copy.deepcopy(value))
    return parse(data, path)


def _set(data: dict[str, Any], keys: list[str], value: Any) -> None:
    *parents, last = keys
    for key in parents:
        data = data.setdefault(key, {})
    if value is None:
        data.pop(last, None)
    else:
        data[last] = value
