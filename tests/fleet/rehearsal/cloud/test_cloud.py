"""The cloud as a whole: one per process, driven by its own clock, and gone when it is closed."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import BotoCoreError
from moto.autoscaling.responses import AutoScalingResponse

from fleet.rehearsal.cloud import Cloud, InstanceView
from fleet.rehearsal.cloud.errors import CloudError, CloudInUse, GroupUnknown, MotoVersionRefused
from fleet.rehearsal.cloud.patches import Patches, require_moto

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fleet.rehearsal.cloud.conftest import Emulate, Emulated


class Silent:
    def launched(self, instance: InstanceView) -> None:
        del instance

    def killed(self, instance_id: str) -> None:
        del instance_id


class Awaited:
    """A listener whose calls a test can wait for."""

    def __init__(self) -> None:
        self.up, self.down = threading.Event(), threading.Event()
        self.view: InstanceView | None = None

    def launched(self, instance: InstanceView) -> None:
        self.view = instance
        self.up.set()

    def killed(self, instance_id: str) -> None:
        assert self.view is not None
        assert instance_id == self.view.instance_id
        self.down.set()


def test_another_moto_is_refused() -> None:
    """A moto of another version is refused with the version that is wanted."""
    with pytest.raises(MotoVersionRefused, match=r"moto==5\.2\.5"):
        require_moto("5.2.6")


def test_one_cloud_a_process(aws: Emulated) -> None:
    """A second cloud in the same process is refused while the first is open."""
    del aws
    with pytest.raises(CloudInUse):
        Cloud(time_scale=0.1, seed=1, listener=Silent())


def test_a_port_in_use_is_an_error_and_leaves_no_cloud() -> None:
    """A taken port is told at once, and another cloud can start afterwards."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(CloudError, match="cannot listen"):
            Cloud(time_scale=0.1, seed=1, listener=Silent(), port=taken.getsockname()[1])
    Cloud(time_scale=0.1, seed=1, listener=Silent(), ticking=False).close()


def test_close_ends_threads_and_ports(client: Callable[[str], Any], port: int) -> None:
    """After close no thread of the cloud runs, its port is free and moto is plain again."""
    plain = vars(AutoScalingResponse)["create_auto_scaling_group"]
    before = set(threading.enumerate())
    cloud = Cloud(time_scale=0.1, seed=1, listener=Silent(), port=port)
    client("sqs").create_queue(QueueName="queue")
    assert vars(AutoScalingResponse)["create_auto_scaling_group"] is not plain
    cloud.close()
    cloud.close()
    assert set(threading.enumerate()) == before
    assert vars(AutoScalingResponse)["create_auto_scaling_group"] is plain
    with socket.socket() as again:
        # Connections that ended may linger; a listener may not.
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))


def test_close_does_not_wait_for_a_long_poll(client: Callable[[str], Any], port: int) -> None:
    """A client that long-polls a queue is let go when the cloud closes."""
    sqs = client("sqs")
    sending = threading.Event()
    sqs.meta.events.register("before-send.sqs.ReceiveMessage", lambda **_: sending.set())
    with Cloud(time_scale=0.1, seed=1, listener=Silent(), port=port, ticking=False):
        url = sqs.create_queue(QueueName="queue")["QueueUrl"]

        def poll() -> None:
            with contextlib.suppress(BotoCoreError):
                sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)

        poller = threading.Thread(target=poll)
        poller.start()
        assert sending.wait(10)
        sqs.list_queues()
    poller.join(10)
    assert not poller.is_alive()


def test_no_callback_after_close(emulate: Emulate) -> None:
    """Closing tells the listener nothing: whoever closes the cloud ends the nodes."""
    with emulate() as aws:
        aws.make_group()
        aws.settle()
        aws.cloud.close()
        assert aws.nodes.killed_ids == []
        told = len(aws.told)
        aws.cloud.close()
        assert len(aws.told) == told


def test_a_new_cloud_starts_empty(emulate: Emulate) -> None:
    """Nothing of one cloud is found in the next."""
    with emulate() as aws:
        aws.make_group()
        aws.tick()
    with emulate() as aws:
        assert aws.asg.describe_auto_scaling_groups()["AutoScalingGroups"] == []
        assert aws.cloud.instances() == []


def test_the_cloud_moves_by_itself() -> None:
    """On the real clock an instance boots, is killed and is let go with nobody ticking."""
    heard = Awaited()
    with Cloud(time_scale=0.01, seed=1, listener=heard) as cloud:
        ec2 = boto3.client(
            "ec2",
            region_name="us-east-1",
            endpoint_url=cloud.endpoint_url,
            aws_access_key_id="rehearsal",
            aws_secret_access_key="rehearsal",
        )
        image = cloud.register_image("model", "rehearsal", "dev")
        market = {"MarketType": "spot"}
        ec2.run_instances(
            ImageId=image, MinCount=1, MaxCount=1, InstanceType="m5.large", InstanceMarketOptions=market
        )
        assert heard.up.wait(10)
        assert heard.view is not None
        cloud.interrupt(heard.view.instance_id)
        assert heard.down.wait(10)


def test_calls_and_ticks_at_once_do_no_harm(
    client: Callable[[str], Any], port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Threads that call the API while the cloud ticks see no error, and nothing is logged."""
    failures: list[BaseException] = []
    with Cloud(time_scale=0.001, seed=1, listener=Silent(), port=port) as cloud:
        ec2, events = client("ec2"), client("events")
        image = cloud.register_image("model", "rehearsal", "dev")

        def run(number: int) -> None:
            try:
                for turn in range(6):
                    events.put_rule(Name=f"rule-{number}-{turn}", EventPattern='{"source": ["aws.ec2"]}')
                    ran = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, InstanceType="m5.large")
                    instance_id = ran["Instances"][0]["InstanceId"]
                    ec2.describe_instances()
                    ec2.terminate_instances(InstanceIds=[instance_id])
            except Exception as error:  # noqa: BLE001  a thread of a test: the test reports it
                failures.append(error)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert cloud.instances() == []
    assert failures == []
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


def test_groups_are_seen_and_resized(aws: Emulated) -> None:
    """groups() shows sizes and purchase options; set_desired works as the API call does."""
    aws.make_group(MixedInstancesPolicy=aws.mixed(), DesiredCapacity=2)
    aws.settle()
    (group,) = aws.cloud.groups()
    assert (group.desired, group.in_service, group.on_demand, group.spot) == (2, 2, 1, 1)
    aws.cloud.set_desired("group", 3)
    aws.settle()
    assert len(aws.members()) == 3
    with pytest.raises(GroupUnknown):
        aws.cloud.set_desired("none", 1)


def test_a_failing_callback_is_logged_and_harms_nobody(
    emulate: Emulate, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception of the listener neither fails the API call that set it off nor stops the cloud."""
    with emulate() as aws:
        aws.nodes.launched = _fail  # type: ignore[method-assign]
        aws.make_group()
        aws.settle()
        assert list(aws.members().values()) == ["InService"]
        assert "callback of the emulated cloud failed" in caplog.text
        caplog.clear()


def _fail(instance: InstanceView) -> None:
    raise RuntimeError(instance.instance_id)


class Owner:
    kept = 1


def test_patches_are_undone_and_applied_once() -> None:
    """Patching twice wraps plain moto once, and undo restores what was there, or nothing."""
    patches = Patches()
    for _ in range(2):
        patches.wrap(Owner, "kept", lambda original: original + 1)
        patches.set(Owner, "added", 5)
    assert (Owner.kept, vars(Owner)["added"]) == (2, 5)
    patches.undo()
    assert Owner.kept == 1
    assert "added" not in vars(Owner)
