"""The image's own disk, looked at from a node that has it attached a second time, read-only and never booted.

It is attached after the boot: two disks with the same label could make the node boot from the wrong one.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from images.aws import Aws, tag_specifications, translated, until_consistent
from images.builders import Image
from images.builders.ec2_launch import find
from images.builders.ec2_wait import wait_for
from images.errors import BuilderError
from images.forbidden import FORBIDDEN, MACHINE_ID
from images.remote import Remote
from images.run import Run
from images.steps import Command

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import VolumeTypeDef

PART = "image-disk"
_DEVICE = "/dev/sdg"
_LIMIT_S = 600.0
_MOUNT = "/run/goldenfleet-image"


def forbidden_on(aws: Aws, run: Run, image: Image, remote: Remote) -> tuple[str, ...]:
    """Everything forbidden on the image's root disk, one line each."""
    volume_id = _attached(aws, run, image)
    output = remote.run(Command(search_script(volume_id), sudo=True, timeout_s=1800))
    return tuple(line for line in output.stdout.splitlines() if line)


def search_script(volume_id: str) -> str:
    """Mount the attached volume read-only and print what is forbidden on it.

    Nitro shows a volume by its serial number, which is the id without its hyphen; Xen by the device name.
    `noload` and `norecovery`: a journal that was not replayed must not be replayed on a read-only disk.
    """
    serial = volume_id.replace("-", "")
    return f"""set -eu
disk=$(lsblk -ndo NAME,SERIAL | awk '$2 == "{serial}" {{ print "/dev/" $1 }}')
[ -n "$disk" ] || disk=/dev/xvd{_DEVICE[-1]}
part=$(lsblk -lnbo NAME,SIZE,TYPE "$disk" | awk '$3 == "part" {{ print $2, "/dev/" $1 }}' | sort -n | tail -1)
part=${{part#* }}
[ -n "$part" ] || part=$disk
mkdir -p {_MOUNT}
mount -o ro,nouuid,norecovery "$part" {_MOUNT} 2>/dev/null || mount -o ro,noload "$part" {_MOUNT}
trap 'cd /; umount {_MOUNT}' EXIT
{search(_MOUNT)}"""


def search(root: str) -> str:
    """Shell lines that print what `images.forbidden.forbidden_in` would find under `root`."""
    checks = "\n".join(_check(rule.pattern, rule.allowed == "empty", rule.why) for rule in FORBIDDEN)
    return f"""cd {shlex.quote(root)}
{checks}
if [ -f etc/machine-id ] && [ ! -L etc/machine-id ] && [ -s etc/machine-id ]; then
  [ "$(cat etc/machine-id)" = {shlex.quote(MACHINE_ID.strip())} ] || echo "/etc/machine-id: not reset"
fi"""


def _check(pattern: str, may_be_empty: bool, why: str) -> str:
    # The pattern stays unquoted: the shell expands it, and leaves it as it is where nothing matches.
    test = '[ -L "$f" ] || [ -d "$f" ] || [ -s "$f" ]' if may_be_empty else '[ -e "$f" ] || [ -L "$f" ]'
    said = shlex.quote(f": {why}")
    return f'for f in .{pattern}; do if {test}; then echo "${{f#.}}"{said}; fi; done'


def _attached(aws: Aws, run: Run, image: Image) -> str:
    node = find(aws, run, "node")
    if node is None:
        raise BuilderError(
            f"the node of run {run.id} is gone before its disk was looked at", "resume the run"
        )
    volume = _volume(aws, run, image, node["Placement"]["AvailabilityZone"])
    volume_id = volume["VolumeId"]
    if not volume.get("Attachments"):
        _wait(aws, run, volume_id, "available")
        with translated(f"attaching {volume_id} to {node['InstanceId']}"):
            aws.ec2.attach_volume(VolumeId=volume_id, InstanceId=node["InstanceId"], Device=_DEVICE)
    _wait(aws, run, volume_id, "in-use")
    return volume_id


def _volume(aws: Aws, run: Run, image: Image, zone: str) -> VolumeTypeDef:
    known = run.ledger.find("volume", PART)
    if known is not None and known.id:
        return _described(aws, run, known.id)
    run.ledger.intend("volume", PART)
    root = next(volume for volume in image.volumes if volume.holds == "root")
    with translated(f"making a volume of {root.snapshot}"):
        volume_id = aws.ec2.create_volume(
            SnapshotId=root.snapshot,
            AvailabilityZone=zone,
            VolumeType="gp3",
            ClientToken=f"{run.id}-{PART}-{zone}",
            TagSpecifications=tag_specifications(run.tags(PART), "volume"),
        )["VolumeId"]
    run.ledger.made("volume", PART, volume_id)
    return _described(aws, run, volume_id)


def _described(aws: Aws, run: Run, volume_id: str) -> VolumeTypeDef:
    answer = until_consistent(
        f"looking at {volume_id}", lambda: aws.ec2.describe_volumes(VolumeIds=[volume_id]), run.clock
    )
    return answer["Volumes"][0]


def _wait(aws: Aws, run: Run, volume_id: str, state: str) -> None:
    def look() -> bool | None:
        found = _described(aws, run, volume_id)["State"]
        if found == "error":
            raise BuilderError(f"{volume_id} failed to be made", "check its KMS key")
        return found == state or None

    wait_for(f"{volume_id} to be {state}", look, run.clock, limit_s=_LIMIT_S, run_id=run.id)
