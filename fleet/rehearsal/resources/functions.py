"""Functions that programs call while they run: what AWS has, asked and not made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fleet.rehearsal.resources import lookups
from fleet.rehearsal.resources.aws import Aws
from fleet.rehearsal.resources.errors import ArgumentRefusedError, ArgumentUnmappedError, TypeUnknownError
from fleet.rehearsal.resources.lookups import filters_of, only
from fleet.rehearsal.resources.shapes import fit

Answer = dict[str, Any]


def answer(aws: Aws, token: str, arguments: Mapping[str, Any]) -> Answer:
    """Raises TypeUnknownError, ArgumentUnmappedError, ArgumentRefusedError and botocore's errors."""
    function = _FUNCTIONS.get(token)
    if function is None:
        raise TypeUnknownError(
            f"no function {token} in the rehearsal",
            "Add it to fleet/rehearsal/resources/functions.py, or do without it in the program.",
        )
    return function(aws, {key: value for key, value in arguments.items() if key != "region"})


def _availability_zones(aws: Aws, arguments: Mapping[str, Any]) -> Answer:
    only(arguments, "state", "filters", "excludeNames")
    filters = filters_of(arguments.get("filters"))
    if arguments.get("state"):
        filters.append({"Name": "state", "Values": [arguments["state"]]})
    zones = aws.call("ec2.DescribeAvailabilityZones", Filters=filters)["AvailabilityZones"]
    kept = [zone for zone in zones if zone["ZoneName"] not in arguments.get("excludeNames", ())]
    return {
        "id": aws.region,
        "names": sorted(zone["ZoneName"] for zone in kept),
        "zoneIds": [zone["ZoneId"] for zone in sorted(kept, key=lambda zone: str(zone["ZoneName"]))],
        "groupNames": sorted({zone.get("GroupName", aws.region) for zone in kept}),
        "region": aws.region,
    }


def _parameter(aws: Aws, arguments: Mapping[str, Any]) -> Answer:
    only(arguments, "name", "withDecryption")
    decrypted = bool(arguments.get("withDecryption", True))
    found = aws.call("ssm.GetParameter", Name=arguments["name"], WithDecryption=decrypted)["Parameter"]
    open_text = found["Type"] != "SecureString"
    return {
        "id": found["Name"],
        "arn": found["ARN"],
        "name": found["Name"],
        "type": found["Type"],
        "value": found["Value"],
        "insecureValue": found["Value"] if open_text else "",
        "version": found["Version"],
        "region": aws.region,
    }


def _parameters_by_path(aws: Aws, arguments: Mapping[str, Any]) -> Answer:
    only(arguments, "path", "recursive", "withDecryption")
    path, recursive = arguments["path"], bool(arguments.get("recursive", False))
    decrypted = bool(arguments.get("withDecryption", True))
    asked = {"Path": path, "Recursive": recursive, "WithDecryption": decrypted}
    found: list[dict[str, Any]] = []
    while True:
        page = aws.call("ssm.GetParametersByPath", **asked)
        found += page["Parameters"]
        if not page.get("NextToken"):
            break
        asked["NextToken"] = page["NextToken"]
    return {
        "id": path,
        "path": path,
        "names": [each["Name"] for each in found],
        "values": [each["Value"] for each in found],
        "types": [each["Type"] for each in found],
        "arns": [each["ARN"] for each in found],
        "recursive": recursive,
        "withDecryption": decrypted,
        "region": aws.region,
    }


def _image(aws: Aws, arguments: Mapping[str, Any]) -> Answer:
    only(arguments, "executableUsers", "filters", "includeDeprecated", "mostRecent", "nameRegex", "owners")
    if arguments.get("nameRegex"):
        raise ArgumentUnmappedError(
            "argument nameRegex has no place in AWS's DescribeImages", "Filter by name."
        )
    asked = {
        key: arguments[key] for key in ("executableUsers", "includeDeprecated", "owners") if key in arguments
    }
    request = fit(aws.shape("ec2.DescribeImages"), asked, "")
    images = aws.call("ec2.DescribeImages", Filters=filters_of(arguments.get("filters")), **request)["Images"]
    image = _one_image(images, bool(arguments.get("mostRecent")))
    return {
        "id": image["ImageId"],
        "imageId": image["ImageId"],
        "arn": f"arn:aws:ec2:{aws.region}::image/{image['ImageId']}",
        "name": image.get("Name"),
        "description": image.get("Description", ""),
        "architecture": image["Architecture"],
        "creationDate": image["CreationDate"],
        "ownerId": image.get("OwnerId"),
        "rootDeviceName": image.get("RootDeviceName"),
        "rootDeviceType": image.get("RootDeviceType"),
        "state": image.get("State"),
        "tags": {tag["Key"]: tag["Value"] for tag in image.get("Tags", ())},
        "virtualizationType": image.get("VirtualizationType"),
        "region": aws.region,
    }


def _one_image(images: list[dict[str, Any]], most_recent: bool) -> dict[str, Any]:
    if not images:
        raise ArgumentRefusedError(
            "your query returned no image", "Change the filters, or publish the image."
        )
    if len(images) > 1 and not most_recent:
        raise ArgumentRefusedError(
            f"your query returned {len(images)} images", "Filter more narrowly, or set mostRecent."
        )
    return max(images, key=lambda image: str(image["CreationDate"]))


def _caller(aws: Aws, arguments: Mapping[str, Any]) -> Answer:
    only(arguments)
    caller = aws.call("sts.GetCallerIdentity")
    account = caller["Account"]
    return {"id": account, "accountId": account, "arn": caller["Arn"], "userId": caller["UserId"]}


def _region(aws: Aws, arguments: Mapping[str, Any]) -> Answer:
    only(arguments, "name", "endpoint")
    name = arguments.get("name", aws.region)
    endpoint = f"ec2.{name}.amazonaws.com"
    return {"id": name, "name": name, "region": name, "endpoint": endpoint, "description": name}


def _partition(aws: Aws, arguments: Mapping[str, Any]) -> Answer:
    del aws
    only(arguments)
    suffix = "amazonaws.com"
    return {"id": "aws", "partition": "aws", "dnsSuffix": suffix, "reverseDnsPrefix": "com.amazonaws"}


_FUNCTIONS: Mapping[str, Callable[[Aws, Mapping[str, Any]], Answer]] = {
    **lookups.FUNCTIONS,
    "aws:ec2/getAmi:getAmi": _image,
    "aws:index/getAvailabilityZones:getAvailabilityZones": _availability_zones,
    "aws:index/getCallerIdentity:getCallerIdentity": _caller,
    "aws:index/getPartition:getPartition": _partition,
    "aws:index/getRegion:getRegion": _region,
    "aws:ssm/getParameter:getParameter": _parameter,
    "aws:ssm/getParametersByPath:getParametersByPath": _parameters_by_path,
}
