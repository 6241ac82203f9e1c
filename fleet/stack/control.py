"""The control handler in the account: where it writes what it did."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

from fleet.stack.naming import log_group, resource_name

_PART = "control"


class ControlLogs(pulumi.ComponentResource):
    """Its log is the history of notices and drains: `/goldenfleet/STACK/control`."""

    def __init__(self, stack: str, retention_days: int, key_arn: pulumi.Input[str] | None = None) -> None:
        name = resource_name(stack, f"{_PART}-logs")
        super().__init__("goldenfleet:stack:ControlLogs", name)
        self.group = aws.cloudwatch.LogGroup(
            name,
            name=log_group(stack, _PART),
            retention_in_days=retention_days,
            kms_key_id=key_arn,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})
