"""The bucket of access logs and flow logs: who asked, and who talked to whom."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_aws as aws

from fleet.stack.encryption import Account
from fleet.stack.naming import resource_name

Statement = dict[str, Any]

# Regions in which balancers write as an account of AWS's; in later ones, and by now in all, as a service
# ("Enable access logs for your Application Load Balancer").
_BALANCERS = {
    "af-south-1": "098369216593",
    "ap-east-1": "754344448648",
    "ap-northeast-1": "582318560864",
    "ap-northeast-2": "600734575887",
    "ap-northeast-3": "383597477331",
    "ap-south-1": "718504428378",
    "ap-southeast-1": "114774131450",
    "ap-southeast-2": "783225319266",
    "ap-southeast-3": "589379963580",
    "ca-central-1": "985666609251",
    "eu-central-1": "054676820928",
    "eu-north-1": "897822967062",
    "eu-south-1": "635631232127",
    "eu-west-1": "156460612806",
    "eu-west-2": "652711504416",
    "eu-west-3": "009996457667",
    "me-south-1": "076674570225",
    "sa-east-1": "507241528517",
    "us-east-1": "127311923021",
    "us-east-2": "033677994240",
    "us-west-1": "027434742980",
    "us-west-2": "797873946194",
}

_UPLOAD_DAYS = 1


class LogBucket(pulumi.ComponentResource):
    """`name` and `arn` are known once what writes there may."""

    def __init__(self, stack: str, account: Account, kept_days: int, *, emptied: bool) -> None:
        """`emptied`: a destroy deletes the logs too, where it would fail otherwise."""
        self._name = resource_name(stack, "traffic")
        super().__init__("goldenfleet:stack:LogBucket", self._name)
        self._child = pulumi.ResourceOptions(parent=self)
        bucket = aws.s3.Bucket(self._name, force_destroy=emptied, opts=self._child)
        self._close(bucket)
        self._forget(bucket, kept_days)
        policy = aws.s3.BucketPolicy(
            self._name,
            bucket=bucket.id,
            policy=bucket.arn.apply(lambda arn: json.dumps(bucket_policy(arn, account))),
            opts=self._child,
        )
        # AWS tries to write before it accepts a bucket, so that both come after the policy.
        self.name = policy.bucket
        self.arn = pulumi.Output.all(bucket.arn, policy.id).apply(lambda made: str(made[0]))
        self.register_outputs({"bucket": self.name})

    def _close(self, bucket: aws.s3.Bucket) -> None:
        aws.s3.BucketPublicAccessBlock(
            self._name,
            bucket=bucket.id,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=self._child,
        )
        aws.s3.BucketOwnershipControls(
            self._name,
            bucket=bucket.id,
            rule=aws.s3.BucketOwnershipControlsRuleArgs(object_ownership="BucketOwnerEnforced"),
            opts=self._child,
        )
        # S3's own keys: balancers can write with no other.
        by_s3 = aws.s3.BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultArgs(
            sse_algorithm="AES256"
        )
        aws.s3.BucketServerSideEncryptionConfiguration(
            self._name,
            bucket=bucket.id,
            rules=[
                aws.s3.BucketServerSideEncryptionConfigurationRuleArgs(
                    apply_server_side_encryption_by_default=by_s3
                )
            ],
            opts=self._child,
        )

    def _forget(self, bucket: aws.s3.Bucket, kept_days: int) -> None:
        rule = aws.s3.BucketLifecycleConfigurationRuleArgs(
            id="old",
            status="Enabled",
            # Every object: without a filter AWS's newer API refuses a rule.
            filter=aws.s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=""),
            expiration=aws.s3.BucketLifecycleConfigurationRuleExpirationArgs(days=kept_days),
            abort_incomplete_multipart_upload=(
                aws.s3.BucketLifecycleConfigurationRuleAbortIncompleteMultipartUploadArgs(
                    days_after_initiation=_UPLOAD_DAYS
                )
            ),
        )
        aws.s3.BucketLifecycleConfiguration(self._name, bucket=bucket.id, rules=[rule], opts=self._child)


class FlowLog(pulumi.ComponentResource):
    """Every connection in the VPC, accepted or not."""

    def __init__(self, stack: str, vpc_id: pulumi.Input[str], bucket: LogBucket) -> None:
        name = resource_name(stack, "flows")
        super().__init__("goldenfleet:stack:FlowLog", name)
        aws.ec2.FlowLog(
            name,
            vpc_id=vpc_id,
            traffic_type="ALL",
            log_destination_type="s3",
            log_destination=bucket.arn,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})


def bucket_policy(bucket_arn: str, account: Account) -> Mapping[str, Any]:
    """Balancers of this account and region write, flow logs of theirs too, and nobody without TLS."""
    return {"Version": "2012-10-17", "Statement": list(_statements(bucket_arn, account))}


def _statements(bucket_arn: str, account: Account) -> list[Statement]:
    objects = f"{bucket_arn}/*"
    balancers = {
        "ArnLike": {"aws:SourceArn": account.arn("elasticloadbalancing", "loadbalancer/*")},
        "StringEquals": {"aws:SourceAccount": account.id},
    }
    flows = {
        "ArnLike": {"aws:SourceArn": account.arn("logs", "*")},
        "StringEquals": {"aws:SourceAccount": account.id},
    }
    delivery = {"Service": "delivery.logs.amazonaws.com"}
    service = {"Service": "logdelivery.elasticloadbalancing.amazonaws.com"}
    found = [
        {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [bucket_arn, objects],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        },
        _let(service, "s3:PutObject", f"{bucket_arn}/*/AWSLogs/{account.id}/*", balancers),
        _let(delivery, "s3:PutObject", f"{bucket_arn}/AWSLogs/{account.id}/*", flows),
        _let(delivery, "s3:GetBucketAcl", bucket_arn, flows),
    ]
    if account.region in _BALANCERS:
        as_account = {"AWS": f"arn:{account.partition}:iam::{_BALANCERS[account.region]}:root"}
        found.append(_let(as_account, "s3:PutObject", f"{bucket_arn}/*/AWSLogs/{account.id}/*"))
    return found


def _let(principal: Statement, action: str, on: str, condition: Statement | None = None) -> Statement:
    statement = {"Effect": "Allow", "Principal": principal, "Action": action, "Resource": on}
    return statement if condition is None else {**statement, "Condition": condition}
