"""What is answered sooner is answered the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import moto.backends
from moto.core.serialize import XFormedAttributePicker
from moto.ec2.models.core import TaggedEC2Resource

if TYPE_CHECKING:
    from tests.fleet.rehearsal.cloud.conftest import Aws, Emulate, Plain


def tagged(aws: Aws) -> list[dict[str, Any]]:
    """What EC2 tells of a VPC's tags, with others' about."""
    aws.ec2.create_tags(Resources=[aws.vpc], Tags=[{"Key": "a", "Value": "b"}, {"Key": "c", "Value": ""}])
    aws.ec2.create_tags(Resources=aws.subnets, Tags=[{"Key": "a", "Value": "other"}])
    (found,) = aws.ec2.describe_vpcs(VpcIds=[aws.vpc])["Vpcs"]
    (bare,) = aws.ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [aws.vpc]}])["RouteTables"]
    return [found["Tags"], bare["Tags"]]


def test_tags_are_the_same_as_plain_motos(plain: Plain, emulate: Emulate) -> None:
    """A resource's own, in their order, and none where there are none."""
    with plain() as aws:
        expected = tagged(aws)
    with emulate() as aws:
        assert tagged(aws) == expected == [[{"Key": "a", "Value": "b"}, {"Key": "c", "Value": ""}], []]


def told(aws: Aws) -> dict[str, Any]:
    """All that EC2 tells of an instance, but for its ids, addresses and times."""
    aws.ec2.run_instances(ImageId=aws.image, MinCount=2, MaxCount=2, SubnetId=aws.subnets[0])
    reservations = aws.ec2.describe_instances()["Reservations"]
    return {key: type(value).__name__ for key, value in reservations[0]["Instances"][0].items()}


def test_answers_have_the_same_members_as_plain_motos(plain: Plain, emulate: Emulate) -> None:
    """Also those that were looked up before."""
    with plain() as aws:
        expected = told(aws)
    with emulate() as aws:
        assert set(expected) <= set(told(aws))
        assert {key: told(aws)[key] for key in expected} == expected


def test_every_change_is_undone(emulate: Emulate) -> None:
    """Plain moto is itself again once the cloud is closed."""
    before = current()
    names = list(moto.backends.list_of_moto_modules())
    with emulate():
        assert not set(current()) & set(before)
        assert list(moto.backends.list_of_moto_modules()) == names
    assert current() == before


def current() -> tuple[Any, ...]:
    picker = XFormedAttributePicker.get_possible_keys
    return TaggedEC2Resource.get_tags, moto.backends.list_of_moto_modules, picker
