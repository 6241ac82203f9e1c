"""Every setting in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from fleet.stack.explain import all_settings, values
from fleet.stack.explain_words import describe, page
from fleet.stack.settings import Settings, load_settings
from fleet.stack.settings_base import Group

PROJECT = Path(__file__).parents[3]


@pytest.mark.parametrize("setting", all_settings(), ids=lambda setting: setting.path)
def test_every_setting_is_documented(setting) -> None:
    """What it is and when to change it, in whole sentences."""
    for text in (setting.description, setting.when):
        assert len(text) >= 7
        assert text.endswith("."), f"add description and json_schema_extra=when(...) to {setting.path}"


def test_the_page_is_what_the_models_say() -> None:
    """A setting that was added or changed is on it."""
    hint = "run: goldenfleet config explain --markdown > docs/settings.md"
    assert (PROJECT / "docs/settings.md").read_text() == page(), hint


def test_no_setting_is_left_out() -> None:
    """Every key that a stack's file may hold has its line on the page."""
    dumped = load_settings(PROJECT, "prod").model_dump(mode="json", by_alias=True)
    told = {setting.path.removeprefix("goldenfleet:") for setting in all_settings()}
    wanted = {key for key in dumped if key != "stack"}
    for tier in dumped["tiers"]:
        wanted |= {f"tiers.NAME.{key}" for key in tier}
        wanted |= {f"tiers.NAME.{key}.{inner}" for key in tier for inner in keys(tier[key])}
    assert wanted <= told
    assert all(f"`{path.rpartition('.')[2]}`" in page() for path in wanted - groups())


def test_every_field_of_the_models_has_a_line() -> None:
    """However its type is written: what a file may hold is told, with its type, under its group."""
    told = {setting.path for setting in all_settings()}
    lines = set(page().splitlines())
    for path, is_group in fields(Settings, "goldenfleet:"):
        assert path in told
        name = path.rpartition(".")[2].removeprefix("goldenfleet:")
        assert is_group or any(line.startswith(f"| `{name}`") for line in lines), path


def fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, bool]]:
    """Each field's path, and whether it is a group."""
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or to_camel(name))
        groups = [kind for kind in kinds(field.annotation) if issubclass(kind, Group)]
        if key == "goldenfleet:stack":
            continue
        yield key, bool(groups)
        for group in groups:
            yield from fields(group, f"{key}.NAME." if "tuple" in str(field.annotation) else f"{key}.")


def kinds(annotation: object) -> Iterator[type]:
    """The classes that an annotation is made of."""
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
    for inner in get_args(annotation):
        yield from kinds(inner)


def test_choices_with_texts_beside_them_are_told() -> None:
    """A word or an ARN is no group: the web firewall and the key have lines of their own."""
    told = {setting.path: setting for setting in all_settings()}
    assert told["goldenfleet:edge.waf"].kind == "none, managed or text"
    assert told["goldenfleet:security.key"].kind == "aws, own or text"
    assert "| `waf` | none, managed or text | by default none |" in page()
    assert "goldenfleet:security.key\n" in describe()


def keys(value: object) -> list[str]:
    return list(value) if isinstance(value, dict) else []


def groups() -> set[str]:
    found = {setting.path.removeprefix("goldenfleet:") for setting in all_settings() if setting.is_group}
    return {*found, "tiers"}


def test_types_and_defaults_are_told_as_a_form_has_them() -> None:
    """Ranges, choices and what must be set; a tier's own settings say whose they are."""
    told = {setting.path: setting for setting in all_settings()}
    zones = told["goldenfleet:network.zones"]
    assert (zones.kind, zones.default, zones.required) == ("whole number from 2 to 6", 3, False)
    assert told["goldenfleet:network.nat"].kind == "single, per-zone or none"
    assert told["goldenfleet:tiers.NAME.capacity.max"].required
    assert told["goldenfleet:tiers.NAME.engine"].roles == ("model",)
    assert told["goldenfleet:tiers.NAME.recipe"].roles == ()
    types = told["goldenfleet:tiers.NAME.purchase.instanceTypes"]
    assert types.kind == "list of text, 1 to 40"
    assert json.loads(json.dumps(types.as_json()))["setting"] == types.path


def test_a_stack_shows_what_it_has() -> None:
    """Beside the default; where tiers differ, each one's."""
    prod = values(load_settings(PROJECT, "prod"))
    assert prod["goldenfleet:network.nat"] == "per-zone"
    assert prod["goldenfleet:tiers.NAME.capacity.min"] == "gateway 3, model 2"
    assert prod["goldenfleet:tiers.NAME.channel"] == "prod"
    assert "here gateway 3, model 2" in describe(prod)
    assert "; here " not in describe()


def test_the_stack_itself_is_no_setting() -> None:
    """Its name comes from the file's."""
    assert "stack" in Settings.model_fields
    assert "goldenfleet:stack" not in {setting.path for setting in all_settings()}
