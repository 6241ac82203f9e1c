"""Functions that ask for networks, keys and groups that exist already."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fleet.rehearsal.resources.aws import Aws
from fleet.rehearsal.resources.ec2 import Ec2Handler
from fleet.rehearsal.resources.errors import ArgumentRefusedError, ArgumentUnmappedError
from fleet.rehearsal.resources.network import RouteTable, Subnet, Vpc
from fleet.rehearsal.resources.security import SecurityGroup

Answer = dict[str, Any]


def only(arguments: Mapping[str, Any], *known: str) -> None:
    """Raises ArgumentUnmappedError for any other argument."""
    for key in arguments:
        if key not in known:
            raise ArgumentUnmappedError(
                f"argument {key} is not known to the rehearsal", "Remove it, or map it."
            )


def filters_of(filters: Any) -> list[dict[str, Any]]:
    return [{"Name": item["name"], "Values": list(item["values"])} for item in filters or ()]


def _vpc(aws: Aws, arguments: Mapping[str, Any]) -> Answer:
    own = {"cidrBlock": "cidr", "default": "is-default", "id": "vpc-id", "state": "state"}
    found = _one(aws, Vpc(), arguments, own)
    return {"default": bool(found.get("isDefault")), **found, **_dns(aws, found["id"])}


def _dns(aws: Aws, vpc: str) -> Answer:
    names = ("enableDnsSupport", "enableDnsHostnames")
    asked = {n: aws.call("ec2.DescribeVpcAttribute", VpcId=vpc, Attribute=n) for n in names}
    return {n: answer[n[0].upper() + n[1:]]["Value"] for n, answer in asked.items()}


def _subnet(aws: Aws, arguments: Mapping[str, Any]) -> Answer:
    own = {
        "availabilityZone": "availability-zone",
        "cidrBlock": "cidr-block",
        "id": "subnet-id",
        "state": "state",
        "vpcId": "vpc-id",
    }
    return _one(aws, Subnet(), arguments, own)


def _security_group(aws: Aws, arguments: Mapping[str, Any]) -> Answer:
    return _one(aws, SecurityGroup(), arguments, {"id": "group-id", "name": "group-name", "vpcId": "vpc-id"})


def _subnets(aws: Aws, arguments: Mapping[str, Any]) -> Answer:
    only(arguments, "filters", "tags")
    found = Subnet().described(aws, Filters=_asked(arguments, {}))
    return {"id": aws.region, "ids": sorted(item["SubnetId"] for item in found), "region": aws.region}


def _route_tables(aws: Aws, arguments: Mapping[str, Any]) -> Answer:
    only(arguments, "filters", "tags", "vpcId")
    found = RouteTable().described(aws, Filters=_asked(arguments, {"vpcId": "vpc-id"}))
    return {"id": aws.region, "ids": sorted(item["RouteTableId"] for item in found), "region": aws.region}


def _route_table(aws: Aws, arguments: Mapping[str, Any]) -> Answer:
    own = {"routeTableId": "route-table-id", "subnetId": "association.subnet-id", "vpcId": "vpc-id"}
    found = _one(aws, RouteTable(), arguments, own)
    (table,) = RouteTable().described(aws, Filters=[{"Name": "route-table-id", "Values": [found["id"]]}])
    return {**found, "routeTableId": found["id"], "routes": list(map(_route, _made(table["Routes"])))}


def _made(routes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Without the one inside the VPC, which the provider does not tell either."""
    return [route for route in routes if route.get("GatewayId") != "local"]


def _route(route: Mapping[str, Any]) -> Answer:
    """As the provider has it: a target that a route has not is empty text."""
    members = {"cidrBlock": "DestinationCidrBlock", "gatewayId": "GatewayId", "natGatewayId": "NatGatewayId"}
    return {name: str(route.get(member) or "") for name, member in members.items()}


def _prefix_list(aws: Aws, arguments: Mapping[str, Any]) -> Answer:
    only(arguments, "name", "filters")
    filters = _asked(arguments, {"name": "prefix-list-name"})
    found = aws.call("ec2.DescribeManagedPrefixLists", Filters=filters)["PrefixLists"]
    item = _single(found, "prefix list")
    return {"id": item["PrefixListId"], "name": item["PrefixListName"], "arn": item["PrefixListArn"]}


def _alias(aws: Aws, arguments: Mapping[str, Any]) -> Answer:
    only(arguments, "name")
    key = aws.call("kms.DescribeKey", KeyId=arguments["name"])["KeyMetadata"]
    told = {"targetKeyId": key["KeyId"], "targetKeyArn": key["Arn"]}
    return {
        "id": arguments["name"],
        "name": arguments["name"],
        "arn": aws.arn("kms", arguments["name"]),
        **told,
    }


def _one(aws: Aws, handler: Ec2Handler, arguments: Mapping[str, Any], own: Mapping[str, str]) -> Answer:
    """The only one that fits; `own` is argument -> EC2's filter."""
    only(arguments, "filters", "tags", *own)
    found = handler.described(aws, Filters=_asked(arguments, own))
    identity = str(_single(found, handler.kind)[handler.id_member])
    return {"id": identity, "region": aws.region, **handler.read(aws, identity)}


def _asked(arguments: Mapping[str, Any], own: Mapping[str, str]) -> list[dict[str, Any]]:
    given = {own[key]: arguments[key] for key in own if arguments.get(key) is not None}
    tags = {f"tag:{key}": value for key, value in (arguments.get("tags") or {}).items()}
    plain = [{"Name": name, "Values": [_text(value)]} for name, value in {**given, **tags}.items()]
    return [*plain, *filters_of(arguments.get("filters"))]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _single(found: list[dict[str, Any]], what: str) -> dict[str, Any]:
    if len(found) != 1:
        hint = "Ask more narrowly: by id, by tags or by filters." if found else ""
        raise ArgumentRefusedError(f"{len(found) or 'none'} of kind {what} match", hint)
    return found[0]


FUNCTIONS: Mapping[str, Callable[[Aws, Mapping[str, Any]], Answer]] = {
    "aws:ec2/getManagedPrefixList:getManagedPrefixList": _prefix_list,
    "aws:ec2/getPrefixList:getPrefixList": _prefix_list,
    "aws:ec2/getRouteTable:getRouteTable": _route_table,
    "aws:ec2/getRouteTables:getRouteTables": _route_tables,
    "aws:ec2/getSecurityGroup:getSecurityGroup": _security_group,
    "aws:ec2/getSubnet:getSubnet": _subnet,
    "aws:ec2/getSubnets:getSubnets": _subnets,
    "aws:ec2/getVpc:getVpc": _vpc,
    "aws:kms/getAlias:getAlias": _alias,
}
