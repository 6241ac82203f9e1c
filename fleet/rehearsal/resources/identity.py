"""Roles, policies and instance profiles."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from botocore.exceptions import ClientError

from fleet.rehearsal.resources.aws import Aws, is_gone
from fleet.rehearsal.resources.handler import REQUIRED, Handler, Want, tag_changes, tag_list
from fleet.rehearsal.resources.shapes import UNKNOWN


class Role(Handler):
    type = "aws:iam/role:Role"
    create = "iam.CreateRole"
    name_argument = "name"
    read_by_name = True
    name_limit = 64
    members: ClassVar[Mapping[str, str]] = {"assumeRolePolicy": "AssumeRolePolicyDocument"}
    settled = frozenset({"forceDetachPolicies"})
    updates: ClassVar[Mapping[str, Any]] = {
        "assumeRolePolicy": REQUIRED,
        "description": "",
        "forceDetachPolicies": False,
        "maxSessionDuration": 3600,
        "permissionsBoundary": None,
        "tags": {},
    }

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        shaped = super().shaped(inputs)
        return {**shaped, "AssumeRolePolicyDocument": document(shaped.get("AssumeRolePolicyDocument"))}

    def find(self, aws: Aws, want: Want) -> str | None:
        return want.physical if _exists(aws, "iam.GetRole", RoleName=want.physical) else None

    def make(self, aws: Aws, want: Want) -> str:
        request = {
            **self.fitted(aws, self.create, self.shaped(want.inputs)),
            "Tags": tag_list(want.get("tags")),
        }
        return str(aws.call(self.create, RoleName=want.physical, **request)["Role"]["RoleName"])

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        if "assumeRolePolicy" in changed:
            policy = document(want.inputs["assumeRolePolicy"])
            aws.call("iam.UpdateAssumeRolePolicy", RoleName=identity, PolicyDocument=policy)
        if set(changed) & {"description", "maxSessionDuration"}:
            duration = int(want.get("maxSessionDuration", self.updates["maxSessionDuration"]))
            description = want.get("description", "")
            aws.call(
                "iam.UpdateRole", RoleName=identity, Description=description, MaxSessionDuration=duration
            )
        if "permissionsBoundary" in changed:
            _bound(aws, identity, want.get("permissionsBoundary"))
        if "tags" in changed:
            _retag(aws, "Role", identity, want)

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        del want
        role = aws.call("iam.GetRole", RoleName=identity)["Role"]
        return {"arn": role["Arn"], "name": identity, "uniqueId": role["RoleId"]}

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        if want.get("forceDetachPolicies"):
            for policy in aws.call("iam.ListAttachedRolePolicies", RoleName=identity)["AttachedPolicies"]:
                aws.call("iam.DetachRolePolicy", RoleName=identity, PolicyArn=policy["PolicyArn"])
        aws.call("iam.DeleteRole", RoleName=identity)


def _bound(aws: Aws, role: str, boundary: str | None) -> None:
    if boundary is None:
        aws.call("iam.DeleteRolePermissionsBoundary", RoleName=role)
    else:
        aws.call("iam.PutRolePermissionsBoundary", RoleName=role, PermissionsBoundary=boundary)


class RolePolicy(Handler):
    """A policy inside a role; putting one is repeatable, so that nothing need be found."""

    type = "aws:iam/rolePolicy:RolePolicy"
    create = "iam.PutRolePolicy"
    name_argument = "name"
    name_limit = 128
    members: ClassVar[Mapping[str, str]] = {"role": "RoleName", "policy": "PolicyDocument"}
    updates: ClassVar[Mapping[str, Any]] = {"policy": REQUIRED}

    def key(self, want: Want) -> str:
        return _inline_id(want)

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        shaped = super().shaped(inputs)
        return {**shaped, "PolicyDocument": document(shaped.get("PolicyDocument"))}

    def find(self, aws: Aws, want: Want) -> str | None:
        named = {"RoleName": want.inputs["role"], "PolicyName": want.physical}
        return _inline_id(want) if _exists(aws, "iam.GetRolePolicy", **named) else None

    def make(self, aws: Aws, want: Want) -> str:
        self._put(aws, want)
        return _inline_id(want)

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        del identity
        if "policy" in changed:
            self._put(aws, want)

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        del aws, identity
        return {"name": want.physical}

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        del identity
        aws.call("iam.DeleteRolePolicy", RoleName=want.inputs["role"], PolicyName=want.physical)

    def _put(self, aws: Aws, want: Want) -> None:
        request = self.fitted(aws, self.create, self.shaped(want.inputs))
        aws.call(self.create, PolicyName=want.physical, **request)


def _inline_id(want: Want) -> str:
    return f"{want.inputs['role']}:{want.physical}"


class Policy(Handler):
    type = "aws:iam/policy:Policy"
    create = "iam.CreatePolicy"
    name_argument = "name"
    name_limit = 128
    members: ClassVar[Mapping[str, str]] = {"policy": "PolicyDocument"}
    updates: ClassVar[Mapping[str, Any]] = {"policy": REQUIRED, "tags": {}}

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        shaped = super().shaped(inputs)
        return {**shaped, "PolicyDocument": document(shaped.get("PolicyDocument"))}

    def find(self, aws: Aws, want: Want) -> str | None:
        arn = f"arn:aws:iam::{aws.account}:policy{want.get('path', '/')}{want.physical}"
        return arn if _exists(aws, "iam.GetPolicy", PolicyArn=arn) else None

    def make(self, aws: Aws, want: Want) -> str:
        request = {
            **self.fitted(aws, self.create, self.shaped(want.inputs)),
            "Tags": tag_list(want.get("tags")),
        }
        return str(aws.call(self.create, PolicyName=want.physical, **request)["Policy"]["Arn"])

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        if "policy" in changed:
            self._drop_old_versions(aws, identity)
            policy = document(want.inputs["policy"])
            aws.call("iam.CreatePolicyVersion", PolicyArn=identity, PolicyDocument=policy, SetAsDefault=True)
        if "tags" in changed:
            _retag(aws, "Policy", identity, want)

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        policy = aws.call("iam.GetPolicy", PolicyArn=identity)["Policy"]
        return {"arn": identity, "name": want.physical, "policyId": policy["PolicyId"]}

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        del want
        self._drop_old_versions(aws, identity)
        aws.call("iam.DeletePolicy", PolicyArn=identity)

    def _drop_old_versions(self, aws: Aws, identity: str) -> None:
        """AWS keeps at most five, and deletes no policy that has any but the default."""
        for version in aws.call("iam.ListPolicyVersions", PolicyArn=identity)["Versions"]:
            if not version["IsDefaultVersion"]:
                aws.call("iam.DeletePolicyVersion", PolicyArn=identity, VersionId=version["VersionId"])


class RolePolicyAttachment(Handler):
    type = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"
    create = "iam.AttachRolePolicy"
    members: ClassVar[Mapping[str, str]] = {"role": "RoleName"}

    def key(self, want: Want) -> str:
        return self._id(want)

    def find(self, aws: Aws, want: Want) -> str | None:
        try:
            attached = aws.call("iam.ListAttachedRolePolicies", RoleName=want.inputs["role"])[
                "AttachedPolicies"
            ]
        except ClientError as exc:
            if is_gone(exc):
                return None
            raise
        return self._id(want) if want.inputs["policyArn"] in [p["PolicyArn"] for p in attached] else None

    def make(self, aws: Aws, want: Want) -> str:
        aws.call(self.create, **self.fitted(aws, self.create, self.shaped(want.inputs)))
        return self._id(want)

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        del identity
        aws.call("iam.DetachRolePolicy", RoleName=want.inputs["role"], PolicyArn=want.inputs["policyArn"])

    def _id(self, want: Want) -> str:
        return f"{want.inputs['role']}/{want.inputs['policyArn']}"


class InstanceProfile(Handler):
    type = "aws:iam/instanceProfile:InstanceProfile"
    create = "iam.CreateInstanceProfile"
    name_argument = "name"
    name_limit = 128
    settled = frozenset({"role"})
    updates: ClassVar[Mapping[str, Any]] = {"role": None, "tags": {}}

    def find(self, aws: Aws, want: Want) -> str | None:
        named = {"InstanceProfileName": want.physical}
        return want.physical if _exists(aws, "iam.GetInstanceProfile", **named) else None

    def make(self, aws: Aws, want: Want) -> str:
        request = {
            **self.fitted(aws, self.create, self.shaped(want.inputs)),
            "Tags": tag_list(want.get("tags")),
        }
        aws.call(self.create, InstanceProfileName=want.physical, **request)
        return want.physical

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        if "role" in changed:
            self._hold(aws, identity, want.get("role"))
        if "tags" in changed:
            _retag(aws, "InstanceProfile", identity, want)

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        del want
        profile = aws.call("iam.GetInstanceProfile", InstanceProfileName=identity)["InstanceProfile"]
        return {"arn": profile["Arn"], "name": identity, "uniqueId": profile["InstanceProfileId"]}

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        del want
        self._hold(aws, identity, None)
        aws.call("iam.DeleteInstanceProfile", InstanceProfileName=identity)

    def _hold(self, aws: Aws, identity: str, role: str | None) -> None:
        """A profile holds one role at most."""
        profile = aws.call("iam.GetInstanceProfile", InstanceProfileName=identity)["InstanceProfile"]
        held = [item["RoleName"] for item in profile["Roles"]]
        for other in (name for name in held if name != role):
            aws.call("iam.RemoveRoleFromInstanceProfile", InstanceProfileName=identity, RoleName=other)
        if role is not None and role not in held:
            aws.call("iam.AddRoleToInstanceProfile", InstanceProfileName=identity, RoleName=role)


def document(policy: Any) -> Any:
    """A policy as text; programs may give it as a structure."""
    return (
        json.dumps(policy)
        if isinstance(policy, Mapping) and not _has_unknown(policy)
        else _text_or_unknown(policy)
    )


def _text_or_unknown(policy: Any) -> Any:
    return UNKNOWN if isinstance(policy, Mapping) else policy


def _has_unknown(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_unknown(item) for item in value.values())
    if isinstance(value, list):
        return any(_has_unknown(item) for item in value)
    return value is UNKNOWN


def _exists(aws: Aws, operation: str, **request: Any) -> bool:
    try:
        aws.call(operation, **request)
    except ClientError as exc:
        if is_gone(exc):
            return False
        raise
    return True


def _retag(aws: Aws, kind: str, identity: str, want: Want) -> None:
    changed, removed = tag_changes(want)
    named = {"PolicyArn" if kind == "Policy" else f"{kind}Name": identity}
    if changed:
        aws.call(f"iam.Tag{kind}", **named, Tags=tag_list(changed))
    if removed:
        aws.call(f"iam.Untag{kind}", **named, TagKeys=removed)


HANDLERS: tuple[Handler, ...] = (Role(), RolePolicy(), Policy(), RolePolicyAttachment(), InstanceProfile())
