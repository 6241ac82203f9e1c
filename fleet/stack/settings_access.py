"""Settings of who may ask the gateways: see docs/auth.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from pydantic import Field, model_validator

from fleet.stack.naming import keys_parameter
from fleet.stack.settings_base import (
    Group,
    HttpsUrl,
    SecretReference,
    SecurityGroupId,
    port_problem,
    when,
)


class Access(Group):
    """By default keys from the stack's own parameter."""

    open: bool = Field(
        default=False,
        description="Let everybody in who can reach the load balancer.",
        json_schema_extra=when("In a rehearsal, or where edge.allowedCidrs lets nobody else in."),
    )
    keys: SecretReference | None = Field(
        default=None,
        description="Where the keys document is: ssm:/name or secretsmanager:name; by default "
        "ssm:/goldenfleet/<stack>/keys, unless there is an issuer of tokens.",
        json_schema_extra=when("Where keys are kept elsewhere, or several stacks share them."),
    )
    jwks_url: HttpsUrl | None = Field(
        default=None,
        description="URL of the key set of the tokens' issuer.",
        json_schema_extra=when("Where clients bring tokens of your identity provider; nodes must reach it."),
    )
    issuer: str | None = Field(
        default=None,
        min_length=1,
        description="What a token's `iss` must be.",
        json_schema_extra=when("With jwksUrl."),
    )
    audience: str | None = Field(
        default=None,
        min_length=1,
        description="What a token's `aud` must be.",
        json_schema_extra=when("With jwksUrl."),
    )
    limits_url: SecretReference | None = Field(
        default=None,
        description="Where the URL of the Redis is that limits are shared through.",
        json_schema_extra=when("Where a limit must hold over all gateways together; else each has its own."),
    )
    limits_security_group: SecurityGroupId | None = Field(
        default=None,
        description="Security group of that Redis. It and the gateways' get a rule that lets gateways in.",
        json_schema_extra=when("With limitsUrl."),
    )
    limits_port: int = Field(
        default=6379,
        ge=1,
        le=65535,
        description="Port of that Redis.",
        json_schema_extra=when("Where its URL has another port."),
    )

    def keys_of(self, stack: str) -> str | None:
        if self.keys is None and not self.open and self.jwks_url is None:
            return f"ssm:{keys_parameter(stack)}"
        return self.keys

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if problems := list(_problems(self)):
            raise ValueError("; ".join(problems))
        return self


def _problems(access: Access) -> Iterator[str]:
    token = (access.jwks_url, access.issuer, access.audience)
    if any(token) and not all(token):
        yield "jwksUrl, issuer and audience belong together: set all of them or none"
    if access.open and (access.keys or any(token)):
        yield "open lets everybody in, and keys or tokens are set: remove one of them"
    if problem := port_problem("jwksUrl", access.jwks_url):
        yield problem
    if access.limits_url is not None and access.limits_security_group is None:
        yield (
            "limitsUrl is set and limitsSecurityGroup is missing, so no gateway could reach the Redis: name "
            "its security group"
        )
    if access.limits_url is None and access.limits_security_group is not None:
        yield "limitsSecurityGroup is set and limitsUrl is not: set limitsUrl or remove it"
