"""Security groups and their rules."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from fleet.rehearsal.resources.aws import Aws
from fleet.rehearsal.resources.ec2 import Ec2Handler
from fleet.rehearsal.resources.handler import REQUIRED, Handler, Want

_EVERYWHERE = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}


class SecurityGroup(Ec2Handler):
    """Rules written inside the group are refused: they are resources of their own here."""

    type = "aws:ec2/securityGroup:SecurityGroup"
    create = "ec2.CreateSecurityGroup"
    kind, id_member = "security-group", "GroupId"
    describe = ("ec2.DescribeSecurityGroups", "SecurityGroups")
    destroy = "ec2.DeleteSecurityGroup"
    arn_kind = "security-group"
    name_argument = "name"
    settled = frozenset({"revokeRulesOnDelete"})
    updates: ClassVar[Mapping[str, Any]] = {"revokeRulesOnDelete": False, "tags": {}}

    def key(self, want: Want) -> str:
        return f"{want.get('vpcId', 'default')} {want.physical}"

    def make(self, aws: Aws, want: Want) -> str:
        request = {
            "Description": "Managed by Pulumi",
            **self.fitted(aws, self.create, self.shaped(want.inputs)),
        }
        tags = self.tags_at_creation(want)
        identity = str(aws.call(self.create, GroupName=want.physical, **request, **tags)["GroupId"])
        self._close(aws, identity)
        return identity

    def find(self, aws: Aws, want: Want) -> str | None:
        identity = super().find(aws, want)
        if identity is not None:
            self._close(aws, identity)
        return identity

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        owner = {"ownerId": aws.account, "name": want.physical}
        return {**super().outputs(aws, identity, want), **owner}

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        """Rules of groups that name each other would keep both."""
        if want.get("revokeRulesOnDelete"):
            group = self.described(aws, GroupIds=[identity])[0]
            if group["IpPermissions"]:
                aws.call(
                    "ec2.RevokeSecurityGroupIngress", GroupId=identity, IpPermissions=group["IpPermissions"]
                )
        aws.call("ec2.DeleteSecurityGroup", GroupId=identity)

    def _close(self, aws: Aws, identity: str) -> None:
        """AWS lets a new group talk to everywhere; pulumi-aws takes that away."""
        if _EVERYWHERE["IpProtocol"] in [
            p["IpProtocol"] for p in self.described(aws, GroupIds=[identity])[0]["IpPermissionsEgress"]
        ]:
            aws.call("ec2.RevokeSecurityGroupEgress", GroupId=identity, IpPermissions=[_EVERYWHERE])


_RULE_ARGUMENTS = frozenset(
    {
        "securityGroupId",
        "ipProtocol",
        "fromPort",
        "toPort",
        "cidrIpv4",
        "cidrIpv6",
        "prefixListId",
        "referencedSecurityGroupId",
        "description",
    }
)


class _SecurityGroupRule(Ec2Handler):
    kind, id_member = "security-group-rule", "SecurityGroupRuleId"
    describe = ("ec2.DescribeSecurityGroupRules", "SecurityGroupRules")
    arn_kind = "security-group-rule"
    egress: ClassVar[bool]
    updates: ClassVar[Mapping[str, Any]] = {
        "ipProtocol": REQUIRED,
        "fromPort": None,
        "toPort": None,
        "cidrIpv4": None,
        "cidrIpv6": None,
        "prefixListId": None,
        "referencedSecurityGroupId": None,
        "description": None,
        "tags": {},
    }

    def check(self, aws: Aws, inputs: Mapping[str, Any]) -> None:
        left = {key: value for key, value in self.shaped(inputs).items() if key not in _RULE_ARGUMENTS}
        self.fitted(aws, self.create, left)

    def make(self, aws: Aws, want: Want) -> str:
        answer = aws.call(
            self.create,
            GroupId=want.inputs["securityGroupId"],
            IpPermissions=[_permission(want)],
            **self.tags_at_creation(want),
        )
        return str(answer["SecurityGroupRules"][0]["SecurityGroupRuleId"])

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        super().settle(aws, identity, want, changed)
        if set(changed) - {"tags"}:
            rule = {"SecurityGroupRuleId": identity, "SecurityGroupRule": _rule(want)}
            aws.call(
                "ec2.ModifySecurityGroupRules",
                GroupId=want.inputs["securityGroupId"],
                SecurityGroupRules=[rule],
            )

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        return {**super().outputs(aws, identity, want), "securityGroupRuleId": identity}

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        group = want.inputs["securityGroupId"]
        aws.call(self.destroy, GroupId=group, SecurityGroupRuleIds=[identity])


class SecurityGroupIngressRule(_SecurityGroupRule):
    type = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
    create = "ec2.AuthorizeSecurityGroupIngress"
    destroy = "ec2.RevokeSecurityGroupIngress"
    egress = False


class SecurityGroupEgressRule(_SecurityGroupRule):
    type = "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule"
    create = "ec2.AuthorizeSecurityGroupEgress"
    destroy = "ec2.RevokeSecurityGroupEgress"
    egress = True


def _ports(want: Want) -> dict[str, Any]:
    ports = {"IpProtocol": want.inputs["ipProtocol"]}
    if want.get("fromPort") is not None:
        ports |= {"FromPort": int(want.inputs["fromPort"]), "ToPort": int(want.inputs["toPort"])}
    return ports


def _permission(want: Want) -> dict[str, Any]:
    """A rule as EC2 takes it when it is made: its other side stands in one of four lists."""
    described = {"Description": want.inputs["description"]} if want.get("description") else {}
    sides = {
        "cidrIpv4": ("IpRanges", "CidrIp"),
        "cidrIpv6": ("Ipv6Ranges", "CidrIpv6"),
        "prefixListId": ("PrefixListIds", "PrefixListId"),
        "referencedSecurityGroupId": ("UserIdGroupPairs", "GroupId"),
    }
    given = {sides[key]: want.inputs[key] for key in sides if want.get(key) is not None}
    return {**_ports(want), **{many: [{one: value, **described}] for (many, one), value in given.items()}}


def _rule(want: Want) -> dict[str, Any]:
    """A rule as EC2 takes it when it is changed."""
    members = {
        "cidrIpv4": "CidrIpv4",
        "cidrIpv6": "CidrIpv6",
        "prefixListId": "PrefixListId",
        "referencedSecurityGroupId": "ReferencedGroupId",
        "description": "Description",
    }
    given = {member: want.inputs[key] for key, member in members.items() if want.get(key) is not None}
    return {**_ports(want), **given}


HANDLERS: tuple[Handler, ...] = (SecurityGroup(), SecurityGroupIngressRule(), SecurityGroupEgressRule())
