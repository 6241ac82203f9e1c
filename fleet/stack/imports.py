"""Modules of pulumi_aws that the program uses, for who imports them ahead of it."""

from __future__ import annotations

AHEAD = tuple(
    f"pulumi_aws.{module}"
    for module in (
        "autoscaling",
        "cloudwatch",
        "ec2",
        "iam",
        "kms",
        "lambda_",
        "lb",
        "s3",
        "sns",
        "sqs",
        "ssm",
        "vpc",
        "wafv2",
    )
)
