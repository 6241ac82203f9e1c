"""Gaps of moto 5.2.5 in the Fault Injection Service: its experiments only take notes, ours interrupt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from tests.fleet.rehearsal.cloud.conftest import Aws, Emulate, Plain

ROLE = "arn:aws:iam::123456789012:role/gf-rehearsal-interrupt"


def fis(endpoint: str | None = None) -> Any:
    return boto3.client(
        "fis",
        region_name="us-east-1",
        endpoint_url=endpoint,
        aws_access_key_id="rehearsal",
        aws_secret_access_key="rehearsal",
    )


def template(client: Any, instance_id: str, duration: str = "PT2M") -> str:
    arn = f"arn:aws:ec2:us-east-1:123456789012:instance/{instance_id}"
    made = client.create_experiment_template(
        clientToken=f"{instance_id}-{duration}",
        description="a test",
        targets={
            "nodes": {
                "resourceType": "aws:ec2:spot-instance",
                "resourceArns": [arn],
                "selectionMode": "ALL",
            }
        },
        actions={
            "interrupt": {
                "actionId": "aws:ec2:send-spot-instance-interruptions",
                "parameters": {"durationBeforeInterruption": duration},
                "targets": {"SpotInstances": "nodes"},
            }
        },
        stopConditions=[{"source": "none"}],
        roleArn=ROLE,
    )
    return str(made["experimentTemplate"]["id"])


def run(client: Any, instance_id: str) -> dict[str, Any]:
    started = client.start_experiment(experimentTemplateId=template(client, instance_id), clientToken="once")
    for _ in range(5):  # moto moves an experiment on each time that it is looked at
        found = client.get_experiment(id=started["experiment"]["id"])["experiment"]
    return dict(found["state"])


def fleet(aws: Aws) -> None:
    aws.make_group(MixedInstancesPolicy=aws.mixed(base=1), DesiredCapacity=2)


def test_an_experiment_interrupts_a_spot_instance(plain: Plain, emulate: Emulate) -> None:
    """It gets its recommendation and its notice, and is taken away when the notice has run out."""
    with plain() as aws:
        [instance] = aws.ec2.run_instances(ImageId=aws.image, MinCount=1, MaxCount=1)["Instances"]
        run(fis(), instance["InstanceId"])
        assert aws.instance(instance["InstanceId"])["State"]["Name"] == "running"
    with emulate() as aws:
        fleet(aws)
        aws.settle()
        spot = aws.one("spot")
        assert run(fis(aws.cloud.endpoint_url), spot)["status"] == "completed"
        assert {"notice.rebalance", "notice.interruption"} <= set(aws.kinds(spot))
        aws.tick(13.0)
        aws.tick(0.5, 2)
        assert aws.instance(spot)["State"]["Name"] == "terminated"


def test_an_experiment_on_an_instance_on_demand_fails(emulate: Emulate) -> None:
    """Its target resolves to nothing, and the instance never hears of it."""
    with emulate() as aws:
        fleet(aws)
        aws.settle()
        bought = aws.one("on-demand")
        state = run(fis(aws.cloud.endpoint_url), bought)
        assert (state["status"], state["reason"]) == ("failed", "Target resolution returned empty set")
        assert not [kind for kind in aws.kinds(bought) if kind.startswith("notice.")]


def test_what_is_not_emulated_is_refused(emulate: Emulate) -> None:
    """A longer way to the interruption is an error here, and not a shorter one."""
    with emulate() as aws, pytest.raises(ClientError, match="PT2M"):
        template(fis(aws.cloud.endpoint_url), "i-0123456789abcdef0", "PT5M")


def test_a_token_starts_one_experiment(emulate: Emulate) -> None:
    """Asked again with the same token it is the same, and nobody is interrupted twice."""
    with emulate() as aws:
        fleet(aws)
        aws.settle()
        client, spot = fis(aws.cloud.endpoint_url), aws.one("spot")
        made = template(client, spot)
        ids = {
            client.start_experiment(experimentTemplateId=made, clientToken="t")["experiment"]["id"]
            for _ in range(2)
        }
        assert len(ids) == 1
        assert aws.kinds(spot).count("notice.interruption") == 1
