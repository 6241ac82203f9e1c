"""What bakes have left in a region, found by their tags: the same for one run and for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from images.aws import Aws, tags_of, translated
from images.builders.ec2_image import snapshots_of
from images.run import DEADLINE_TAG, IMAGE_TAG, PART_TAG, PUBLISHED_TAG, RUN_TAG, STACK_TAG

Kind = Literal["spot-request", "instance", "image", "snapshot", "volume", "key-pair", "security-group"]

ORDER: tuple[Kind, ...] = (
    "spot-request",  # a persistent one would replace the instance that is terminated
    "instance",
    "image",  # while it stands its snapshots cannot be deleted
    "snapshot",
    "volume",
    "key-pair",
    "security-group",  # while an instance uses it, it cannot be deleted
)


@dataclass(frozen=True)
class Found:
    """A resource that carries a run's tag."""

    kind: Kind
    id: str
    region: str
    run: str
    recipe: str = ""
    stack: str = ""
    part: str = ""
    deadline: float | None = None
    """When its run is dead for sure, in seconds since the epoch."""
    created: float | None = None
    last_launched: float | None = None
    published: bool = False
    """A channel pointed at it once."""
    published_at: float | None = None
    """When that was, or since then another stack's channel was about to."""
    snapshots: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.id} in {self.region} ({self.part or '?'} of run {self.run})"


def inventory(aws: Aws, run_id: str | None = None) -> tuple[Found, ...]:
    """Everything of one run, or of every run, in the order in which it can be removed."""
    filters: Any = (
        [{"Name": f"tag:{RUN_TAG}", "Values": [run_id]}]
        if run_id
        else [{"Name": "tag-key", "Values": [RUN_TAG]}]
    )
    with translated(f"listing what bakes have left in {aws.region}"):
        found = [_found(aws.region, kind, described) for kind, described in _described(aws, filters)]
    return tuple(sorted(found, key=lambda resource: ORDER.index(resource.kind)))


def _described(aws: Aws, filters: Any) -> Iterator[tuple[Kind, Any]]:
    listed: dict[Kind, Iterable[Any]] = {
        "spot-request": _pages(aws, "describe_spot_instance_requests", "SpotInstanceRequests", filters),
        "instance": (
            instance
            for reservation in _pages(aws, "describe_instances", "Reservations", filters)
            for instance in reservation["Instances"]
        ),
        "image": _pages(aws, "describe_images", "Images", filters, Owners=["self"]),
        "snapshot": _pages(aws, "describe_snapshots", "Snapshots", filters, OwnerIds=["self"]),
        "volume": _pages(aws, "describe_volumes", "Volumes", filters),
        "key-pair": aws.ec2.describe_key_pairs(Filters=filters)["KeyPairs"],
        "security-group": _pages(aws, "describe_security_groups", "SecurityGroups", filters),
    }
    for kind, several in listed.items():
        for described in several:
            if not _is_gone(described):
                yield kind, described


def _pages(aws: Aws, operation: Any, key: str, filters: Any, **owners: Any) -> Iterator[Any]:
    for page in aws.ec2.get_paginator(operation).paginate(Filters=filters, **owners):
        yield from page[key]


def _is_gone(described: Mapping[str, Any]) -> bool:
    state = described.get("State")
    name = state.get("Name") if isinstance(state, Mapping) else state
    return name in ("terminated", "deleting", "deleted", "deregistered", "cancelled", "closed")


_ID: Mapping[Kind, str] = {
    "spot-request": "SpotInstanceRequestId",
    "instance": "InstanceId",
    "image": "ImageId",
    "snapshot": "SnapshotId",
    "volume": "VolumeId",
    "key-pair": "KeyPairId",
    "security-group": "GroupId",
}
_CREATED = ("LaunchTime", "CreationDate", "StartTime", "CreateTime")


def _found(region: str, kind: Kind, described: Mapping[str, Any]) -> Found:
    tags = tags_of(described)
    return Found(
        kind=kind,
        id=described[_ID[kind]],
        region=region,
        run=tags[RUN_TAG],
        recipe=tags.get(IMAGE_TAG, ""),
        stack=tags.get(STACK_TAG, ""),
        part=tags.get(PART_TAG, ""),
        deadline=_moment(tags.get(DEADLINE_TAG)),
        created=next((_seconds(described[key]) for key in _CREATED if key in described), None),
        last_launched=_seconds(described["LastLaunchedTime"]) if "LastLaunchedTime" in described else None,
        published=PUBLISHED_TAG in tags,
        published_at=_moment(tags.get(PUBLISHED_TAG)),
        snapshots=snapshots_of(described),
    )


def _moment(tag: str | None) -> float | None:
    return float(tag) if tag and tag.isdigit() else None


def _seconds(moment: datetime | str) -> float:
    parsed = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return parsed.timestamp()
