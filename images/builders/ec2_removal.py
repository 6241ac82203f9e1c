"""Removing what bakes have made, in the one order that works, and going on where a single call is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from images.aws import Aws, absent_as_none, is_absent, translated
from images.builders.ec2_inventory import ORDER, Found
from images.builders.ec2_wait import wait_for
from images.clock import Clock
from images.errors import AwsRefused, BuilderError

_TERMINATE_LIMIT_S = 900.0
_RELEASE_LIMIT_S = 60.0
"""How long a group or volume may stay in use after what used it is gone."""
_IN_USE = ("DependencyViolation", "InvalidSnapshot.InUse", "VolumeInUse")


@dataclass(frozen=True)
class Failure:
    resource: Found
    reason: str

    def __str__(self) -> str:
        return f"{self.resource}: {self.reason}"


def remove(
    aws: Aws, resources: Iterable[Found], clock: Clock, on_gone: Callable[[Found], None] = lambda _: None
) -> tuple[Failure, ...]:
    """Remove what lies in `aws`'s region; what is gone already is removed. Returns what could not be."""
    ordered = sorted(resources, key=lambda resource: ORDER.index(resource.kind))
    instances = [resource for resource in ordered if resource.kind == "instance"]
    failures: list[Failure] = []
    for resource in ordered:
        if resource.kind != "instance":
            failures += _attempt(resource, lambda r=resource: _delete(aws, r, clock), on_gone)  # type: ignore[misc]
        elif resource is instances[0]:
            failures += _terminate(aws, instances, clock, on_gone)
    return tuple(failures)


def _terminate(
    aws: Aws, instances: Sequence[Found], clock: Clock, on_gone: Callable[[Found], None]
) -> list[Failure]:
    """All are asked to go before any is waited for."""
    asked = [_attempt(instance, lambda i=instance: _ask_to_go(aws, i)) for instance in instances]  # type: ignore[misc]
    failures = [failure for attempt in asked for failure in attempt]
    refused = {failure.resource.id for failure in failures}
    for instance in instances:
        if instance.id not in refused:
            failures += _attempt(instance, lambda i=instance: _wait_gone(aws, i, clock), on_gone)  # type: ignore[misc]
    return failures


def _attempt(
    resource: Found, action: Callable[[], None], on_gone: Callable[[Found], None] = lambda _: None
) -> list[Failure]:
    try:
        action()
    except BuilderError as error:
        return [Failure(resource, error.message)]
    on_gone(resource)
    return []


def _ask_to_go(aws: Aws, instance: Found) -> None:
    absent_as_none(
        f"terminating {instance.id}", lambda: aws.ec2.terminate_instances(InstanceIds=[instance.id])
    )


def _wait_gone(aws: Aws, instance: Found, clock: Clock) -> None:
    def look() -> bool | None:
        answer = absent_as_none(
            f"looking at {instance.id}", lambda: aws.ec2.describe_instances(InstanceIds=[instance.id])
        )
        if answer is None:
            return True
        return answer["Reservations"][0]["Instances"][0]["State"]["Name"] == "terminated" or None

    wait_for(f"{instance.id} to end", look, clock, limit_s=_TERMINATE_LIMIT_S, run_id=instance.run)


def _delete(aws: Aws, resource: Found, clock: Clock) -> None:
    call = _call(aws, resource)

    def look() -> bool | None:
        try:
            with translated(f"removing {resource.kind} {resource.id}"):
                call()
        except AwsRefused as error:
            if error.code in _IN_USE:
                return None
            if not is_absent(error):
                raise
        return True

    what = f"{resource.kind} {resource.id} to be out of use"
    wait_for(what, look, clock, limit_s=_RELEASE_LIMIT_S, run_id=resource.run)


def _call(aws: Aws, resource: Found) -> Callable[[], object]:
    ec2, found = aws.ec2, resource.id
    calls: dict[str, Callable[[], object]] = {
        "spot-request": lambda: ec2.cancel_spot_instance_requests(SpotInstanceRequestIds=[found]),
        "image": lambda: ec2.deregister_image(ImageId=found, DeleteAssociatedSnapshots=True),
        "snapshot": lambda: ec2.delete_snapshot(SnapshotId=found),
        "volume": lambda: ec2.delete_volume(VolumeId=found),
        "key-pair": lambda: ec2.delete_key_pair(KeyPairId=found),
        "security-group": lambda: ec2.delete_security_group(GroupId=found),
    }
    return calls[resource.kind]
