"""Settings of the public load balancer."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Literal, Self

from pydantic import Field, model_validator

from fleet.stack.settings_base import CertificateArn, Domain, Group, WebAclArn, when

_LONGER_SECONDS = 15


class Edge(Group):
    certificate_arn: CertificateArn | None = Field(
        default=None,
        description="Certificate of this account and region; with it clients use HTTPS only.",
        json_schema_extra=when("In every stack that clients outside reach. Production demands it."),
    )
    domain: Domain | None = Field(
        default=None,
        description="Name that the certificate is for.",
        json_schema_extra=when("With certificateArn."),
    )
    allowed_cidrs: tuple[IPv4Network, ...] = Field(
        default=(IPv4Network("0.0.0.0/0"),),
        min_length=1,
        description="Where clients may come from.",
        json_schema_extra=when("Where you know your clients' networks."),
    )
    # Above the 15 s after which a stream gets a comment; a request lives 600 s at most.
    idle_timeout_seconds: int = Field(
        default=300,
        ge=30,
        le=600,
        description="How long a connection may be silent before it is cut: the longest that an answer which "
        "is no stream may take. Streams are never silent so long. Servers keep idle connections 15 s longer.",
        json_schema_extra=when(
            "Raise it where long answers are asked for in one piece; lower it where streams are all that is "
            "asked for, so that clients of a gateway that vanished hear of it sooner."
        ),
    )

    @property
    def keep_alive_seconds(self) -> int:
        """For servers: a balancer that sends on a connection which they have closed answers 502."""
        return self.idle_timeout_seconds + _LONGER_SECONDS

    waf: Literal["none", "managed"] | WebAclArn = Field(
        default="none",
        description="Web firewall before it: none, AWS's managed rules, of which those that read bodies only "
        "count, or a web ACL that exists, by its ARN.",
        json_schema_extra=when("managed or an ARN in production, where clients may come from everywhere."),
    )

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        blocks = self.allowed_cidrs
        if repeated := sorted({str(block) for block in blocks if blocks.count(block) > 1}):
            raise ValueError(f"allowedCidrs names {', '.join(repeated)} more than once: remove the copies")
        return self

    @model_validator(mode="after")
    def _named_certificate(self) -> Self:
        if (self.certificate_arn is None) != (self.domain is None):
            absent = "domain" if self.domain is None else "certificateArn"
            raise ValueError(f"{absent} is missing: HTTPS needs certificateArn and the domain that it is for")
        return self
