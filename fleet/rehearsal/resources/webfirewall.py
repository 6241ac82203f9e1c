"""WAF: web ACLs, address sets, and what they are put before."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from botocore.exceptions import ClientError

from fleet.rehearsal.resources.aws import Aws, is_gone
from fleet.rehearsal.resources.handler import REQUIRED, Handler, Want, tag_changes, tag_list, without_tags


class _Locked(Handler):
    """WAF takes a change only with the token of the version that it changes."""

    noun: ClassVar[str]
    """In the names of operations and of the members of answers."""
    listed: ClassVar[tuple[str, str]]
    name_argument = "name"
    name_limit = 128

    def key(self, want: Want) -> str:
        return f"{want.inputs['scope']} {want.physical}"

    def make(self, aws: Aws, want: Want) -> str:
        request = self.fitted(aws, self.create, self.shaped(want.inputs))
        return str(aws.call(self.create, Name=want.physical, **request)["Summary"]["Id"])

    def find(self, aws: Aws, want: Want) -> str | None:
        operation, many = self.listed
        found = aws.call(operation, Scope=want.inputs["scope"], Limit=100)[many]
        return next((str(item["Id"]) for item in found if item["Name"] == want.physical), None)

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        if set(changed) - {"tags"}:
            operation = f"wafv2.Update{self.noun}"
            request = self.fitted(aws, operation, self.shaped(without_tags(want)))
            aws.call(operation, **self._version(aws, identity, want), **request)
        if "tags" in changed:
            _retag(aws, self._described(aws, identity, want)[self.noun]["ARN"], want)

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        described = self._described(aws, identity, want)
        made = described[self.noun]
        return {"arn": made["ARN"], "name": want.physical, "capacity": made.get("Capacity")}

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        scope = want.inputs["scope"]
        aws.call(f"wafv2.Delete{self.noun}", Scope=scope, **self._version(aws, identity, want))

    def _version(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        token = self._described(aws, identity, want)["LockToken"]
        return {"Name": want.physical, "Id": identity, "LockToken": token}

    def _described(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        named = {"Name": want.physical, "Scope": want.inputs["scope"], "Id": identity}
        return aws.call(f"wafv2.Get{self.noun}", **named)


class WebAcl(_Locked):
    type = "aws:wafv2/webAcl:WebAcl"
    create, noun = "wafv2.CreateWebACL", "WebACL"
    listed = ("wafv2.ListWebACLs", "WebACLs")
    updates: ClassVar[Mapping[str, Any]] = {
        "associationConfig": None,
        "captchaConfig": None,
        "challengeConfig": None,
        "customResponseBodies": None,
        "defaultAction": REQUIRED,
        "description": None,
        "rules": [],
        "tags": {},
        "tokenDomains": None,
        "visibilityConfig": REQUIRED,
    }


class IpSet(_Locked):
    type = "aws:wafv2/ipSet:IpSet"
    create, noun = "wafv2.CreateIPSet", "IPSet"
    listed = ("wafv2.ListIPSets", "IPSets")
    updates: ClassVar[Mapping[str, Any]] = {"addresses": [], "description": None, "tags": {}}

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        shaped = super().shaped({"addresses": [], **inputs})
        return {"IPAddressVersion" if key == "ipAddressVersion" else key: v for key, v in shaped.items()}


class WebAclAssociation(Handler):
    """A resource has one web ACL at most."""

    type = "aws:wafv2/webAclAssociation:WebAclAssociation"
    create = "wafv2.AssociateWebACL"

    def key(self, want: Want) -> str:
        return str(want.inputs["resourceArn"])

    def make(self, aws: Aws, want: Want) -> str:
        aws.call(self.create, **self.fitted(aws, self.create, self.shaped(want.inputs)))
        return f"{want.inputs['webAclArn']},{self.key(want)}"

    def find(self, aws: Aws, want: Want) -> str | None:
        found = aws.call("wafv2.GetWebACLForResource", ResourceArn=self.key(want)).get("WebACL")
        there = found is not None and found["ARN"] == want.inputs["webAclArn"]
        return f"{want.inputs['webAclArn']},{self.key(want)}" if there else None

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        del identity
        aws.call("wafv2.DisassociateWebACL", ResourceArn=self.key(want))


class WebAclLogging(Handler):
    """Putting one is repeatable."""

    type = "aws:wafv2/webAclLoggingConfiguration:WebAclLoggingConfiguration"
    create = "wafv2.PutLoggingConfiguration"
    updates: ClassVar[Mapping[str, Any]] = {
        "logDestinationConfigs": REQUIRED,
        "loggingFilter": None,
        "redactedFields": None,
    }

    def key(self, want: Want) -> str:
        return str(want.inputs["resourceArn"])

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {"LoggingConfiguration": super().shaped(inputs)}

    def make(self, aws: Aws, want: Want) -> str:
        aws.call(self.create, **self.fitted(aws, self.create, self.shaped(want.inputs)))
        return self.key(want)

    def find(self, aws: Aws, want: Want) -> str | None:
        try:
            aws.call("wafv2.GetLoggingConfiguration", ResourceArn=self.key(want))
        except ClientError as exc:
            if is_gone(exc):
                return None
            raise
        return self.key(want)

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        del identity
        if changed:
            self.make(aws, want)

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        del want
        aws.call("wafv2.DeleteLoggingConfiguration", ResourceArn=identity)


def _retag(aws: Aws, arn: str, want: Want) -> None:
    changed, removed = tag_changes(want)
    if changed:
        aws.call("wafv2.TagResource", ResourceARN=arn, Tags=tag_list(changed))
    if removed:
        aws.call("wafv2.UntagResource", ResourceARN=arn, TagKeys=removed)


HANDLERS: tuple[Handler, ...] = (WebAcl(), IpSet(), WebAclAssociation(), WebAclLogging())
