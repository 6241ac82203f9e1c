"""Runs the program on Pulumi's mocks, as often as asked: importing pulumi_aws costs far more than a run.

Reads {name: {stack, config, images}} as JSON on stdin, `images` being parameter -> its value, and writes
{name: what was registered or refused} on stdout.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import pulumi
from google.protobuf import empty_pb2
from pulumi.runtime import mocks, rpc, run_in_stack, set_all_config, settings

from fleet.stack import program

IMAGE = {"id": "ami-0123456789abcdef0", "rootDeviceName": "/dev/sda1", "architecture": "x86_64"}
# Subnets of networks that exist: zone, free addresses, and the table that each is associated with.
SUBNETS = {
    "subnet-0000000a": ("us-east-1a", 200, "rtb-public"),
    "subnet-0000000b": ("us-east-1b", 200, "rtb-public"),
    "subnet-0000000c": ("us-east-1a", 200, "rtb-private"),
    "subnet-0000000d": ("us-east-1b", 200, None),
    "subnet-0000000e": ("us-east-1b", 5, "rtb-private"),
}
SMALL = 12
ROUTES = {
    "rtb-public": [{"cidrBlock": "0.0.0.0/0", "gatewayId": "igw-1"}],
    "rtb-private": [{"cidrBlock": "0.0.0.0/0", "natGatewayId": "nat-1", "gatewayId": ""}],
}
ZONES = ["us-east-1-bos-1a", "us-east-1a", "us-east-1b", "us-east-1c", "us-east-1d"]

ALWAYS = {
    "aws:ec2/getAmi:getAmi": IMAGE,
    "aws:index/getAvailabilityZones:getAvailabilityZones": {"names": ZONES},
    "aws:index/getCallerIdentity:getCallerIdentity": {"accountId": "123456789012"},
    "aws:index/getPartition:getPartition": {"partition": "aws"},
    "aws:index/getRegion:getRegion": {"region": "us-east-1"},
}


class Aws(pulumi.runtime.Mocks):
    """Answers as AWS would for a new resource: an id, an arn, and what else the program reads."""

    def __init__(self, images: dict[str, str]) -> None:
        self._images = images

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        made = {
            "arn": f"arn:aws:{args.typ}:{args.name}",
            "arnSuffix": f"{args.typ}/{args.name}",
            "dnsName": f"{args.name}.elb.test",
            "name": f"{args.name}-1a2b3c4",
            "url": f"https://sqs.test/{args.name}",
            "latestVersion": 7,
            "keyId": f"{args.name}-key",
        }
        return f"{args.typ}/{args.name}", {**made, **args.inputs}

    def call(self, args: pulumi.runtime.MockCallArgs) -> Any:
        if args.token in ALWAYS:
            return ALWAYS[args.token]
        match args.token:
            case "aws:ssm/getParameter:getParameter":
                return self._parameter(args.args["name"])
            case "aws:ssm/getParametersByPath:getParametersByPath":
                return {"names": [n for n in self._images if n.rpartition("/")[0] == args.args["path"]]}
            case "aws:ec2/getManagedPrefixList:getManagedPrefixList":
                return {"id": f"pl-{args.args['name']}"}
            case "aws:ec2/getSubnet:getSubnet":
                return _subnet(args.args["id"])
            case "aws:ec2/getRouteTables:getRouteTables":
                return {"ids": _tables(args.args["filters"][0])}
            case "aws:ec2/getRouteTable:getRouteTable":
                return {"routes": ROUTES[args.args["routeTableId"]]}
        raise LookupError(args.token)

    def _parameter(self, name: str) -> Any:
        if name not in self._images:
            return {}, [("name", "ParameterNotFound")]
        return {"insecureValue": self._images[name]}


def _subnet(subnet_id: str) -> Any:
    if subnet_id not in SUBNETS:
        return {}, [("id", "InvalidSubnetID.NotFound")]
    zone, free, _ = SUBNETS[subnet_id]
    small = free < SMALL
    block = f"10.7.{list(SUBNETS).index(subnet_id)}.0/{28 if small else 24}"
    return {
        "id": subnet_id,
        "vpcId": "vpc-0000000a",
        "availabilityZone": zone,
        "cidrBlock": block,
        "availableIpAddressCount": free,
    }


def _tables(wanted: dict[str, Any]) -> list[str]:
    if wanted["name"] == "association.main":
        return ["rtb-private"]
    table = SUBNETS[wanted["values"][0]][2]
    return [] if table is None else [table]


class Recorder(mocks.MockMonitor):
    """Keeps every registration with its options, which mocks alone do not see."""

    def __init__(self, aws: Aws) -> None:
        super().__init__(aws)
        self.registered: list[dict[str, Any]] = []
        self.outputs: dict[str, Any] = {}

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the wire's name
        answer = super().RegisterResource(request)
        self.registered.append(
            {
                "urn": answer.urn,
                "id": answer.id,
                "type": request.type,
                "name": request.name,
                "inputs": rpc.deserialize_properties(request.object),
                "dependencies": list(request.dependencies),
                "ignore_changes": list(request.ignoreChanges),
                "retain": request.retainOnDelete,
                "refs": {key: list(of.urns) for key, of in request.propertyDependencies.items()},
            }
        )
        return answer

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802 - the wire's name
        if "::pulumi:pulumi:Stack::" in request.urn:
            self.outputs = rpc.deserialize_properties(request.outputs)
        return super().RegisterResourceOutputs(request)


def record(stack: str, config: dict[str, str], images: dict[str, str]) -> dict[str, Any]:
    """What the program registers and exports, or the text by which it refuses."""
    recorder = Recorder(Aws(images))
    features = set(recorder.GetDeploymentInfo(empty_pb2.Empty()).supportedFeatures)
    settings.configure(
        mocks.MockSettings(
            monitor=recorder,
            monitor_features=features,
            engine=mocks.MockEngine(None),
            project="goldenfleet",
            stack=stack,
            dry_run=False,
            organization=None,
            callbacks=None,
        )
    )
    settings.set_root_resource(None)
    set_all_config(config)
    try:
        asyncio.run(run_in_stack(program.main))
    except pulumi.RunError as refusal:
        return {"refusal": str(refusal)}
    return {"resources": recorder.registered, "outputs": recorder.outputs}


def files_of(archive: pulumi.AssetArchive) -> list[str]:
    return sorted(archive.assets)


if __name__ == "__main__":
    recorded = {name: record(**run) for name, run in json.load(sys.stdin).items()}
    json.dump(recorded, sys.stdout, default=files_of)
