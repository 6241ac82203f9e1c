"""VPC, subnets, gateways, routes and endpoints."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from fleet.rehearsal.resources.aws import Aws
from fleet.rehearsal.resources.ec2 import Ec2Handler
from fleet.rehearsal.resources.handler import Handler, Want

# A NAT gateway takes AWS a minute or two to make or to take down.
_NAT_SECONDS = 300.0


class Vpc(Ec2Handler):
    type = "aws:ec2/vpc:Vpc"
    create = "ec2.CreateVpc"
    kind, made, id_member = "vpc", "Vpc", "VpcId"
    describe = ("ec2.DescribeVpcs", "Vpcs")
    destroy = "ec2.DeleteVpc"
    arn_kind = "vpc"
    settled = frozenset({"enableDnsSupport", "enableDnsHostnames"})
    updates: ClassVar[Mapping[str, Any]] = {"enableDnsSupport": True, "enableDnsHostnames": False, "tags": {}}

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        super().settle(aws, identity, want, changed)
        # Host names need DNS support, so it comes first; AWS takes one attribute a call.
        for argument, member in (
            ("enableDnsSupport", "EnableDnsSupport"),
            ("enableDnsHostnames", "EnableDnsHostnames"),
        ):
            if argument in changed:
                value = bool(want.get(argument, self.updates[argument]))
                aws.call("ec2.ModifyVpcAttribute", VpcId=identity, **{member: {"Value": value}})

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        tables = aws.call(
            "ec2.DescribeRouteTables",
            Filters=[
                {"Name": "vpc-id", "Values": [identity]},
                {"Name": "association.main", "Values": ["true"]},
            ],
        )["RouteTables"]
        main = tables[0]["RouteTableId"] if tables else None
        return {**super().outputs(aws, identity, want), "mainRouteTableId": main}


class Subnet(Ec2Handler):
    type = "aws:ec2/subnet:Subnet"
    create = "ec2.CreateSubnet"
    kind, made, id_member = "subnet", "Subnet", "SubnetId"
    describe = ("ec2.DescribeSubnets", "Subnets")
    destroy = "ec2.DeleteSubnet"
    settled = frozenset({"mapPublicIpOnLaunch"})
    updates: ClassVar[Mapping[str, Any]] = {"mapPublicIpOnLaunch": False, "tags": {}}

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        super().settle(aws, identity, want, changed)
        if "mapPublicIpOnLaunch" in changed:
            value = bool(want.get("mapPublicIpOnLaunch", False))
            aws.call("ec2.ModifySubnetAttribute", SubnetId=identity, MapPublicIpOnLaunch={"Value": value})

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        del want
        subnet = self.described(aws, SubnetIds=[identity])[0]
        return {
            "arn": subnet["SubnetArn"],
            "availabilityZone": subnet["AvailabilityZone"],
            "availabilityZoneId": subnet.get("AvailabilityZoneId"),
            "ownerId": subnet["OwnerId"],
        }


class InternetGateway(Ec2Handler):
    type = "aws:ec2/internetGateway:InternetGateway"
    create = "ec2.CreateInternetGateway"
    kind, made, id_member = "internet-gateway", "InternetGateway", "InternetGatewayId"
    describe = ("ec2.DescribeInternetGateways", "InternetGateways")
    destroy = "ec2.DeleteInternetGateway"
    arn_kind = "internet-gateway"
    settled = frozenset({"vpcId"})
    updates: ClassVar[Mapping[str, Any]] = {"vpcId": None, "tags": {}}

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        super().settle(aws, identity, want, changed)
        if "vpcId" in changed:
            self._attach(aws, identity, want.get("vpcId"))

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        self._attach(aws, identity, None)
        super().delete(aws, identity, want)

    def _attach(self, aws: Aws, identity: str, vpc: str | None) -> None:
        attached = self.described(aws, InternetGatewayIds=[identity])[0].get("Attachments", [])
        for other in (a["VpcId"] for a in attached if a["VpcId"] != vpc):
            aws.call("ec2.DetachInternetGateway", InternetGatewayId=identity, VpcId=other)
        if vpc is not None and vpc not in [a["VpcId"] for a in attached]:
            aws.call("ec2.AttachInternetGateway", InternetGatewayId=identity, VpcId=vpc)


class Eip(Ec2Handler):
    type = "aws:ec2/eip:Eip"
    create = "ec2.AllocateAddress"
    kind, id_member = "elastic-ip", "AllocationId"
    describe = ("ec2.DescribeAddresses", "Addresses")
    destroy = "ec2.ReleaseAddress"
    arn_kind = "elastic-ip"
    updates: ClassVar[Mapping[str, Any]] = {"tags": {}}

    def make(self, aws: Aws, want: Want) -> str:
        request = self.fitted(aws, self.create, self.shaped(want.inputs))
        return str(aws.call(self.create, **request, **self.tags_at_creation(want))["AllocationId"])

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        address = self.described(aws, AllocationIds=[identity])[0]
        return {
            **super().outputs(aws, identity, want),
            "allocationId": identity,
            "publicIp": address["PublicIp"],
            "domain": address["Domain"],
        }


class NatGateway(Ec2Handler):
    type = "aws:ec2/natGateway:NatGateway"
    create = "ec2.CreateNatGateway"
    kind, made, id_member = "natgateway", "NatGateway", "NatGatewayId"
    describe = ("ec2.DescribeNatGateways", "NatGateways")
    destroy = "ec2.DeleteNatGateway"
    updates: ClassVar[Mapping[str, Any]] = {"tags": {}}

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        super().settle(aws, identity, want, changed)
        aws.wait(
            f"NAT gateway {identity} available",
            lambda: self._state(aws, identity) == "available",
            _NAT_SECONDS,
        )

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        del want
        addresses = self.described(aws, NatGatewayIds=[identity])[0].get("NatGatewayAddresses") or [{}]
        first = addresses[0]
        return {
            "publicIp": first.get("PublicIp"),
            "privateIp": first.get("PrivateIp"),
            "networkInterfaceId": first.get("NetworkInterfaceId"),
        }

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        """Its address and subnet cannot go before it has."""
        super().delete(aws, identity, want)
        aws.wait(
            f"NAT gateway {identity} deleted", lambda: self._state(aws, identity) == "deleted", _NAT_SECONDS
        )

    def _state(self, aws: Aws, identity: str) -> str:
        found = self.described(aws, NatGatewayIds=[identity])
        return str(found[0]["State"]) if found else "deleted"


class RouteTable(Ec2Handler):
    """Routes written inside the table are refused: they are resources of their own here."""

    type = "aws:ec2/routeTable:RouteTable"
    create = "ec2.CreateRouteTable"
    kind, made, id_member = "route-table", "RouteTable", "RouteTableId"
    describe = ("ec2.DescribeRouteTables", "RouteTables")
    destroy = "ec2.DeleteRouteTable"
    arn_kind = "route-table"
    updates: ClassVar[Mapping[str, Any]] = {"tags": {}}


_DESTINATIONS = ("destinationCidrBlock", "destinationIpv6CidrBlock", "destinationPrefixListId")


class Route(Handler):
    type = "aws:ec2/route:Route"
    create = "ec2.CreateRoute"
    updates: ClassVar[Mapping[str, Any]] = {
        "gatewayId": None,
        "natGatewayId": None,
        "networkInterfaceId": None,
        "transitGatewayId": None,
        "vpcEndpointId": None,
        "vpcPeeringConnectionId": None,
    }

    def key(self, want: Want) -> str:
        return f"{want.inputs['routeTableId']} {_destination(want)[1]}"

    def find(self, aws: Aws, want: Want) -> str | None:
        tables = aws.call("ec2.DescribeRouteTables", RouteTableIds=[want.inputs["routeTableId"]])[
            "RouteTables"
        ]
        member, value = _destination(want)
        found = any(route.get(member) == value for table in tables for route in table["Routes"])
        return self._id(want) if found else None

    def make(self, aws: Aws, want: Want) -> str:
        aws.call("ec2.CreateRoute", **self.fitted(aws, self.create, self.shaped(want.inputs)))
        return self._id(want)

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        del identity
        if set(changed) & set(self.updates):
            aws.call("ec2.ReplaceRoute", **self.fitted(aws, "ec2.ReplaceRoute", self.shaped(want.inputs)))

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        del aws, identity, want
        return {"origin": "CreateRoute", "state": "active"}

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        del identity
        member, value = _destination(want)
        aws.call("ec2.DeleteRoute", RouteTableId=want.inputs["routeTableId"], **{member: value})

    def _id(self, want: Want) -> str:
        return f"r-{want.inputs['routeTableId']}-{_destination(want)[1]}"


def _destination(want: Want) -> tuple[str, str]:
    argument = next(key for key in _DESTINATIONS if want.get(key) is not None)
    return argument[0].upper() + argument[1:], str(want.inputs[argument])


class RouteTableAssociation(Handler):
    type = "aws:ec2/routeTableAssociation:RouteTableAssociation"
    create = "ec2.AssociateRouteTable"

    def key(self, want: Want) -> str:
        return str(want.get("subnetId") or want.get("gatewayId"))

    def find(self, aws: Aws, want: Want) -> str | None:
        tables = aws.call("ec2.DescribeRouteTables", RouteTableIds=[want.inputs["routeTableId"]])[
            "RouteTables"
        ]
        associations = [a for table in tables for a in table["Associations"]]
        mine = (a for a in associations if self.key(want) in (a.get("SubnetId"), a.get("GatewayId")))
        return next((str(a["RouteTableAssociationId"]) for a in mine), None)

    def make(self, aws: Aws, want: Want) -> str:
        request = self.fitted(aws, self.create, self.shaped(want.inputs))
        return str(aws.call(self.create, **request)["AssociationId"])

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        del want
        aws.call("ec2.DisassociateRouteTable", AssociationId=identity)


class VpcEndpoint(Ec2Handler):
    type = "aws:ec2/vpcEndpoint:VpcEndpoint"
    create = "ec2.CreateVpcEndpoint"
    kind, made, id_member = "vpc-endpoint", "VpcEndpoint", "VpcEndpointId"
    describe = ("ec2.DescribeVpcEndpoints", "VpcEndpoints")
    destroy = "ec2.DeleteVpcEndpoints"
    arn_kind = "vpc-endpoint"
    members: ClassVar[Mapping[str, str]] = {"policy": "policyDocument"}
    updates: ClassVar[Mapping[str, Any]] = {
        "routeTableIds": [],
        "subnetIds": [],
        "securityGroupIds": [],
        "policy": None,
        "tags": {},
    }
    _lists = (
        ("routeTableIds", "RouteTableIds"),
        ("subnetIds", "SubnetIds"),
        ("securityGroupIds", "SecurityGroupIds"),
    )

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        super().settle(aws, identity, want, changed)
        request = self._modification(want, changed)
        if request:
            aws.call("ec2.ModifyVpcEndpoint", VpcEndpointId=identity, **request)

    def _modification(self, want: Want, changed: Collection[str]) -> dict[str, Any]:
        request: dict[str, Any] = {}
        for argument, member in self._lists:
            if argument in changed:
                before, now = set(want.before.get(argument) or ()), set(want.get(argument, ()))
                request |= {f"Add{member}": sorted(now - before)} if now - before else {}
                request |= {f"Remove{member}": sorted(before - now)} if before - now else {}
        if "policy" in changed:
            policy = want.get("policy")
            request |= {"ResetPolicy": True} if policy is None else {"PolicyDocument": policy}
        return request

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        del want
        aws.call("ec2.DeleteVpcEndpoints", VpcEndpointIds=[identity])


HANDLERS: tuple[Handler, ...] = (
    Vpc(),
    Subnet(),
    InternetGateway(),
    Eip(),
    NatGateway(),
    RouteTable(),
    Route(),
    RouteTableAssociation(),
    VpcEndpoint(),
)
