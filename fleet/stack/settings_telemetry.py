"""Settings of what nodes tell beyond their metrics: see docs/telemetry.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field, model_validator

from fleet.stack.settings_base import Group, HttpsUrl, SecretReference, port_problem, when


class Telemetry(Group):
    access_log: Literal["off", "troubled", "all"] = Field(
        default="troubled",
        description="A line at the end of no request, of those that failed or took more than one attempt, or "
        "of every one.",
        json_schema_extra=when("all to see every request in CloudWatch, which charges for each GB."),
    )
    traces_url: HttpsUrl | None = Field(
        default=None,
        description="Base URL of an OTLP/HTTP receiver of traces, without /v1/traces.",
        json_schema_extra=when("Where you have such a receiver, as Langfuse's; nodes must reach it."),
    )
    traces_headers: SecretReference | None = Field(
        default=None,
        description="Where the receiver's headers are kept, as name=value,name=value: ssm:/name or "
        "secretsmanager:name. Nodes of all tiers may read it.",
        json_schema_extra=when("Where the receiver wants a key, with tracesUrl."),
    )
    traces_share: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of requests that are traced.",
        json_schema_extra=when("Lower it under much load; a trace costs some 120 us."),
    )

    @property
    def secrets(self) -> tuple[str, ...]:
        """What nodes read to trace."""
        return () if self.traces_headers is None else (self.traces_headers,)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if problems := list(_problems(self)):
            raise ValueError("; ".join(problems))
        return self


def _problems(telemetry: Telemetry) -> Iterator[str]:
    if telemetry.traces_url is None and telemetry.traces_headers is not None:
        yield "tracesHeaders is set and tracesUrl is not: set tracesUrl or remove tracesHeaders"
    if problem := port_problem("tracesUrl", telemetry.traces_url):
        yield problem
