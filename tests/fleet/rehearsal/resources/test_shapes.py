"""Pulumi's values in the form of AWS's shapes."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.session import Session

from fleet.rehearsal.resources.errors import ArgumentRefusedError, ArgumentUnmappedError
from fleet.rehearsal.resources.shapes import UNKNOWN, fit, text


def shape(operation: str) -> Any:
    service, _, name = operation.partition(".")
    return Session().get_service_model(service).operation_model(name).input_shape


FITS = {
    "spelling": ("ec2.CreateVpc", {"cidrBlock": "10.0.0.0/8"}, {"CidrBlock": "10.0.0.0/8"}),
    "initialisms": (
        "autoscaling.CreateAutoScalingGroup",
        {"targetGroupArns": ["a"]},
        {"TargetGroupARNs": ["a"]},
    ),
    "plural": ("ec2.DescribeVpcs", {"vpcId": ["v"]}, {"VpcIds": ["v"]}),
    "singular": ("ec2.CreateSubnet", {"vpcIds": "v"}, {"VpcId": "v"}),
    "tags from a mapping": ("sqs.CreateQueue", {"tags": {"a": "b"}}, {"tags": {"a": "b"}}),
    "pairs from a mapping": ("iam.CreateRole", {"tags": {"a": 1}}, {"Tags": [{"Key": "a", "Value": "1"}]}),
    "numbers from text": ("elbv2.CreateTargetGroup", {"port": "80"}, {"Port": 80}),
    "booleans from text": (
        "ec2.CreateLaunchTemplate",
        {"launchTemplateData": {"ebsOptimized": "true"}},
        {"LaunchTemplateData": {"EbsOptimized": True}},
    ),
    "nulls are nothing": ("ec2.CreateVpc", {"cidrBlock": None}, {}),
    "unknowns stay": ("ec2.CreateSubnet", {"vpcId": UNKNOWN}, {"VpcId": UNKNOWN}),
    "new instance types": (
        "ec2.CreateLaunchTemplate",
        {"launchTemplateData": {"instanceType": "z99.huge"}},
        {"LaunchTemplateData": {"InstanceType": "z99.huge"}},
    ),
}
REFUSED = {
    "an unknown member": (
        "ec2.CreateVpc",
        {"colour": "red"},
        ArgumentUnmappedError,
        "argument colour has no",
    ),
    "an unknown member inside": (
        "ec2.CreateLaunchTemplate",
        {"launchTemplateData": {"blockDeviceMappings": [{"ebs": {"mood": 1}}]}},
        ArgumentUnmappedError,
        r"launchTemplateData.blockDeviceMappings\[0\].ebs.mood",
    ),
    "a value outside an enumeration": (
        "elbv2.CreateTargetGroup",
        {"protocol": "PIGEON"},
        ArgumentRefusedError,
        "protocol is 'PIGEON'",
    ),
    "text for a number": ("elbv2.CreateTargetGroup", {"port": "http"}, ArgumentRefusedError, "port is not a"),
    "text for a boolean": (
        "ec2.CreateVpc",
        {"amazonProvidedIpv6CidrBlock": "maybe"},
        ArgumentRefusedError,
        "is not a boolean",
    ),
    "one value for a list": ("ec2.DescribeVpcs", {"vpcIds": "v"}, ArgumentRefusedError, "vpcIds is a single"),
    "a list for one value": (
        "ec2.CreateVpc",
        {"cidrBlock": ["x"]},
        ArgumentRefusedError,
        "cidrBlock is a list",
    ),
    "text for a structure": (
        "ec2.CreateLaunchTemplate",
        {"launchTemplateData": "x"},
        ArgumentRefusedError,
        "AWS wants a structure",
    ),
}


@pytest.mark.parametrize("case", FITS)
def test_a_value_takes_the_form_of_its_shape(case) -> None:
    """Names, types and collections follow AWS's own input shape."""
    operation, given, expected = FITS[case]
    assert fit(shape(operation), given, "") == expected


@pytest.mark.parametrize("case", REFUSED)
def test_a_value_without_place_or_form_is_refused(case) -> None:
    """Nothing is dropped or guessed: the error names the argument."""
    operation, given, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        fit(shape(operation), given, "")


def test_text_is_written_as_aws_writes_it() -> None:
    """Booleans in lower case, everything else as it is."""
    assert [text(value) for value in (True, 30, "a", 1.5)] == ["true", "30", "a", "1.5"]
