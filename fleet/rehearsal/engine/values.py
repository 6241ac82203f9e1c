"""Values of resources: on Pulumi's wire, in memory, and in the state file.

On the wire special values are structures under a signature key (pulumi/pulumi, sdk/go/common/resource:
properties.go and asset/asset.go). In memory a secret is a Secret, and what a preview cannot know is UNKNOWN.
In the state file a secret is its keyed digest: enough to see that it changed, and nothing to read.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from google.protobuf import struct_pb2

from fleet.rehearsal.resources.archives import Archive
from fleet.rehearsal.resources.errors import ArgumentRefusedError
from fleet.rehearsal.resources.shapes import UNKNOWN

SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - a public type tag
_OUTPUT = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
_ASSET = "c44067f5952c0a294b673a41bacd8c17"
_ARCHIVE = "0def7320c3a5731c473e5ecbe6d01bc7"
UNKNOWN_ON_WIRE = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"

HIDDEN = "[secret]"

# A shorter text stands in messages by chance, and hiding it would hide them.
_SHORTEST_HIDDEN = 4


@dataclass(frozen=True, repr=False)
class Secret:
    value: Any

    def __repr__(self) -> str:
        return HIDDEN


def decode(struct: struct_pb2.Struct) -> dict[str, Any]:
    """Arguments from the wire, without those that are null.

    Raises ArgumentRefusedError for assets, and for archives of anything but text files.
    """
    return {key: item for key, value in struct.fields.items() if (item := _decode(value, key)) is not None}


def _decode(value: struct_pb2.Value, path: str) -> Any:
    match value.WhichOneof("kind"):
        case "struct_value":
            return _decode_struct(value.struct_value, path)
        case "list_value":
            return [_decode(item, f"{path}[{n}]") for n, item in enumerate(value.list_value.values)]
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        case "string_value":
            return UNKNOWN if value.string_value == UNKNOWN_ON_WIRE else value.string_value
        case "bool_value":
            return value.bool_value
        case _:
            return None


def _decode_struct(struct: struct_pb2.Struct, path: str) -> Any:
    signature = struct.fields[SIGNATURE].string_value if SIGNATURE in struct.fields else None
    if signature is None:
        items = ((key, _decode(value, f"{path}.{key}")) for key, value in struct.fields.items())
        return {key: item for key, item in items if item is not None}
    if signature == _SECRET:
        return Secret(_decode(struct.fields["value"], path))
    if signature == _OUTPUT:
        known = _decode(struct.fields["value"], path) if "value" in struct.fields else UNKNOWN
        return Secret(known) if struct.fields["secret"].bool_value else known
    if signature == _ARCHIVE and "assets" in struct.fields:
        members = struct.fields["assets"].struct_value.fields
        held = {name: _text_of(value.struct_value, f"{path}.{name}") for name, value in members.items()}
        return Archive(tuple(sorted(held.items())))
    what = "an asset or archive" if signature in (_ASSET, _ARCHIVE) else "of a kind that is not known here"
    raise ArgumentRefusedError(
        f"argument {path} is {what}",
        "No resource of the rehearsal takes it: give plain text, or an AssetArchive of text files.",
    )


def _text_of(asset: struct_pb2.Struct, path: str) -> str:
    """A file's text, read now, as the engine does: the program may run elsewhere later."""
    signature = asset.fields[SIGNATURE].string_value if SIGNATURE in asset.fields else None
    if signature == _ASSET and "text" in asset.fields:
        return asset.fields["text"].string_value
    if signature != _ASSET or "path" not in asset.fields:
        raise ArgumentRefusedError(f"{path} is no file and no text", "Give a FileAsset or a StringAsset.")
    try:
        return Path(asset.fields["path"].string_value).read_text(encoding="utf-8")
    except (OSError, ValueError) as exc:
        raise ArgumentRefusedError(f"{path} cannot be read: {exc}", "Name a file of text.") from exc


def known_text(text: str) -> str:
    """`text` from the wire, or an empty one where it is not known yet."""
    return "" if text == UNKNOWN_ON_WIRE else text


def encode(values: Mapping[str, Any]) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update({key: _encode(value) for key, value in values.items()})
    return struct


def _encode(value: Any) -> Any:
    if value is UNKNOWN:
        return UNKNOWN_ON_WIRE
    if isinstance(value, Secret):
        return {SIGNATURE: _SECRET, "value": _encode(value.value)}
    if isinstance(value, Archive):
        held = {path: {SIGNATURE: _ASSET, "text": text} for path, text in value.files}
        return {SIGNATURE: _ARCHIVE, "assets": held}
    if isinstance(value, Mapping):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_encode(item) for item in value]
    return value


def reveal(value: Any) -> Any:
    """Without Secret wrappers, for a call to AWS."""
    if isinstance(value, Secret):
        return reveal(value.value)
    if isinstance(value, Mapping):
        return {key: reveal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [reveal(item) for item in value]
    return value


def hide(value: Any) -> Any:
    """With HIDDEN for every secret, and a word for every archive, to show."""
    if isinstance(value, Secret):
        return HIDDEN
    if isinstance(value, Archive):
        return repr(value)
    if isinstance(value, Mapping):
        return {key: hide(item) for key, item in value.items()}
    if isinstance(value, list):
        return [hide(item) for item in value]
    return value


def known(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is UNKNOWN, at any depth of structures."""
    return {
        key: known(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if not _unknown_inside(value) or isinstance(value, Mapping)
    }


def seal(value: Any, key: bytes) -> Any:
    """With a keyed digest for every secret, and a digest for every archive, to store. UNKNOWN stays: it
    equals nothing that is stored.
    """
    if isinstance(value, Archive):
        return {SIGNATURE: _ARCHIVE, "digest": value.digest}
    if isinstance(value, Secret):
        return (
            UNKNOWN
            if _unknown_inside(value.value)
            else {SIGNATURE: _SECRET, "digest": _digest(value.value, key)}
        )
    if isinstance(value, Mapping):
        return {name: seal(item, key) for name, item in value.items()}
    if isinstance(value, list):
        return [seal(item, key) for item in value]
    return value


def is_sealed(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get(SIGNATURE) == _SECRET


def _digest(value: Any, key: bytes) -> str:
    text = json.dumps(reveal(value), sort_keys=True)
    return hmac.digest(key, text.encode(), "sha256").hex()


def _unknown_inside(value: Any) -> bool:
    if isinstance(value, Secret):
        return _unknown_inside(value.value)
    if isinstance(value, Mapping):
        return any(map(_unknown_inside, value.values()))
    if isinstance(value, list):
        return any(map(_unknown_inside, value))
    return value is UNKNOWN


@dataclass
class Redactor:
    """Hides in messages every secret that a run has met."""

    _known: set[str] = field(default_factory=set)

    def learn(self, value: Any) -> None:
        """Remember the secrets inside `value`. Several threads may call this: a set's update is atomic."""
        self._known.update(text for secret in _secrets(value) for text in _writings(secret))

    def __call__(self, text: str) -> str:
        for secret in sorted(self._known.copy(), key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        return text

    def finds(self, text: str) -> bool:
        return self(text) != text


def _secrets(value: Any) -> Iterator[str]:
    if isinstance(value, Secret):
        yield from _leaves(value.value)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _secrets(item)
    elif isinstance(value, list):
        for item in value:
            yield from _secrets(item)


def _leaves(value: Any) -> Iterator[str]:
    value = reveal(value)
    if isinstance(value, Mapping):
        for item in cast("Mapping[str, Any]", value).values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, str):
        yield value


def _writings(secret: str) -> Iterator[str]:
    """A secret as messages may quote it: as it is, by line, and escaped."""
    for text in {secret, *secret.splitlines()}:
        for written in (text, json.dumps(text)[1:-1], repr(text)[1:-1]):
            if len(written) >= _SHORTEST_HIDDEN:
                yield written
