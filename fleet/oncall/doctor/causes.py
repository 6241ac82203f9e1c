"""What AWS's own words about a failed scaling activity mean, and what to do.

Texts: "Troubleshoot Amazon EC2 Auto Scaling", "Error codes for the Amazon EC2 API".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fleet.oncall.doctor.facts import Activity
from fleet.oncall.doctor.finding import Finding, Level
from fleet.oncall.errors import up


@dataclass(frozen=True)
class _Cause:
    words: tuple[str, ...]
    level: Level
    means: str
    do: str
    """With {up} for the command that does it to the stack."""


_CAUSES: Final = (
    _Cause(
        ("VcpuLimitExceeded", "MaxSpotInstanceCountExceeded", "InstanceLimitExceeded", "vCPU limit", "quota"),
        "fail",
        "The account may not have more of these instances, whatever AWS has.",
        "Ask for more: aws service-quotas list-service-quotas --service-code ec2",
    ),
    _Cause(
        (
            "InsufficientInstanceCapacity",
            "UnfulfillableCapacity",
            "do not have sufficient",
            "no Spot capacity",
        ),
        "warn",
        "AWS has none of these instances to give in that zone just now; fallback helps where it may.",
        "Add instance types to goldenfleet:tiers.purchase if it lasts; docs/oncall.md#short",
    ),
    _Cause(
        ("InvalidAMIID", "does not exist", "launch template"),
        "fail",
        "The group launches from an image or template that is gone: no node can be replaced.",
        "Publish an image (goldenfleet images promote), and {up}",
    ),
    _Cause(
        ("KMS", "Client.InvalidKMSKey", "InternalErrorOnLaunch"),
        "fail",
        "The key of the volumes cannot be used: instances end as soon as they are launched.",
        "Enable the key and let AWSServiceRoleForAutoScaling use it; docs/stack.md, Keys",
    ),
    _Cause(
        ("InsufficientFreeAddressesInSubnet", "free addresses"),
        "fail",
        "A subnet is full: no node can be launched in its zone.",
        "Give the network larger blocks; docs/stack.md, Network",
    ),
    _Cause(
        ("UnauthorizedOperation", "not authorized"),
        "fail",
        "Auto Scaling may not launch: its role or a boundary forbids it.",
        "Compare the account's policies with docs/stack.md",
    ),
)
_OTHER: Final = _Cause((), "warn", "Auto Scaling tries again by itself.", "docs/oncall.md#short")


def causes(activities: Sequence[Activity], tiers: Mapping[str, str], stack: str) -> Iterator[Finding]:
    """One finding for each cause and tier; `tiers` names the tier of a group."""
    seen: dict[tuple[str, _Cause], list[Activity]] = {}
    for activity in activities:
        if activity.status in ("Failed", "Cancelled") and activity.message:
            key = tiers.get(activity.group, activity.group), _cause(activity.message)
            seen.setdefault(key, []).append(activity)
    for (tier, cause), found in seen.items():
        last = max(found, key=lambda activity: activity.at)
        told = f"{tier}: {len(found)} launches or ends failed in the last hour; the last: {last.message}"
        yield Finding("capacity", cause.level, told, cause.means, cause.do.format(up=up(stack)))


def _cause(message: str) -> _Cause:
    return next((cause for cause in _CAUSES if any(word in message for word in cause.words)), _OTHER)
