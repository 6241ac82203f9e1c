"""Settings as a whole: what is refused at every level, what production asks, and where they come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import SettingsError
from fleet.stack.settings import Edge, GatewayTier, ModelTier, Network, Settings, load_settings
from tests.fleet.stack.conftest import PROJECT
from tests.fleet.stack.given import CERTIFICATE, GOOD, REMOVED, changed, refusal


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("colour", "red", "goldenfleet:colour: there is no such setting"),
        ("network.nats", 1, "goldenfleet:network.nats: there is no such setting"),
        ("edge.ports", [80], "goldenfleet:edge.ports: there is no such setting"),
        ("tiers.model.spotPrice", 1, "goldenfleet:tiers.model.spotPrice: there is no such setting"),
        (
            "tiers.model.instance_types",
            [],
            "goldenfleet:tiers.model.instance_types: there is no such setting",
        ),
        ("tiers.gateway.engine", "vllm", "goldenfleet:tiers.gateway.engine: there is no such setting"),
        (
            "tiers.model.scaling.requestsPerTarget",
            9,
            "goldenfleet:tiers.model.scaling.requestsPerTarget: there is no such",
        ),
        ("stack", "dev", "goldenfleet:stack cannot be set"),
    ],
)
def test_unknown_settings_are_refused_at_every_level(path: str, value: Any, says: str) -> None:
    """A key that no setting has is named with its whole path."""
    assert says in refusal(changed(path, value))


@pytest.mark.parametrize(
    "path",
    [
        "tiers",
        "tiers.gateway.purchase",
        "tiers.gateway.capacity",
        "tiers.model.recipe",
        "tiers.model.engine",
        "tiers.gateway.purchase.onDemandBase",
    ],
)
def test_missing_settings_are_named(path: str) -> None:
    """What has no default must be there."""
    assert f"goldenfleet:{path}: is missing" in refusal(changed(path, REMOVED))


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("tiers.model.capacity.min", 3, "desired 2 is below min 3: raise desired to 3 or lower min to 2"),
        ("tiers.model.capacity.desired", 9, "desired 9 is above max 4: lower desired to 4 or raise max to 9"),
        ("tiers.gateway.capacity.min", 5, "min 5 is above max 4: lower min to 4 or raise max to 5"),
        (
            "tiers.model.purchase.onDemandBase",
            5,
            "onDemandBase 5 is above capacity.max 4: lower onDemandBase to 4 or raise max to 5",
        ),
        ("tiers.model.purchase.onDemandBase", -1, "at least 0, not -1"),
        ("tiers.model.purchase.onDemandPercent", 101, "at most 100, not 101"),
        ("tiers.model.purchase.onDemandPercent", -1, "at least 0, not -1"),
        ("tiers.model.capacity.max", 0, "at least 1, not 0"),
        ("tiers.model.drain.deregistrationDelaySeconds", 91, "at most 90, not 91"),
        ("tiers.model.purchase.instanceTypes", [], "at least 1 entry"),
        ("tiers.model.purchase.instanceTypes", ["g6"], "not 'g6'"),
        (
            "tiers.model.purchase.instanceTypes",
            ["g6.xlarge"] * 2,
            "instanceTypes names g6.xlarge more than once",
        ),
        ("tiers.model.purchase.instanceTypes", [f"g6.{n}xlarge" for n in range(41)], "at most 40 entries"),
        (
            "tiers.model.purchase.instanceTypes",
            ["g6.xlarge", "c7i.large"],
            "engine vllm needs GPUs, and purchase.instanceTypes has c7i",
        ),
        (
            "tiers.gateway.purchase.instanceTypes",
            ["c7i.large", "c7g.large"],
            "c7i.large is x86_64, c7g.large is arm64",
        ),
        ("tiers.model.engine", "ollama", "not 'ollama'"),
        ("tiers.model.channel", "beta", "not 'beta'"),
        ("tiers.model.recipe", "../up", "not '../up'"),
        ("tiers.model.volumes.rootGib", 1, "at least 8, not 1"),
        ("tiers.gateway.scaling.requestsPerTarget", 0, "at least 1, not 0"),
        ("network.zones", 1, "at least 2, not 1"),
        ("network.zones", 7, "at most 6, not 7"),
        ("network.cidr", "10.0.0.0/20", "cidr 10.0.0.0/20 must be from /16"),
        ("network.cidr", "10.0.0.0/8", "cidr 10.0.0.0/8 must be from /16"),
        ("network.cidr", "10.0.0.1/16", "not '10.0.0.1/16'"),
        (
            "network.nat",
            "none",
            "nat is none and endpoints is false, so no node could reach AWS: set endpoints",
        ),
        ("network.nat", "off", "not 'off'"),
        ("edge.idleTimeoutSeconds", 20, "at least 30, not 20"),
        ("edge.allowedCidrs", [], "at least 1 entry"),
        (
            "edge.allowedCidrs",
            ["10.0.0.0/8", "192.0.2.0/24", "10.0.0.0/8"],
            "allowedCidrs names 10.0.0.0/8 more than once: remove the copies",
        ),
        ("edge.certificateArn", "arn:aws:iam::1:x", "not 'arn:aws:iam::1:x'"),
        ("edge.certificateArn", CERTIFICATE["certificateArn"], "domain is missing"),
        ("edge.domain", "llm.example.com", "certificateArn is missing"),
        ("logRetentionDays", 8, "not 8"),
    ],
)
def test_impossible_settings_are_refused(path: str, value: Any, says: str) -> None:
    """The message names the setting, or its tier and in it the numbers to change."""
    message = refusal(changed(path, value))
    assert says in message
    group, _, leaf = f"goldenfleet:{path}".rpartition(".")
    above, _, _ = group.rpartition(".")
    named = any(f"  {setting}: " in message for setting in (group, above))
    assert f"  goldenfleet:{path}" in message or (named and leaf in message)


def test_every_wrong_setting_is_listed_at_once() -> None:
    """Two mistakes need one run to be found."""
    config = changed("tiers.model.purchase.onDemandPercent", 101)
    config["goldenfleet:network"]["zones"] = 1
    message = refusal(config)
    assert "goldenfleet:tiers.model.purchase.onDemandPercent" in message
    assert "goldenfleet:network.zones" in message


@pytest.mark.parametrize(
    ("stack", "says"),
    [
        ("rehearsal-of-it", "has 15 characters, 2 more than the 13 that fit"),
        ("Dev", "lower-case letters"),
        ("1st", "begin with a letter"),
        ("dev-", "lower-case letters"),
        ("a--b", "single hyphens"),
        ("", "begin with a letter"),
    ],
)
def test_stack_names_that_no_load_balancer_can_have_are_refused(stack: str, says: str) -> None:
    """The limit is told, and by how much a name exceeds it."""
    assert says in refusal(GOOD, stack)
    with pytest.raises(SettingsError, match=says):
        load_settings(PROJECT, stack)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("edge", {}, "goldenfleet:edge.certificateArn is missing: production serves HTTPS only"),
        (
            "tiers.gateway.purchase.onDemandBase",
            0,
            "goldenfleet:tiers.gateway.purchase.onDemandBase is 0: raise it to 1",
        ),
        (
            "tiers.model.purchase.onDemandBase",
            0,
            "goldenfleet:tiers.model.purchase.onDemandBase is 0: raise it to 1",
        ),
        ("tiers.model.capacity.min", 1, "goldenfleet:tiers.model.capacity.min is 1: raise it to 2"),
        ("network.nat", "single", "goldenfleet:network.nat is single: set it to per-zone"),
        ("access", {"open": True}, "goldenfleet:access.open is true: remove it"),
    ],
)
def test_production_asks_for_more(path: str, value: Any, says: str) -> None:
    """HTTPS, and a node in each tier that spot cannot take; elsewhere neither is asked."""
    config = {"goldenfleet:edge": CERTIFICATE, **changed(path, value), "goldenfleet:production": True}
    if path != "edge":
        config["goldenfleet:edge"] = CERTIFICATE
    assert says in refusal(config)
    assert Settings.from_config("dev", {**config, "goldenfleet:production": False})


def test_configuration_reads_the_same_as_json_text() -> None:
    """A running program gets structured values as JSON text and passes other namespaces over."""
    text = {key: json.dumps(value) for key, value in GOOD.items()} | {"aws:region": "us-east-1"}
    assert Settings.from_config("dev", text) == Settings.from_config("dev", GOOD)


@pytest.mark.parametrize("stack", ["rehearsal", "dev", "stage", "prod"])
def test_every_stack_of_the_project_loads(stack: str) -> None:
    """The files in the repository are good, diverse and mostly spot."""
    settings = load_settings(PROJECT, stack)
    assert settings.production is (stack == "prod")
    assert [tier.role for tier in settings.tiers] == ["gateway", "model"]
    for tier in settings.tiers:
        assert len(tier.purchase.instance_types) >= 3
        assert tier.purchase.on_demand_percent < 50


def test_overrides_replace_whole_keys() -> None:
    """What the command line sets wins over the file."""
    settings = load_settings(PROJECT, "rehearsal", {"goldenfleet:network": '{"zones": 2}'})
    assert settings.network.zones == 2
    assert len(settings.network.private_blocks) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("config: [", "is no YAML: line 1, column 10: "),
        ("- a", "has no `config:`"),
        ("config:", "has no `config:`"),
        ("", "has no"),
    ],
)
def test_files_that_are_no_stack_are_refused(tmp_path: Path, text: str, says: str) -> None:
    """The file is named, and what is wrong with it."""
    path = tmp_path / "Pulumi.dev.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=says) as caught:
        load_settings(tmp_path, "dev")
    assert str(path) in str(caught.value)


def test_a_stack_without_a_file_is_refused(tmp_path: Path) -> None:
    """The missing file is named."""
    with pytest.raises(SettingsError, match=r"there is no .*Pulumi\.dev\.yaml"):
        load_settings(tmp_path, "dev")


def test_every_setting_is_described() -> None:
    """A person can learn from the model what each setting does."""
    for model in (Settings, Network, Edge, GatewayTier, ModelTier):
        for name, field in model.model_fields.items():
            assert (field.description or "").endswith("."), f"{model.__name__}.{name}"


def test_settings_do_not_change() -> None:
    """They are frozen: what was checked is what runs."""
    settings = Settings.from_config("dev", GOOD)
    with pytest.raises(ValueError, match="frozen"):
        settings.tier("model").capacity.max = 99  # type: ignore[misc]
