"""KMS keys and their aliases."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar

from fleet.rehearsal.resources.aws import Aws
from fleet.rehearsal.resources.ec2 import MARK
from fleet.rehearsal.resources.handler import REQUIRED, Handler, Want, tag_changes

# KMS keeps a key that is to go for this long at least, and pulumi-aws asks for the longest.
_DELETION_DAYS = 30
_ALIAS = "alias/"


class Key(Handler):
    """Deleting one only schedules it: until the window ends, data can still be read."""

    type = "aws:kms/key:Key"
    create = "kms.CreateKey"
    settled = frozenset({"deletionWindowInDays", "enableKeyRotation", "isEnabled", "rotationPeriodInDays"})
    updates: ClassVar[Mapping[str, Any]] = {
        "bypassPolicyLockoutSafetyCheck": False,
        "deletionWindowInDays": _DELETION_DAYS,
        "description": "",
        "enableKeyRotation": False,
        "isEnabled": True,
        "policy": REQUIRED,
        "rotationPeriodInDays": 365,
        "tags": {},
    }

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in super().shaped(inputs).items() if key != "tags"}

    def make(self, aws: Aws, want: Want) -> str:
        request = self.fitted(aws, self.create, self.shaped(want.inputs))
        tags = _tags({**want.get("tags", {}), MARK: want.mark})
        return str(aws.call(self.create, Tags=tags, **request)["KeyMetadata"]["KeyId"])

    def find(self, aws: Aws, want: Want) -> str | None:
        return next((key for key in _keys(aws) if _marked(aws, key, want.mark)), None)

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        if want.before:
            self._redescribe(aws, identity, want, changed)
        if set(changed) & {"enableKeyRotation", "rotationPeriodInDays"}:
            _rotate(aws, identity, want)
        if "isEnabled" in changed:
            aws.call("kms.EnableKey" if want.get("isEnabled", True) else "kms.DisableKey", KeyId=identity)
        if "tags" in changed:
            _retag(aws, identity, want)

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        del want
        return {"arn": aws.arn("kms", f"key/{identity}"), "keyId": identity}

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        days = int(want.get("deletionWindowInDays", _DELETION_DAYS))
        if aws.call("kms.DescribeKey", KeyId=identity)["KeyMetadata"]["KeyState"] != "PendingDeletion":
            aws.call("kms.ScheduleKeyDeletion", KeyId=identity, PendingWindowInDays=days)

    def _redescribe(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        if "description" in changed:
            aws.call("kms.UpdateKeyDescription", KeyId=identity, Description=want.get("description", ""))
        if "policy" in changed:
            aws.call("kms.PutKeyPolicy", KeyId=identity, PolicyName="default", Policy=want.inputs["policy"])


class Alias(Handler):
    """Every alias begins with `alias/`, which the name in the program may leave out."""

    type = "aws:kms/alias:Alias"
    create = "kms.CreateAlias"
    name_argument = "name"
    name_limit = 256 - len(_ALIAS)
    updates: ClassVar[Mapping[str, Any]] = {"targetKeyId": REQUIRED}

    def find(self, aws: Aws, want: Want) -> str | None:
        aliases = [alias["AliasName"] for page in _pages(aws, "kms.ListAliases") for alias in page["Aliases"]]
        return _alias(want) if _alias(want) in aliases else None

    def make(self, aws: Aws, want: Want) -> str:
        aws.call(self.create, AliasName=_alias(want), TargetKeyId=want.inputs["targetKeyId"])
        return _alias(want)

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        if "targetKeyId" in changed:
            aws.call("kms.UpdateAlias", AliasName=identity, TargetKeyId=want.inputs["targetKeyId"])

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        key = str(want.inputs["targetKeyId"]).rpartition("/")[2]
        return {
            "arn": aws.arn("kms", identity),
            "name": identity,
            "targetKeyArn": aws.arn("kms", f"key/{key}"),
        }

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        del want
        aws.call("kms.DeleteAlias", AliasName=identity)


def _alias(want: Want) -> str:
    return want.physical if want.physical.startswith(_ALIAS) else f"{_ALIAS}{want.physical}"


def _keys(aws: Aws) -> Iterator[str]:
    for page in _pages(aws, "kms.ListKeys"):
        yield from (str(key["KeyId"]) for key in page["Keys"])


def _marked(aws: Aws, key: str, mark: str) -> bool:
    """AWS's own keys let nobody list their tags, and carry no mark."""
    description = aws.call("kms.DescribeKey", KeyId=key)["KeyMetadata"]
    if description["KeyManager"] != "CUSTOMER" or description["KeyState"] == "PendingDeletion":
        return False
    tags = aws.call("kms.ListResourceTags", KeyId=key)["Tags"]
    return {"TagKey": MARK, "TagValue": mark} in tags


def _pages(aws: Aws, operation: str) -> Iterator[dict[str, Any]]:
    marker: dict[str, str] = {}
    while True:
        page = aws.call(operation, **marker)
        yield page
        if not page.get("Truncated"):
            return
        marker = {"Marker": page["NextMarker"]}


def _rotate(aws: Aws, identity: str, want: Want) -> None:
    if not want.get("enableKeyRotation", False):
        aws.call("kms.DisableKeyRotation", KeyId=identity)
        return
    days = int(want.get("rotationPeriodInDays", Key.updates["rotationPeriodInDays"]))
    aws.call("kms.EnableKeyRotation", KeyId=identity, RotationPeriodInDays=days)


def _tags(tags: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"TagKey": key, "TagValue": str(value)} for key, value in tags.items()]


def _retag(aws: Aws, identity: str, want: Want) -> None:
    changed, removed = tag_changes(want)
    if changed:
        aws.call("kms.TagResource", KeyId=identity, Tags=_tags(changed))
    if removed:
        aws.call("kms.UntagResource", KeyId=identity, TagKeys=removed)


HANDLERS: tuple[Handler, ...] = (Key(), Alias())
