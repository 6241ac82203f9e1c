"""Every setting in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleet.stack.explain import all_settings, values
from fleet.stack.explain_words import describe, page
from fleet.stack.settings import Settings, load_settings

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
