"""What the layer over moto consists of: time, lags, faults, and a look into moto's model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.models import EC2Backend
from moto.ec2.models.amis import Ami
from moto.ec2.models.instances import InstanceState

ABSENT_CODES = {
    "i-": "InvalidInstanceID.NotFound",
    "ami-": "InvalidAMIID.NotFound",
    "snap-": "InvalidSnapshot.NotFound",
    "vol-": "InvalidVolume.NotFound",
    "sg-": "InvalidGroup.NotFound",
    "key-": "InvalidKeyPair.NotFound",
    "goldenfleet-": "InvalidKeyPair.NotFound",
}
_CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}


class FakeClock:
    """Sleeping takes no time and advances it; every call of AWS takes a second."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._now = start
        self._lock = threading.Lock()

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self._now += seconds


@dataclass
class Lags:
    """How long things take, in seconds."""

    hidden: float = 0
    """A new resource is denied for so long."""
    starting: float = 20
    stopping: float = 30
    terminating: float = 20
    imaging: float = 300
    copying: float = 600
    a_call: float = 1


@dataclass
class Fault:
    """An answer in place of the real one, `times` times."""

    action: str
    code: str
    message: str = "injected"
    times: int = 1
    when: Callable[[Mapping[str, Any]], bool] = lambda _: True


@dataclass
class Call:
    action: str
    region: str
    params: Mapping[str, Any]


@dataclass
class SpotRequest:
    id: str
    instance_id: str
    persistent: bool
    tags: list[dict[str, str]]
    state: str = "active"


class WholeAmi(Ami):  # type: ignore[misc]
    """An image that knows every volume of its machine; moto's knows the root alone, as 15 GiB."""

    sizes: dict[str, int]
    """Device -> GiB, the root's first."""
    more: dict[str, Any]
    """Device of a further volume -> its snapshot."""

    @property
    def all_snapshots(self) -> list[Any]:
        return [self.ebs_snapshot, *self.more.values()]

    @property
    def block_device_mappings(self) -> list[dict[str, Any]]:
        snapshots = {self.root_device_name: self.ebs_snapshot, **self.more}
        # EC2 tells them in no order that could be relied on.
        return [
            {
                "DeviceName": device,
                "Ebs": {
                    "SnapshotId": snapshots[device].id,
                    "VolumeSize": size,
                    "VolumeType": "gp3",
                    "Encrypted": True,
                    "DeleteOnTermination": True,
                },
            }
            for device, size in reversed(self.sizes.items())
        ]


def snapshots_below(image: Any) -> list[Any]:
    return image.all_snapshots if isinstance(image, WholeAmi) else [image.ebs_snapshot]


def of_machine(backend: EC2Backend, image: Any, instance: Any) -> None:
    """Let `image` stand for all volumes of `instance`, the first of which is its root."""
    attached = dict(instance.block_device_mapping)
    image.__class__ = WholeAmi
    image.root_device_name, *others = attached
    image.sizes = {device: backend.volumes[block.volume_id].size for device, block in attached.items()}
    image.more = {
        device: backend.create_snapshot(attached[device].volume_id, f"of {image.id}", None, from_ami=image.id)
        for device in others
    }


def of_image(backend: EC2Backend, image: Any, source: Any) -> None:
    """Let the copy `image` have all snapshots of `source`, which lies in another region."""
    if not isinstance(source, WholeAmi):
        return
    image.__class__ = WholeAmi
    image.root_device_name, image.sizes = source.root_device_name, dict(source.sizes)
    image.more = {}
    for device in source.more:
        volume = backend.create_volume(size=source.sizes[device], zone_name=f"{backend.region_name}a")
        image.more[device] = backend.create_snapshot(volume.id, "copied", None, from_ami=image.id)
        backend.delete_volume(volume.id)


def plain_answer(action: str, plain: Callable[[], Any] | None) -> Any:
    if plain is None:
        raise NotImplementedError(action)
    return plain()


def only_instance(result: ActionResult) -> Any:
    found = result.result
    instances = found["Instances"] if isinstance(found, dict) else found.instances
    return instances[0]


def set_state(backend: EC2Backend, resource_id: str, state: str) -> None:
    if resource_id in backend.amis:
        backend.amis[resource_id].state = state
    elif resource_id in backend.snapshots:
        backend.snapshots[resource_id].status = state
    else:
        for reservation in backend.reservations.values():
            for instance in reservation.instances:
                if instance.id == resource_id:
                    instance._state = InstanceState(state, _CODES[state])


def id_of(resource: Any) -> str:
    if isinstance(resource, Mapping):
        return str(resource["SpotInstanceRequestId"])
    return str(resource.id)


def tags_for(params: Any, kind: str) -> list[dict[str, str]]:
    wanted = (each for each in params.get("TagSpecifications", []) if each["ResourceType"] == kind)
    return [tag for each in wanted for tag in each["Tags"]]


def tag_map(params: Any, kind: str) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags_for(params, kind)}


def matches(tags: list[dict[str, str]], filters: list[Any]) -> bool:
    have = {tag["Key"]: tag["Value"] for tag in tags}
    for wanted in filters:
        if wanted["Name"] == "tag-key":
            if not set(wanted["Values"]) & set(have):
                return False
        elif have.get(wanted["Name"].removeprefix("tag:")) not in wanted["Values"]:
            return False
    return True


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            if key not in ("Filters", "TagSpecifications", "UserData", "Name", "GroupName"):
                yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
