"""What keeps a stack safe: policies, keys, logs of traffic, the web firewall."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from fleet.policy.evaluate import evaluate
from fleet.policy.model import Resource as Judged
from fleet.stack.encryption import Account, key_statements
from fleet.stack.log_bucket import bucket_policy
from fleet.stack.settings import load_settings
from fleet.stack.settings_edge import Edge
from fleet.stack.settings_security import Security
from fleet.stack.web_firewall import MANAGED
from server.settings import Settings as ServerSettings
from tests.fleet.stack.conftest import (
    BOUNDARY,
    PROJECT,
    SHARED_LIMITS,
    STACKS,
    TRACED,
    Made,
    Registered,
    parsed,
    secured,
)
from tests.fleet.stack.documents import role_statements

ACCOUNT = Account("123456789012", "aws", "us-east-1")
BUCKET = "arn:aws:s3:::logs"


def judged(registered: Registered) -> list[Judged]:
    return [Judged(r.type, r.name, r.urn, r.inputs, r.refs) for r in registered.resources]


@pytest.mark.parametrize("name", [*STACKS, *secured()])
def test_every_stack_keeps_every_mandatory_rule(name: str, recorded: dict[str, Any]) -> None:
    """Also with all that can be added, and with nothing left open."""
    stack = name if name in STACKS else "rehearsal"
    registered = parsed({**recorded, stack: recorded[name]}, stack)
    production = load_settings(PROJECT, stack).production
    evaluation = evaluate(judged(registered), production=production)
    assert evaluation.mandatory == ()
    assert evaluation.undecided == ()
    assert production == (stack == "prod")


@pytest.mark.parametrize("stack", STACKS)
def test_stacks_that_answer_the_internet_in_clear_text_are_told_so(
    stack: str, recorded: dict[str, Any]
) -> None:
    """Those without a certificate, but for the rehearsal, which only its network may ask; nothing else."""
    evaluation = evaluate(judged(parsed(recorded, stack)), production=stack == "prod")
    assert [each.rule for each in evaluation.advisory] == ["no-open-clear-text"] * (stack in ("dev", "stage"))


# --- keys


def test_ones_own_key_encrypts_volumes_queues_and_logs(made: Made) -> None:
    """Wherever the service takes a key; SQS's and EBS's own are not asked for beside it."""
    registered = made("secured")
    key = registered.one("kms/key:Key", "key")
    arn = f"arn:aws:{key.type}:{key.name}"
    for template in registered.of("ec2/launchTemplate:LaunchTemplate"):
        (mapping,) = template.inputs["blockDeviceMappings"]
        assert mapping["ebs"]["kmsKeyId"] == arn
        assert mapping["ebs"]["encrypted"] == "true"
    for queue in registered.of("sqs/queue:Queue"):
        assert queue.inputs["kmsMasterKeyId"] == arn
        assert "sqsManagedSseEnabled" not in queue.inputs
    assert {g.inputs["kmsKeyId"] for g in registered.of("cloudwatch/logGroup:LogGroup")} == {arn}
    assert key.inputs["enableKeyRotation"] is True


def test_control_may_decrypt_by_the_key_of_its_queue(made: Made, registered_rehearsal: Registered) -> None:
    """By that key only, and not at all where SQS has its own."""
    policy = json.loads(
        made("given key and acl").one("iam/rolePolicy:RolePolicy", "control").inputs["policy"]
    )
    (decrypting,) = [s for s in policy["Statement"] if "kms:Decrypt" in s["Action"]]
    assert decrypting["Resource"] == [
        json.loads(secured()["given key and acl"]["goldenfleet:security"])["key"]
    ]
    plain = registered_rehearsal.one("iam/rolePolicy:RolePolicy", "control").inputs["policy"]
    assert "kms:" not in plain


def test_a_given_key_is_not_made_again(made: Made) -> None:
    """Nor is its policy touched."""
    assert not [r for r in made("given key and acl").resources if r.type.startswith("aws:kms/")]


def test_the_key_lets_in_who_encrypts_for_us() -> None:
    """Auto Scaling with grants for AWS only, this stack's logs, this account's events, and nobody else."""
    root, using, granting, logs, events = key_statements("prod", ACCOUNT)
    assert root["Principal"] == {"AWS": "arn:aws:iam::123456789012:root"}
    role = using["Principal"]["AWS"]
    assert role.endswith("autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling")
    assert granting["Principal"] == using["Principal"]
    assert granting["Condition"] == {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    group = "arn:aws:logs:us-east-1:123456789012:log-group:/goldenfleet/prod/*"
    assert logs["Principal"] == {"Service": "logs.us-east-1.amazonaws.com"}
    assert logs["Condition"] == {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": group}}
    assert events["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}


@pytest.mark.parametrize("key", ["mine", "alias/mine", "arn:aws:kms:us-east-1:123456789012:alias/mine"])
def test_a_key_is_named_by_its_arn(key: str) -> None:
    """An alias may point elsewhere tomorrow, and Auto Scaling would launch nothing."""
    with pytest.raises(ValidationError):
        Security(key=key)


# --- logs of traffic


def test_production_notes_down_requests_and_connections(registered: Registered) -> None:
    """By default production does, and nothing else."""
    noted = [
        b.inputs.get("accessLogs", {}).get("enabled") for b in registered.of("lb/loadBalancer:LoadBalancer")
    ]
    flows = [r for r in registered.resources if r.type == "aws:ec2/flowLog:FlowLog"]
    buckets = [r for r in registered.resources if r.type == "aws:s3/bucket:Bucket"]
    if registered.stack == "prod":
        assert noted == [True, True]
        assert [flow.inputs["trafficType"] for flow in flows] == ["ALL"]
        assert [bucket.inputs["forceDestroy"] for bucket in buckets] == [False]
    else:
        assert (noted, flows, buckets) == ([None, None], [], [])


def test_the_bucket_is_closed_encrypted_and_forgets(made: Made) -> None:
    """Outside production a destroy may empty it."""
    registered = made("secured")
    (bucket,) = registered.of("s3/bucket:Bucket")
    (block,) = registered.of("s3/bucketPublicAccessBlock:BucketPublicAccessBlock")
    (lifecycle,) = registered.of("s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration")
    (owner,) = registered.of("s3/bucketOwnershipControls:BucketOwnershipControls")
    assert bucket.inputs["forceDestroy"] is True
    assert [value for key, value in block.inputs.items() if key != "bucket"] == [True] * 4
    assert lifecycle.inputs["rules"][0]["expiration"] == {"days": 30}
    assert owner.inputs["rule"] == {"objectOwnership": "BucketOwnerEnforced"}


def test_what_writes_logs_waits_until_it_may(made: Made) -> None:
    """AWS tries before it accepts a bucket: the balancers and the flow log come after its policy."""
    registered = made("secured")
    (policy,) = registered.of("s3/bucketPolicy:BucketPolicy")
    for writer in (*registered.of("lb/loadBalancer:LoadBalancer"), *registered.of("ec2/flowLog:FlowLog")):
        assert policy.urn in writer.dependencies, writer.urn


def test_only_balancers_and_flow_logs_of_this_account_write() -> None:
    """Where AWS takes a condition there is one, and nothing may read."""
    statements = bucket_policy(BUCKET, ACCOUNT)["Statement"]
    allowed = [s for s in statements if s["Effect"] == "Allow"]
    assert {s["Action"] for s in allowed} == {"s3:PutObject", "s3:GetBucketAcl"}
    for statement in allowed:
        if "Service" in statement["Principal"]:
            assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": ACCOUNT.id}
            assert ACCOUNT.id in statement["Condition"]["ArnLike"]["aws:SourceArn"]
    (denied,) = [s for s in statements if s["Effect"] == "Deny"]
    assert denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


@pytest.mark.parametrize(("region", "principals"), [("us-east-1", 1), ("il-central-1", 0)])
def test_older_regions_write_as_an_account(region: str, principals: int) -> None:
    """Later ones know the service only."""
    statements = bucket_policy(BUCKET, ACCOUNT._replace(region=region))["Statement"]
    accounts = [s for s in statements if isinstance(s["Principal"], dict) and "AWS" in s["Principal"]]
    assert len(accounts) == principals


# --- roles


def test_every_role_has_the_boundary(made: Made) -> None:
    """Also those that a component makes whose author never heard of it."""
    roles = made("secured").of("iam/role:Role")
    assert {role.inputs.get("permissionsBoundary") for role in roles} == {BOUNDARY}


def test_nodes_read_what_they_are_told_of(made: Made) -> None:
    """The headers of traces on every node, the Redis' URL on gateways, and by the stack's key."""
    registered = made("told")
    for part, secrets in {"gateway": 3, "model": 1}.items():
        allowed = role_statements(registered, f"{part}-node")
        reading = [
            s for s in allowed if s["Action"] in (["ssm:GetParameter"], ["secretsmanager:GetSecretValue"])
        ]
        assert len(reading) == 1 + secrets
        assert reading[-1]["Resource"][0].endswith(":secret:ours/traces-??????")
        (decrypting,) = [s for s in allowed if s["Action"] == ["kms:Decrypt"]]
        assert decrypting["Condition"] == {"StringLike": {"kms:ViaService": ["ssm.*", "secretsmanager.*"]}}
        parameter = registered.one("ssm/parameter:Parameter", f"{part}-config")
        told = json.loads(parameter.inputs["insecureValue"])
        assert told["traces_headers"] == TRACED["tracesHeaders"]
        assert told["traces_url"] == TRACED["tracesUrl"]


def test_nodes_read_the_weights_that_their_tier_names(made: Made) -> None:
    """Nothing else in S3, and gateways nothing at all."""
    registered = made("told")
    reading = [s for s in role_statements(registered, "model-node") if s["Action"][0].startswith("s3:")]
    assert [s["Resource"] for s in reading] == [
        ["arn:aws:s3:::models/llama*", "arn:aws:s3:::theirs/*"],
        ["arn:aws:s3:::models"],
        ["arn:aws:s3:::theirs"],
    ]
    assert "s3:" not in str(role_statements(registered, "gateway-node"))


def test_gateways_reach_the_redis_of_their_limits(made: Made) -> None:
    """By a rule at both ends, one of which is in a group that the stack did not make."""
    registered = made("told")
    named = registered.security_groups()
    theirs = SHARED_LIMITS["limitsSecurityGroup"]
    (out,) = [
        r.inputs
        for r in registered.of("vpc/securityGroupEgressRule:SecurityGroupEgressRule")
        if r.inputs.get("referencedSecurityGroupId") == theirs
    ]
    (into,) = [
        r.inputs
        for r in registered.of("vpc/securityGroupIngressRule:SecurityGroupIngressRule")
        if r.inputs["securityGroupId"] == theirs
    ]
    assert named[out["securityGroupId"]] == named[into["referencedSecurityGroupId"]] == "gateway"
    assert out["fromPort"] == out["toPort"] == into["fromPort"] == into["toPort"] == 6380


# --- the balancer


def test_servers_outlast_the_balancer(registered: Registered) -> None:
    """A server that closes first makes a 502; comments in streams come long before either does."""
    for tier in ("gateway", "model"):
        balancer = registered.one("lb/loadBalancer:LoadBalancer", tier)
        parameter = registered.one("ssm/parameter:Parameter", f"{tier}-config")
        told = float(json.loads(parameter.inputs["insecureValue"])["keep_alive_seconds"])
        server = ServerSettings.model_fields
        assert server["heartbeat_seconds"].default * 2 <= balancer.inputs["idleTimeout"] < told
        assert balancer.inputs["idleTimeout"] <= server["request_deadline_seconds"].default


def test_who_speaks_tls_how_is_noted_down(registered_prod: Registered) -> None:
    """By the public balancer; the internal one speaks none."""
    public = registered_prod.one("lb/loadBalancer:LoadBalancer", "gateway").inputs
    internal = registered_prod.one("lb/loadBalancer:LoadBalancer", "model").inputs
    assert public["connectionLogs"]["bucket"] == public["accessLogs"]["bucket"]
    assert public["connectionLogs"]["enabled"] is True
    assert public["connectionLogs"]["prefix"] != public["accessLogs"]["prefix"]
    assert "connectionLogs" not in internal


# --- web firewall


def test_managed_rules_stand_before_the_public_balancer(made: Made) -> None:
    """They block by headers, addresses and paths; what they see in prompts is only counted."""
    registered = made("secured")
    (acl,) = registered.of("wafv2/webAcl:WebAcl")
    groups = {r["name"]: r["statement"]["managedRuleGroupStatement"] for r in acl.inputs["rules"]}
    assert set(groups) == set(MANAGED)
    for name, group in groups.items():
        counted = {o["name"] for o in group.get("ruleActionOverrides", ()) if "count" in o["actionToUse"]}
        assert counted == set(MANAGED[name])
    assert acl.inputs["visibilityConfig"]["sampledRequestsEnabled"] is False
    (association,) = registered.of("wafv2/webAclAssociation:WebAclAssociation")
    public = registered.one("lb/loadBalancer:LoadBalancer", "gateway")
    assert association.refs["resourceArn"] == [public.urn]
    assert association.refs["webAclArn"] == [acl.urn]


def test_no_rule_that_reads_prompts_blocks() -> None:
    """None in AWS's list of baseline rule groups: a prompt may be about exploits."""
    reading = {
        "AWSManagedRulesCommonRuleSet": {
            f"{what}_BODY"
            for what in (
                "CrossSiteScripting",
                "EC2MetaDataSSRF",
                "GenericLFI",
                "GenericRFI",
                "SizeRestrictions",
            )
        },
        "AWSManagedRulesKnownBadInputsRuleSet": {
            f"{what}_BODY" for what in ("JavaDeserializationRCE", "Log4JRCE", "ReactJSRCE")
        },
    }
    for group, rules in reading.items():
        assert rules <= set(MANAGED[group])


def test_a_given_acl_is_put_there_as_it_is(made: Made) -> None:
    """And none is made."""
    registered = made("given key and acl")
    (association,) = registered.of("wafv2/webAclAssociation:WebAclAssociation")
    assert (
        association.inputs["webAclArn"]
        == json.loads(secured()["given key and acl"]["goldenfleet:edge"])["waf"]
    )
    assert not [r for r in registered.resources if r.type == "aws:wafv2/webAcl:WebAcl"]


@pytest.mark.parametrize("waf", ["all", "arn:aws:wafv2:us-east-1:123456789012:global/webacl/a/1234"])
def test_a_web_acl_is_regional(waf: str) -> None:
    """Global ones are CloudFront's."""
    with pytest.raises(ValidationError):
        Edge(waf=waf)
