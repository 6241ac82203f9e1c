"""Values on the wire, in memory and in the state file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pulumi.runtime import rpc

from fleet.rehearsal.engine.values import (
    SIGNATURE,
    Redactor,
    Secret,
    decode,
    encode,
    hide,
    known,
    reveal,
    seal,
)
from fleet.rehearsal.resources import UNKNOWN
from fleet.rehearsal.resources.archives import Archive
from fleet.rehearsal.resources.errors import ArgumentRefusedError

_ASSET, _ARCHIVE = "c44067f5952c0a294b673a41bacd8c17", "0def7320c3a5731c473e5ecbe6d01bc7"
KEY, OTHER_KEY = b"k" * 32, b"o" * 32
SCALARS = st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS | st.just(UNKNOWN) | SCALARS.map(Secret),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=4))
def test_values_come_back_from_the_wire_as_they_went(values) -> None:
    """Numbers, texts, structures, secrets and unknowns survive encoding."""
    assert decode(encode(values)) == values


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=4))
def test_a_sealed_value_holds_no_secret_and_equals_only_itself(values) -> None:
    """What is stored is JSON without secrets, and the same for the same value."""
    sealed = seal(values, KEY)
    assert seal(values, KEY) == sealed
    assert "Secret" not in repr(sealed)
    json.dumps(known(sealed), default=lambda value: value.value)


def test_the_sdk_reads_what_is_encoded() -> None:
    """Markers are Pulumi's own: the SDK finds the secret and the unknown."""
    struct = encode({"open": 1, "hidden": Secret("x"), "later": UNKNOWN})
    read = rpc.deserialize_properties(struct, True)
    assert rpc.is_rpc_secret(read["hidden"])
    assert rpc.unwrap_rpc_secret(read["hidden"]) == "x"
    assert (read["open"], rpc.contains_unknowns(read["later"])) == (1, True)


def test_a_digest_changes_with_the_secret_and_with_the_key() -> None:
    """Digests show a change to who has the key, and tell nothing to who has not."""
    digests = [seal(Secret(v), k) for v, k in (("a", KEY), ("b", KEY), ("a", OTHER_KEY))]
    assert len({json.dumps(digest) for digest in digests}) == 3
    assert seal(Secret("a"), KEY) == digests[0]


def test_a_secret_that_is_not_known_yet_equals_nothing_stored() -> None:
    """A preview cannot tell whether it will change."""
    assert seal(Secret({"a": [UNKNOWN]}), KEY) is UNKNOWN


def test_secrets_are_revealed_for_aws_and_hidden_for_people() -> None:
    """At any depth."""
    value = {"a": [Secret({"b": Secret("x")})], "c": 1}
    assert reveal(value) == {"a": [{"b": "x"}], "c": 1}
    assert hide(value) == {"a": ["[secret]"], "c": 1}
    assert "x" not in repr(value).replace("[secret]", "")


def test_an_output_value_is_read_by_what_it_says_of_itself() -> None:
    """Known, unknown and secret outputs, though the SDK is told to send none."""
    signature = {SIGNATURE: "d0e6a833031e9bbcd3f4e8bde6ca49a4"}
    struct = encode(
        {"a": {**signature, "value": 1}, "b": signature, "c": {**signature, "value": 1, "secret": True}}
    )
    assert decode(struct) == {"a": 1, "b": UNKNOWN, "c": Secret(1)}


def test_what_has_an_unknown_signature_is_refused() -> None:
    """A value whose meaning is not known must not pass as a structure."""
    with pytest.raises(ArgumentRefusedError, match=r"argument a\[0\] is of a kind"):
        decode(encode({"a": [{SIGNATURE: "from the future"}]}))


def test_a_redactor_hides_secrets_as_messages_write_them() -> None:
    """Plain, escaped for JSON, as Python shows it, and by line; short ones would hide words."""
    redactor = Redactor()
    redactor.learn({"a": [Secret('pass"word')], "b": Secret({"c": "line one\nline two"}), "d": Secret("1")})
    assert redactor('pass"word pass\\"word') == "[secret] [secret]"
    assert redactor("line two: 1") == "[secret]: 1"
    assert redactor.finds("a line one b")
    assert not redactor.finds("nothing")


def test_an_archive_of_files_and_texts(tmp_path: Path) -> None:
    """It is read when it is told of, goes back as the SDK reads it, and leaves its digest in the state."""
    (tmp_path / "a.py").write_text("a = 1\n")
    held = {
        "pkg/a.py": {SIGNATURE: _ASSET, "path": str(tmp_path / "a.py")},
        "b.py": {SIGNATURE: _ASSET, "text": "b"},
    }
    struct = encode({"code": {SIGNATURE: _ARCHIVE, "assets": held}})
    archive = decode(struct)["code"]
    assert archive == Archive((("b.py", "b"), ("pkg/a.py", "a = 1\n")))
    assert decode(encode({"code": archive})) == {"code": archive}
    back = rpc.deserialize_properties(encode({"code": archive}))["code"]
    assert sorted(back.assets) == ["b.py", "pkg/a.py"]
    sealed = seal({"code": archive}, KEY)
    assert json.loads(json.dumps(sealed)) == sealed != seal({"code": Archive((("b.py", "c"),))}, KEY)
    assert "2 files" in hide({"code": archive})["code"]


@pytest.mark.parametrize(
    "value",
    [
        {SIGNATURE: _ASSET, "text": "x"},
        {SIGNATURE: _ARCHIVE, "path": "/a.zip"},
        {SIGNATURE: _ARCHIVE, "assets": {"a": {SIGNATURE: "other", "text": "x"}}},
        {
            SIGNATURE: _ARCHIVE,
            "assets": {"a": {SIGNATURE: _ASSET, "path": "/no/such/file"}},
        },
    ],
)
def test_other_assets_and_archives(value: dict[str, object]) -> None:
    """They are refused, with their place."""
    with pytest.raises(ArgumentRefusedError, match="code"):
        decode(encode({"code": value}))
