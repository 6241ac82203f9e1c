"""Settings of who may ask the gateways: see docs/auth.md."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from fleet.stack.naming import keys_parameter
from fleet.stack.settings_base import Group, HttpsUrl, SecretReference, when


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

    def keys_of(self, stack: str) -> str | None:
        if self.keys is None and not self.open and self.jwks_url is None:
            return f"ssm:{keys_parameter(stack)}"
        return self.keys

    @model_validator(mode="after")
    def _possible(self) -> Self:
        token = (self.jwks_url, self.issuer, self.audience)
        if any(token) and not all(token):
            raise ValueError("jwksUrl, issuer and audience belong together: set all of them or none")
        if self.open and (self.keys or any(token)):
            raise ValueError("open lets everybody in, and keys or tokens are set: remove one of them")
        return self
