"""The keys document: what it may say, and what is refused."""

import hashlib
import json
from typing import Any

import pytest

from server.auth.keyfile import EXAMPLE_KEY, both, read_keys
from server.auth.principal import Allowance, Priority
from server.errors import KeysUnusable


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


RECORD: dict[str, Any] = {"id": "a", "sha256": digest("gf_one"), "tenant": "acme"}


def document(*changes: dict[str, Any], **more: Any) -> str:
    return json.dumps({"keys": [RECORD | change for change in changes], **more})


def test_a_short_record_means_everything_and_no_limit() -> None:
    """Only a hash, a name and a tenant are needed."""
    [key] = read_keys(document({})).keys.values()
    principal = key.principal
    assert (principal.tenant, principal.key_id, principal.models) == ("acme", "a", None)
    assert principal.scopes == {"generate", "models"}
    assert (principal.limits, principal.priority) == (Allowance(), Priority.NORMAL)
    assert key.expires == float("inf")


def test_a_tenant_s_models_and_limits_hold_for_its_keys() -> None:
    """A key may do what both it and its tenant may."""
    tenants = {"acme": {"models": ["m", "n"], "limits": {"tokens_per_minute": 5}}}
    [key] = read_keys(document({"models": ["n", "o"]}, tenants=tenants)).keys.values()
    assert key.principal.models == {"n"}
    assert key.principal.tenant_limits == Allowance(tokens_per_minute=5)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (None, None, None),
        (["a"], None, {"a"}),
        (None, ["a"], {"a"}),
        (["a", "b"], ["b"], {"b"}),
        (["a"], ["b"], set()),
    ],
)
def test_what_both_allow(first: Any, second: Any, expected: Any) -> None:
    """None allows all; two lists that share nothing allow nothing, which is not the same."""
    assert both(first, second) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "valid dictionary"),
        ("{}", "keys: Field required"),
        ('{"keys": []}', "holds no key"),
        (document({}, {}), "same id"),
        (document({}, {"id": "b"}), "same sha256"),
        (document({"sha256": digest("")}), "everybody knows"),
        (document({"sha256": digest(EXAMPLE_KEY)}), "everybody knows"),
        (document({"sha256": digest("sk-1234")}), "everybody knows"),
        (document({"sha256": "gf_a-key-where-its-hash-belongs"}), "keys.0.sha256"),
        (document({"sha256": digest("x").upper()}), "keys.0.sha256"),
        (document({"tenant": "a/b"}), "keys.0.tenant"),
        (document({"id": ""}), "keys.0.id"),
        (document({"scopes": []}), "keys.0.scopes"),
        (document({"scopes": ["admin"]}), "keys.0.scopes"),
        (document({"models": []}), "keys.0.models"),
        (document({"limits": {"requests_per_minute": 0}}), "keys.0.limits.requests_per_minute"),
        (document({"limits": {"rpm": 1}}), "keys.0.limits.rpm"),
        (document({"expires": "2027-01-01T00:00:00"}), "keys.0.expires"),
        (document({"priority": "urgent"}), "keys.0.priority"),
        (document({"admin": True}), "keys.0.admin"),
        (document({}, tenants={"acme": {"model": "m"}}), "tenants.acme.model"),
    ],
)
def test_a_document_that_is_not_all_good_is_refused(text: str, said: str) -> None:
    """One bad record is a reason to keep the old set: whoever wrote it meant something else."""
    with pytest.raises(KeysUnusable, match=said) as caught:
        read_keys(text)
    assert "gf_a-key" not in str(caught.value)
