"""What is answered sooner is answered the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import moto.backends
from moto.core.serialize import XFormedAttributePicker
from moto.ec2.models.core import TaggedEC2Resource
from moto.sqs.models import sqs_backends

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


def kept(aws: Aws) -> list[str]:
    """Of two messages that are received, one from before the queue's minute."""
    url = aws.sqs.create_queue(QueueName="q", Attributes={"MessageRetentionPeriod": "60"})["QueueUrl"]
    for body in ("new", "old"):
        aws.sqs.send_message(QueueUrl=url, MessageBody=body)
    queue = next(iter(sqs_backends["123456789012"]["us-east-1"].queues.values()))
    [old] = [message for message in queue._messages if message.body == "old"]
    assert old.sent_timestamp is not None
    old.sent_timestamp -= 61_000
    found = aws.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    return [message["Body"] for message in found]


def test_messages_are_kept_as_long_as_with_plain_moto(plain: Plain, emulate: Emulate) -> None:
    """What is older than the queue keeps is not received."""
    with plain() as aws:
        expected = kept(aws)
    with emulate() as aws:
        assert kept(aws) == expected == ["new"]
