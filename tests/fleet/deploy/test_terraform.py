"""The program's arguments, read by Terraform's AWS provider where one is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fleet.deploy.terraform import as_terraform
from fleet.rehearsal.cloud import Cloud
from fleet.rehearsal.engine import Declared, PulumiEngine
from fleet.rehearsal.resources import Aws
from fleet.stack.settings import load_settings

PROJECT = Path(__file__).parents[3]
# Folders of provider packages, as `terraform init -plugin-dir` takes them.
MIRRORS = (
    *filter(None, [os.environ.get("GOLDENFLEET_TERRAFORM_PLUGINS")]),
    "~/.terraform.d/plugins",
    "/usr/local/share/terraform/plugins",
    "/usr/share/terraform/plugins",
    "/opt/tf-plugins",
)
PROVIDER = {
    "region": "us-east-1",
    "access_key": "test",
    "secret_key": "test",
    "skip_credentials_validation": True,
    "skip_metadata_api_check": True,
    "skip_requesting_account_id": True,
}


def declared(kind: str, name: str, **inputs: Any) -> Declared:
    return Declared(kind, name, f"urn::{name}", inputs, {})


def test_types_and_arguments_get_terraforms_names() -> None:
    """Case, plurals of blocks, maps whose keys are the program's own, and text that looks like a template."""
    mixed = {"launchTemplate": {"overrides": [{"instanceType": "c7i.large"}]}}
    tags = [{"key": "a", "value": "b", "propagateAtLaunch": True}]
    made = as_terraform(
        [
            declared("pulumi:pulumi:Stack", "goldenfleet-x"),
            declared("goldenfleet:stack:Tier", "tier"),
            declared("aws:ec2/vpc:Vpc", "net", cidrBlock="10.0.0.0/16", tags={"goldenfleet:stack": "x"}),
            declared("aws:lb/loadBalancer:LoadBalancer", "lb", dropInvalidHeaderFields=True),
            declared("aws:lb/targetGroup:TargetGroup", "tg", healthCheck={"healthyThreshold": 2}),
            declared("aws:autoscaling/group:Group", "g", mixedInstancesPolicy=mixed, tags=tags),
            declared(
                "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", "r.1", cidrIpv4="0.0.0.0/0"
            ),
            declared("aws:iam/rolePolicy:RolePolicy", "p", policy="${aws:username} %{x}"),
            declared("aws:sns/topicSubscription:TopicSubscription", "s", topic="arn"),
        ]
    )
    assert made == {
        "resource": {
            "aws_vpc": {"net": {"cidr_block": "10.0.0.0/16", "tags": {"goldenfleet:stack": "x"}}},
            "aws_lb": {"lb": {"drop_invalid_header_fields": True}},
            "aws_lb_target_group": {"tg": {"health_check": {"healthy_threshold": 2}}},
            "aws_autoscaling_group": {
                "g": {
                    "mixed_instances_policy": {
                        "launch_template": {"override": [{"instance_type": "c7i.large"}]}
                    },
                    "tag": [{"key": "a", "value": "b", "propagate_at_launch": True}],
                }
            },
            "aws_vpc_security_group_ingress_rule": {"r_1": {"cidr_ipv4": "0.0.0.0/0"}},
            "aws_iam_role_policy": {"p": {"policy": "$${aws:username} %%{x}"}},
            "aws_sns_topic_subscription": {"s": {"topic_arn": "arn"}},
        }
    }


class Nobody:
    """Instances without nodes."""

    def launched(self, instance: object) -> None:
        pass

    def killed(self, instance_id: str) -> None:
        pass


class Terraform:
    """Terraform in a folder of its own, with the providers of a mirror and no network."""

    def __init__(self, folder: Path, mirror: Path) -> None:
        self.folder, self.mirror = folder, mirror

    def run(self, *words: str) -> str:
        """What it said; fails the test with that where Terraform fails."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
        done = subprocess.run(
            ["terraform", *words, "-no-color"],
            cwd=self.folder,
            env={**environment, "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
        return done.stdout


@pytest.fixture
def terraform(tmp_path: Path) -> Terraform:
    """Skips where there is none, or none with AWS's provider: nothing is downloaded."""
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed")
    found = [Path(mirror).expanduser() for mirror in MIRRORS]
    mirror = next((each for each in found if list(each.glob("**/terraform-provider-aws_*"))), None)
    if mirror is None:
        pytest.skip("terraform has no AWS provider here; GOLDENFLEET_TERRAFORM_PLUGINS names a mirror")
    return Terraform(tmp_path, mirror)


def everything(aws: Aws) -> dict[str, Any]:
    """The production stack with all that its file leaves out, as far as one stack can have it."""
    settings = load_settings(PROJECT, "prod").model_dump(mode="json", by_alias=True)
    gateway, model = settings["tiers"]
    vpc = aws.call("ec2.CreateVpc", CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    redis = aws.call("ec2.CreateSecurityGroup", GroupName="redis", Description="limits", VpcId=vpc)["GroupId"]
    certificate = aws.call("acm.RequestCertificate", DomainName="a.example")["CertificateArn"]
    day = {"name": "day", "cron": "0 8 * * 1-5", "timeZone": "Europe/Zurich", "min": 2, "desired": 4}
    night = {"name": "night", "cron": "0 20 * * *", "min": 2, "max": 9}
    fitting = {"vcpus": {"min": 4, "max": 16}, "memoryGib": {"min": 16}, "gpus": {"min": 1, "max": 1}}
    forecast = {"predictive": {"metric": "in-flight"}, "inFlightSeconds": 10}
    by_requirements = {"requirements": {**fitting, "gpuMemoryGib": {"min": 22}, "excludedTypes": ["g4*"]}}
    by_weights = {"instanceTypes": ["g6.xlarge", "g6.2xlarge"], "weights": {"g6.xlarge": 1, "g6.2xlarge": 2}}
    on_demand = {"instanceTypes": ["g6.xlarge"], "onDemandBase": 1, "onDemandPercent": 100}
    tiers = [
        gateway | {"scaling": {"schedules": [day, night], "predictive": {"metric": "requests"}}},
        model,
        model | {"name": "fitting", "purchase": {"onDemandBase": 1, **by_requirements}, "scaling": forecast},
        model
        | {
            "name": "weighed",
            "purchase": {"onDemandBase": 1, **by_weights},
            "weightsFrom": ["s3://models/llama"],
        },
        model | {"name": "waiting", "purchase": on_demand, "warmPool": {"min": 1, "maxPrepared": 24}},
    ]
    return {
        "edge": settings["edge"] | {"certificateArn": certificate},
        "network": {"nat": "per-zone", "endpoints": True},
        "alarms": {"email": "ops@a.example"},
        "security": {
            "key": "own",
            "permissionsBoundary": "arn:aws:iam::123456789012:policy/bounded",
            "interruptions": True,
        },
        "access": {"limitsUrl": "ssm:/ours/redis", "limitsSecurityGroup": redis},
        "telemetry": {
            "tracesUrl": "https://traces.example.com",
            "tracesHeaders": "secretsmanager:ours/traces",
        },
        "tiers": tiers,
    }


def applied(stack: str, folder: Path) -> tuple[Declared, ...]:
    """The program's registrations with values as AWS gives them, ids and ARNs included."""
    with Cloud(time_scale=0.05, seed=1, listener=Nobody()) as cloud:
        for each in load_settings(PROJECT, stack).tiers:
            cloud.register_image(each.recipe, stack, each.channel)
        asked = everything(Aws(cloud.endpoint_url, "us-east-1"))
        config = {f"goldenfleet:{key}": json.dumps(value) for key, value in asked.items()}
        at, state = cloud.endpoint_url, folder / "state.json"
        return PulumiEngine(PROJECT, stack, endpoint_url=at, state_file=state, config=config).up().declared


def test_terraform_knows_every_argument_of_the_production_stack(terraform, tmp_path_factory) -> None:
    """AWS's own provider validates and plans what the program registers, each resource of it, with all that a
    stack can add.
    """
    made = as_terraform(applied("prod", tmp_path_factory.mktemp("stack")))
    configuration = {"provider": {"aws": PROVIDER}, **made}
    (terraform.folder / "main.tf.json").write_text(json.dumps(configuration, indent=1))
    terraform.run("init", f"-plugin-dir={terraform.mirror}")
    terraform.run("validate")
    terraform.run("plan", "-refresh=false", "-input=false", "-out=plan")
    changes = json.loads(terraform.run("show", "-json", "plan"))["resource_changes"]
    assert {tuple(change["change"]["actions"]) for change in changes} == {("create",)}
    assert len(changes) == sum(map(len, made["resource"].values()))
