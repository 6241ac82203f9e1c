"""What is said of settings that are wrong in themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fleet.errors import SettingsError
from fleet.stack.settings import Settings
from fleet.stack.settings_files import read_config
from tests.fleet.stack.given import changed, refusal


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (
            "edge.waf",
            "on",
            "edge.waf: must be none or managed, or the ARN of a web ACL, arn:aws:wafv2:REGION:ACCOUNT:",
        ),
        ("security", {"key": True}, "security.key: must be aws or own, or the ARN of a key, "),
        ("edge.domain", "llm", "edge.domain: must be a domain such as llm.example.com, not 'llm'"),
        ("network.zones", 9, "network.zones: must be at most 6, not 9"),
        ("network.zones", "three", "network.zones: must be a whole number, not 'three'"),
        ("network.nat", "per_zone", "network.nat: must be single, per-zone or none, not 'per_zone'"),
        ("network.cidr", "10.0.1.0/16", "network.cidr: must be a network such as 10.0.0.0/16, of which "),
        ("network.nta", "none", "network.nta: there is no such setting: did you mean nat?"),
        ("network.colour", "red", "network.colour: there is no such setting"),
        ("edge.allowedCidrs", [], "edge.allowedCidrs: must have at least 1 entry, not 0"),
        ("alarms", None, "alarms: must be a group of settings, not empty"),
        ("alarms", {"errorsPercent": 0}, "alarms.errorsPercent: must be above 0, not 0"),
        ("production", "maybe", "production: must be true or false, not 'maybe'"),
        ("production", "yes", "production: must be true or false, not 'yes'"),
        ("production", 1, "production: must be true or false, not 1"),
    ],
)
def test_a_mistake_is_a_line_that_says_what_would_do(path: str, value: Any, says: str) -> None:
    """No pattern, no type of Python's, and one line also where several things would do."""
    said = refusal(changed(path, value))
    assert says in said
    assert "pattern" not in said
    assert "Input" not in said
    assert said.count("goldenfleet:") == 1


def test_what_stands_in_a_secrets_place_is_not_repeated() -> None:
    """Somebody may have written the key itself where its place belongs."""
    said = refusal(changed("access", {"keys": "gf_canary"}))
    assert "access.keys: must be where it is kept, ssm:/NAME or secretsmanager:NAME" in said
    assert "canary" not in said


@pytest.mark.parametrize(
    ("group", "key", "value"),
    [
        ("edge", "certificateArn", "arn:aws:acm:us-east-1:123456789012:certificate/a"),
        ("edge", "waf", "arn:aws:wafv2:us-east-1:123456789012:regional/webacl/a/0"),
        ("security", "key", "arn:aws:kms:us-east-1:123456789012:key/0"),
        ("alarms", "topicArn", "arn:aws:sns:us-east-1:123456789012:on-call"),
    ],
)
def test_what_is_of_another_region_is_refused(group: str, key: str, value: str) -> None:
    """AWS would, when networks and balancers are made; in the stack's own region it may be."""
    more = {"domain": "llm.example.com"} if key == "certificateArn" else {}
    config = changed(group, {key: value, **more})
    said = refusal({**config, "aws:region": "eu-west-1"})
    assert f"goldenfleet:{group}.{key} is of us-east-1, and aws:region is eu-west-1: name one" in said
    assert Settings.from_config("dev", {**config, "aws:region": "us-east-1"})
    assert Settings.from_config("dev", config)


def test_a_file_that_is_no_yaml_says_where(tmp_path: Path) -> None:
    """The line and the column, as editors count."""
    file = tmp_path / "Pulumi.dev.yaml"
    file.write_text("config:\n  goldenfleet:tiers: [\n")
    with pytest.raises(SettingsError, match=r"Pulumi\.dev\.yaml is no YAML: line 3, column 1: expected"):
        read_config(file)
