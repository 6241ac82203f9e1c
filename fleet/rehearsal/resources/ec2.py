"""What EC2's resources share: ids that AWS gives, tags at creation, and a mark to find them by."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from botocore.exceptions import ClientError

from fleet.rehearsal.resources.aws import Aws, is_gone
from fleet.rehearsal.resources.errors import NotFoundError
from fleet.rehearsal.resources.handler import Handler, Want, tag_changes, tag_list

MARK = "goldenfleet:creation"
"""Tag whose value no other creation has: what a killed process made is found again by it."""

_ENDED = frozenset({"deleted", "deleting", "failed", "terminated"})


class Ec2Handler(Handler):
    kind: ClassVar[str]
    """The resource type in TagSpecifications."""
    made: ClassVar[str]
    """The member of create's answer that holds the resource."""
    id_member: ClassVar[str]
    describe: ClassVar[tuple[str, str]]
    """The operation that lists, and the member of its answer."""
    destroy: ClassVar[str]
    arn_kind: ClassVar[str | None] = None

    def make(self, aws: Aws, want: Want) -> str:
        request = self.fitted(aws, self.create, self.shaped(want.inputs))
        answer = aws.call(self.create, **request, **self.unasked(want), **self.tags_at_creation(want))
        return str(answer[self.made][self.id_member])

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in super().shaped(inputs).items() if key != "tags"}

    def unasked(self, want: Want) -> dict[str, Any]:
        """Members of create's request that stand in no argument."""
        del want
        return {}

    def tags_at_creation(self, want: Want) -> dict[str, Any]:
        tags = tag_list({**want.get("tags", {}), MARK: want.mark})
        return {"TagSpecifications": [{"ResourceType": self.kind, "Tags": tags}]}

    def find(self, aws: Aws, want: Want) -> str | None:
        found = self.described(aws, Filters=[{"Name": f"tag:{MARK}", "Values": [want.mark]}])
        return next((str(item[self.id_member]) for item in found if item.get("State") not in _ENDED), None)

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        if "tags" in changed:
            retag(aws, identity, want)

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        del want
        return {} if self.arn_kind is None else {"arn": aws.arn("ec2", f"{self.arn_kind}/{identity}")}

    def read(self, aws: Aws, identity: str) -> dict[str, Any]:
        """Whatever EC2 tells in single values, by pulumi-aws's names, and the tags."""
        if not identity:
            return {}
        try:
            found = self.described(aws, **{f"{self.id_member}s": [identity]})[0]
        except (ClientError, IndexError) as exc:
            if isinstance(exc, ClientError) and not is_gone(exc):
                raise
            raise NotFoundError(f"there is no {self.kind} {identity}", "Correct its id.") from exc
        plain = {k[0].lower() + k[1:]: v for k, v in found.items() if isinstance(v, str | int)}
        tags = {tag["Key"]: tag["Value"] for tag in found.get("Tags", ()) if tag["Key"] != MARK}
        want = Want(identity, str(found.get("GroupName", "")), "", {})
        return {**plain, "tags": tags, "tagsAll": tags, **self.outputs(aws, identity, want)}

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        del want
        aws.call(self.destroy, **{self.id_member: identity})

    def described(self, aws: Aws, **request: Any) -> list[dict[str, Any]]:
        operation, member = self.describe
        return list(aws.call(operation, **request)[member])


def retag(aws: Aws, identity: str, want: Want) -> None:
    changed, removed = tag_changes(want)
    if changed:
        aws.call("ec2.CreateTags", Resources=[identity], Tags=tag_list(changed))
    if removed:
        aws.call("ec2.DeleteTags", Resources=[identity], Tags=[{"Key": key} for key in removed])
