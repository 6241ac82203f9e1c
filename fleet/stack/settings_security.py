"""Settings of what is encrypted by whose key, and of who is noted down."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fleet.stack.settings_base import Group, KeyArn, PolicyArn, when


class Security(Group):
    key: Literal["aws", "own"] | KeyArn = Field(
        default="aws",
        description="Whose key encrypts volumes, the notice queue and logs: AWS's, one of the stack's own, "
        "or one that exists, by its ARN. An existing key must let in what docs/stack.md lists.",
        json_schema_extra=when("Where you must be able to take access to data away, or to see who had it."),
    )
    permissions_boundary: PolicyArn | None = Field(
        default=None,
        description="IAM policy that bounds every role of the stack, by its ARN.",
        json_schema_extra=when("Where your account lets nobody make a role without one."),
    )
    interruptions: bool = Field(
        default=False,
        description="Whether there is a role by which `goldenfleet interrupt` lets AWS's Fault Injection "
        "Service take spot nodes of this stack away, as a test, and nothing else.",
        json_schema_extra=when("In stage; in production for as long as you rehearse interruptions there."),
    )
    access_logs: bool | None = Field(
        default=None,
        description="Whether load balancers write each request to a bucket; by default in production.",
        json_schema_extra=when("Outside production, to see what clients send; it costs storage only."),
    )
    flow_logs: bool | None = Field(
        default=None,
        description="Whether the VPC's connections are written to the same bucket; by default in production. "
        "Those of an existing network are its owner's.",
        json_schema_extra=when(
            "false where connections are logged elsewhere; each GB that is written costs."
        ),
    )
    logs_kept_days: int = Field(
        default=90,
        ge=1,
        le=3650,
        description="How long that bucket keeps a log, in days.",
        json_schema_extra=when("Where you must look further back, or may not."),
    )
