"""Keys in force: found by hash, replaced whole or not at all."""

import hashlib
import json
from typing import Any

import pytest

from server.auth.keyring import Keyring
from server.errors import KeysUnusable, SecretUnreadable


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def document(*keys: str, **fields: Any) -> str:
    records = [{"id": key, "sha256": digest(key).hex(), "tenant": "t", **fields} for key in keys]
    return json.dumps({"keys": records})


class Source:
    """What is read is set by the test."""

    def __init__(self, text: str) -> None:
        self.text: str | None = text

    def __call__(self) -> str:
        if self.text is None:
            raise SecretUnreadable("it is gone")
        return self.text


async def test_a_new_document_takes_effect_without_a_restart(clock: Any, log: Any) -> None:
    """A key that was added is found, one that was removed is not; whoever caches is told."""
    source, changes = Source(document("one")), []
    keyring = Keyring(source, poll_s=1, clock=clock, log=log)
    keyring.changed = lambda: changes.append(1)
    await keyring.load()
    source.text = document("two")
    await keyring.reload()
    await keyring.reload()
    assert keyring.find(digest("one")) is None
    found = keyring.find(digest("two"))
    assert found is not None
    assert found.principal.key_id == "two"
    assert (len(changes), log.names()) == (2, ["keys.loaded"] * 2)


@pytest.mark.parametrize("bad", [None, "", "{", '{"keys": []}', document("two", colour="red")])
async def test_a_bad_reload_keeps_the_old_keys_and_says_so_once(bad: Any, clock: Any, log: Any) -> None:
    """A slip of an editor or an outage of AWS locks nobody out; it is told again when it is another."""
    source = Source(document("one"))
    keyring = Keyring(source, poll_s=1, clock=clock, log=log)
    await keyring.load()
    source.text = bad
    await keyring.reload()
    await keyring.reload()
    assert keyring.failing
    assert keyring.find(digest("one")) is not None
    assert log.names() == ["keys.loaded", "keys.unusable"]
    assert log.lines[-1][1]["kept"] == 1
    source.text = document("three")
    await keyring.reload()
    assert not keyring.failing
    assert keyring.find(digest("three")) is not None


@pytest.mark.parametrize("bad", [None, "", '{"keys": []}'])
async def test_the_first_load_must_succeed(bad: Any, clock: Any, log: Any) -> None:
    """A gateway without keys would refuse everybody, so it does not start."""
    with pytest.raises((SecretUnreadable, KeysUnusable)):
        await Keyring(Source(bad), poll_s=1, clock=clock, log=log).load()


async def test_a_key_ends_when_it_expires(clock: Any, log: Any) -> None:
    """To the second, without a reload."""
    keyring = Keyring(Source(document("one", expires="2027-01-01T00:00:00Z")), poll_s=1, clock=clock, log=log)
    await keyring.load()
    clock.now = 1798761599.9
    assert keyring.find(digest("one")) is not None
    clock.now = 1798761600.0
    assert keyring.find(digest("one")) is None
