"""Channels: which image a tier launches, as SSM parameters whose history says what it was before.

`/goldenfleet/STACK/image/RECIPE/CHANNEL` holds an image id and nothing else: the Pulumi program reads it so.
`/goldenfleet/STACK/manifest/IMAGE/N` holds the image's manifest, packed, in parts, and
`/goldenfleet/STACK/launch/IMAGE/volumes` and `.../boot` what launching it takes (`images.launch`).
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from images.aws import Aws, absent_as_none, tags_of, translated
from images.builders import Image
from images.clock import Clock
from images.errors import AwsRefused, ChannelError, ManifestError
from images.launch import boot_parameter, boot_value, launch_path, names_volumes, parameter, value
from images.run import IMAGE_TAG, PUBLISHED_TAG, STACK_TAG

CHANNELS = ("dev", "stage", "prod")
_PREVIOUS = "previous"
_ROLLED_BACK = "rolled back from "
_PART_CHARACTERS = 4000
"""A standard parameter, which costs nothing, holds 4096."""
_POINTER = re.compile(r"/goldenfleet/(?P<stack>[^/]+)/image/(?P<recipe>[^/]+)/(?P<channel>[^/]+)")
_OF_IMAGE = re.compile(r"/goldenfleet/(?P<stack>[^/]+)/(manifest|launch)/(?P<image>ami-[0-9a-f]+)/\w+")


@dataclass(frozen=True)
class Pointer:
    """One version of a channel."""

    recipe: str
    channel: str
    image_id: str
    version: int
    at: float
    """Seconds since the epoch."""
    why: str = ""
    current: bool = True


@dataclass(frozen=True)
class ManifestParts:
    """What stands of an image beside the channels."""

    image_id: str
    stack: str
    names: tuple[str, ...]


class Channels:
    """The channels of one stack. Every change can be tried with `dry_run`, which only checks."""

    def __init__(self, aws: Aws, stack: str, clock: Clock) -> None:
        self._aws = aws
        self._stack = stack
        self._clock = clock

    def publish(
        self,
        recipe: str,
        image: Image,
        manifest: bytes,
        why: str,
        channel: str = "dev",
        *,
        boot_seconds: float | None = None,
        dry_run: bool = False,
    ) -> Pointer:
        """Keep the manifest, then point the channel at the image. Raises ChannelError, AwsRefused.

        `boot_seconds`: from launch to ready, where that was measured.
        """
        self._require_launchable(recipe, image.id)
        if not dry_run:
            self._keep_manifest(image.id, manifest)
            self._keep_launch(image, boot_seconds)
        pointer = self._point(recipe, channel, image.id, why, dry_run)
        if not dry_run:
            for region, image_id in ((image.region, image.id), *image.copies.items()):
                self._mark_published(self._aws.at(region), image_id)
        return pointer

    def promote(
        self,
        recipe: str,
        source: str,
        target: str,
        *,
        origin: Channels | None = None,
        image_id: str | None = None,
        dry_run: bool = False,
    ) -> Pointer:
        """Point `target` at what `find` gives for `source`. Raises ChannelError when no node could launch it.

        `origin` has the channels that `source` is looked for in, by default these: another stack's, of the
        same account and region. `image_id` is what the caller has seen at `source`; if that has changed
        since, nothing moves.
        """
        origin = self if origin is None or origin._stack == self._stack else origin
        if origin is self and source == target:
            raise ChannelError(f"{source} cannot be promoted to itself")
        self._name(recipe, target)
        pointer = origin.find(recipe, source)
        if image_id is not None and pointer.image_id != image_id:
            raise ChannelError(
                f"{recipe}/{source} points at {pointer.image_id} now, not at {image_id}", "look again"
            )
        self._require_launchable(recipe, pointer.image_id)
        why = f"promoted from {pointer.channel} version {pointer.version}"
        if origin is self:
            self.manifest(pointer.image_id)
        else:
            why += f" of stack {origin._stack}"
            self._receive(origin, pointer.image_id, dry_run)
        return self._point(recipe, target, pointer.image_id, why, dry_run)

    def rollback(
        self, recipe: str, channel: str, *, version: int | None = None, dry_run: bool = False
    ) -> Pointer:
        """Point the channel at what it held before, or at what it held at `version`."""
        history = self.history(recipe, channel)
        target = _at_version(history, version) if version is not None else rollback_target(history)
        self._require_launchable(recipe, target.image_id)
        self.manifest(target.image_id)
        return self._point(recipe, channel, target.image_id, f"{_ROLLED_BACK}{history[-1].image_id}", dry_run)

    def history(self, recipe: str, channel: str) -> tuple[Pointer, ...]:
        """Oldest first; SSM keeps 100 versions. Raises ChannelError if the channel does not exist."""
        versions = self._versions(recipe, channel)
        if not versions:
            missing = f"{self._name(recipe, channel)} does not exist in {self._aws.region}"
            raise ChannelError(missing, f"publish first: images bake {recipe}")
        return versions

    def show(self, recipe: str, channel: str) -> Pointer:
        return self.history(recipe, channel)[-1]

    def find(self, recipe: str, source: str) -> Pointer:
        """What channel `source` points at, or where one last held image `source`. Raises ChannelError."""
        if not source.startswith("ami-"):
            return self.show(recipe, source)
        versions = [version for channel in CHANNELS for version in self._versions(recipe, channel)]
        holding = [version for version in versions if version.image_id == source]
        if not holding:
            nowhere = f"no channel of {recipe} in stack {self._stack} in {self._aws.region} has held {source}"
            raise ChannelError(nowhere, f"choose one that it has held: images history {recipe}")
        return max(holding, key=lambda version: version.at)

    def _versions(self, recipe: str, channel: str) -> tuple[Pointer, ...]:
        versions = _history(self._aws, self._name(recipe, channel))
        newest = len(versions) - 1
        return tuple(
            Pointer(
                recipe,
                channel,
                said["Value"],
                said["Version"],
                said["LastModifiedDate"].timestamp(),
                said.get("Description", ""),
                current=place == newest,
            )
            for place, said in enumerate(versions)
        )

    def list(self) -> tuple[Pointer, ...]:
        """Where every channel of the stack points."""
        found = []
        for said in _under(self._aws, f"/goldenfleet/{self._stack}/image/"):
            match = _POINTER.fullmatch(said["Name"])
            if match:
                at = said["LastModifiedDate"].timestamp()
                found.append(Pointer(match["recipe"], match["channel"], said["Value"], said["Version"], at))
        return tuple(sorted(found, key=lambda pointer: (pointer.recipe, pointer.channel)))

    def has_held(self, recipe: str, image_id: str, channel: str = "dev") -> bool:
        """Whether the channel points at the image or ever did: since then it may be in any other channel."""
        return any(version.image_id == image_id for version in self._versions(recipe, channel))

    def manifest(self, image_id: str) -> bytes:
        """Raises ManifestError if it is not there, or not whole."""
        parts = sorted(_under(self._aws, self._manifest_path(image_id)), key=_part_number)
        if not parts or _part_number(parts[0]) != 0:
            raise ManifestError(f"{image_id} has no manifest in stack {self._stack}", "bake a new image")
        count, _, first = parts[0]["Value"].partition(":")
        if len(parts) != int(count):
            raise ManifestError(
                f"{image_id}'s manifest has {len(parts)} of {count} parts", "bake a new image"
            )
        return unpacked([first, *(part["Value"] for part in parts[1:])])

    def forget(self, image_id: str) -> None:
        """Remove what is written of an image that is no more."""
        names = [part["Name"] for part in _under(self._aws, self._manifest_path(image_id))]
        delete_parameters(
            self._aws, [*names, *(each(self._stack, image_id) for each in (parameter, boot_parameter))]
        )

    def _require_launchable(self, recipe: str, image_id: str) -> None:
        found = absent_as_none(
            f"looking at {image_id}", lambda: self._aws.ec2.describe_images(ImageIds=[image_id])["Images"]
        )
        if not found:
            raise ChannelError(f"{image_id} does not exist in {self._aws.region}", "choose another version")
        if found[0]["State"] != "available":
            raise ChannelError(
                f"{image_id} is {found[0]['State']}, not available", "wait for it, or bake again"
            )
        made_for = tags_of(found[0]).get(IMAGE_TAG)
        if made_for != recipe:
            raise ChannelError(f"{image_id} is an image of {made_for or 'no recipe'}, not of {recipe}")

    def _keep_manifest(self, image_id: str, manifest: bytes) -> None:
        parts = packed(manifest)
        # The first part last: with it the manifest is whole.
        for number, part in reversed(tuple(enumerate(parts))):
            name = f"{self._manifest_path(image_id)}{number}"
            value = f"{len(parts)}:{part}" if number == 0 else part
            with translated(f"writing {name}"):
                self._aws.ssm.put_parameter(Name=name, Value=value, Type="String", Overwrite=True)

    def _keep_launch(self, image: Image, boot_seconds: float | None) -> None:
        kept: dict[str, str] = {}
        if image.volumes:
            kept[parameter(self._stack, image.id)] = value(image.volumes)
        if boot_seconds is not None:
            kept[boot_parameter(self._stack, image.id)] = boot_value(boot_seconds)
        self._write(kept)

    def _receive(self, origin: Channels, image_id: str, dry_run: bool) -> None:
        """Keep what another stack keeps of an image. Raises ManifestError."""
        manifest = origin.manifest(image_id)
        path = launch_path(origin._stack, image_id)
        facts = {said["Name"].removeprefix(path): said["Value"] for said in _under(origin._aws, path)}
        if names_volumes(manifest) and "volumes" not in facts:
            raise ManifestError(f"{path}volumes is gone, which {image_id} needs", "bake a new image")
        if dry_run:
            return
        self._mark_published(self._aws, image_id)  # first of all: from here on no sweep takes it for old
        self._keep_manifest(image_id, manifest)
        self._write({launch_path(self._stack, image_id) + part: text for part, text in facts.items()})

    def _write(self, kept: Mapping[str, str]) -> None:
        for name, text in kept.items():
            with translated(f"writing {name}"):
                self._aws.ssm.put_parameter(Name=name, Value=text, Type="String", Overwrite=True)

    def _point(self, recipe: str, channel: str, image_id: str, why: str, dry_run: bool) -> Pointer:
        name = self._name(recipe, channel)
        before = _history(self._aws, name)
        if before and before[-1]["Value"] == image_id:
            return self.show(recipe, channel)
        version = before[-1]["Version"] + 1 if before else 1
        if dry_run:
            return Pointer(recipe, channel, image_id, version, self._clock.now(), why)
        with translated(f"pointing {name} at {image_id}"):
            version = self._aws.ssm.put_parameter(
                Name=name,
                Value=image_id,
                Type="String",
                DataType="aws:ec2:image",
                Description=why,
                **_tags_or_overwrite(bool(before), self._stack, recipe),
            )["Version"]
        if before:
            self._label(name, before[-1]["Version"])
        return Pointer(recipe, channel, image_id, version, self._clock.now(), why)

    def _label(self, name: str, version: int) -> None:
        # One label that moves: SSM keeps labelled versions for ever, and at 100 of them refuses another.
        with translated(f"labelling version {version} of {name}"):
            self._aws.ssm.label_parameter_version(Name=name, ParameterVersion=version, Labels=[_PREVIOUS])

    def _mark_published(self, aws: Aws, image_id: str) -> None:
        tags: Any = [{"Key": PUBLISHED_TAG, "Value": str(int(self._clock.now()))}]
        with translated(f"marking {image_id} as published"):
            aws.ec2.create_tags(Resources=[image_id], Tags=tags)

    def _name(self, recipe: str, channel: str) -> str:
        if channel not in CHANNELS:
            raise ChannelError(f"there is no channel {channel}", f"channels are {', '.join(CHANNELS)}")
        return f"/goldenfleet/{self._stack}/image/{recipe}/{channel}"

    def _manifest_path(self, image_id: str) -> str:
        return f"/goldenfleet/{self._stack}/manifest/{image_id}/"


def rollback_target(history: Sequence[Pointer]) -> Pointer:
    """The newest version before the current one that nobody has rolled back from. Raises ChannelError."""
    bad = {history[-1].image_id}
    bad |= {
        pointer.why.removeprefix(_ROLLED_BACK) for pointer in history if pointer.why.startswith(_ROLLED_BACK)
    }
    good = [pointer for pointer in history if pointer.image_id not in bad]
    if not good:
        raise ChannelError(
            f"{history[-1].recipe}/{history[-1].channel} has held nothing else that is good",
            "name a version from its history",
        )
    return good[-1]


def referenced(aws: Aws) -> Mapping[str, str]:
    """Image id -> which channel of any stack points at it, or did within SSM's memory."""
    found: dict[str, str] = {}
    for said in _under(aws, "/goldenfleet/"):
        if not _POINTER.fullmatch(said["Name"]):
            continue
        for version in _history(aws, said["Name"]):
            current = version["Version"] == said["Version"]
            before = "" if current else f" at version {version['Version']}"
            if current or version["Value"] not in found:
                found[version["Value"]] = f"{said['Name']}{before}"
    return found


def manifests(aws: Aws) -> tuple[ManifestParts, ...]:
    """What every stack keeps of images, whether or not they exist."""
    found: dict[tuple[str, str], list[str]] = {}
    for said in _under(aws, "/goldenfleet/"):
        match = _OF_IMAGE.fullmatch(said["Name"])
        if match:
            found.setdefault((match["image"], match["stack"]), []).append(said["Name"])
    return tuple(ManifestParts(image, stack, tuple(names)) for (image, stack), names in found.items())


def delete_parameters(aws: Aws, names: Sequence[str]) -> None:
    """Ten at a time, which is all that one call takes; those that are gone already do not matter."""
    for start in range(0, len(names), 10):
        with translated(f"removing {names[start]}"):
            aws.ssm.delete_parameters(Names=list(names[start : start + 10]))


def packed(manifest: bytes) -> tuple[str, ...]:
    text = base64.b64encode(zlib.compress(manifest, 9)).decode()
    return tuple(text[start : start + _PART_CHARACTERS] for start in range(0, len(text), _PART_CHARACTERS))


def unpacked(parts: Sequence[str]) -> bytes:
    """Raises ManifestError."""
    try:
        return zlib.decompress(base64.b64decode("".join(parts), validate=True))
    except (ValueError, zlib.error) as exc:
        raise ManifestError(f"the manifest cannot be unpacked: {exc}", "bake a new image") from exc


def _at_version(history: Sequence[Pointer], version: int) -> Pointer:
    found = next((pointer for pointer in history if pointer.version == version), None)
    if found is None:
        have = f"{history[0].version} to {history[-1].version}"
        raise ChannelError(
            f"{history[-1].recipe}/{history[-1].channel} has no version {version}", f"it has {have}"
        )
    return found


def _tags_or_overwrite(exists: bool, stack: str, recipe: str) -> Any:
    if exists:
        return {"Overwrite": True}
    return {"Tags": [{"Key": STACK_TAG, "Value": stack}, {"Key": IMAGE_TAG, "Value": recipe}]}


def _history(aws: Aws, name: str) -> list[Any]:
    try:
        with translated(f"reading the history of {name}"):
            pages = aws.ssm.get_paginator("get_parameter_history").paginate(Name=name)
            versions = [version for page in pages for version in page["Parameters"]]
    except AwsRefused as error:
        if error.code != "ParameterNotFound":
            raise
        return []
    return sorted(versions, key=lambda version: version["Version"])


def _under(aws: Aws, path: str) -> list[Any]:
    with translated(f"listing {path}"):
        pages = aws.ssm.get_paginator("get_parameters_by_path").paginate(Path=path, Recursive=True)
        return [said for page in pages for said in page["Parameters"]]


def _part_number(said: Mapping[str, Any]) -> int:
    return int(said["Name"].rpartition("/")[2])
