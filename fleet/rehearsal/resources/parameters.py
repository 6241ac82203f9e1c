"""Parameters of Systems Manager."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from botocore.exceptions import ClientError

from fleet.rehearsal.resources.aws import Aws, is_gone
from fleet.rehearsal.resources.handler import REQUIRED, Handler, Want, tag_changes, tag_list, without_tags


class Parameter(Handler):
    type = "aws:ssm/parameter:Parameter"
    create = "ssm.PutParameter"
    name_argument = "name"
    name_limit = 2048
    members: ClassVar[Mapping[str, str]] = {"insecureValue": "Value"}
    updates: ClassVar[Mapping[str, Any]] = {
        "allowedPattern": "",
        "dataType": "text",
        "description": "",
        "insecureValue": REQUIRED,
        "overwrite": False,
        "tags": {},
        "tier": "Standard",
        "type": REQUIRED,
        "value": REQUIRED,
    }

    def find(self, aws: Aws, want: Want) -> str | None:
        try:
            aws.call("ssm.GetParameter", Name=want.physical)
        except ClientError as exc:
            if is_gone(exc):
                return None
            raise
        return want.physical

    def make(self, aws: Aws, want: Want) -> str:
        self._put(aws, want, want.inputs)
        return want.physical

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        if set(changed) - {"tags", "overwrite"}:
            self._put(aws, want, {**without_tags(want), "overwrite": True})
        if "tags" in changed:
            self._retag(aws, identity, want)

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        del want
        found = aws.call("ssm.GetParameter", Name=identity)["Parameter"]
        return {"arn": found["ARN"], "name": identity, "version": found["Version"]}

    def volatile(self, changed: Collection[str]) -> frozenset[str]:
        return frozenset({"version"}) if set(changed) - {"tags", "overwrite"} else frozenset()

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        del want
        aws.call("ssm.DeleteParameter", Name=identity)

    def _put(self, aws: Aws, want: Want, arguments: Mapping[str, Any]) -> None:
        request = self.fitted(aws, self.create, self.shaped(arguments))
        aws.call(self.create, Name=want.physical, **request)

    def _retag(self, aws: Aws, identity: str, want: Want) -> None:
        changed, removed = tag_changes(want)
        named = {"ResourceType": "Parameter", "ResourceId": identity}
        if changed:
            aws.call("ssm.AddTagsToResource", **named, Tags=tag_list(changed))
        if removed:
            aws.call("ssm.RemoveTagsFromResource", **named, TagKeys=removed)


HANDLERS: tuple[Handler, ...] = (Parameter(),)
