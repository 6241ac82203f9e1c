"""Settings of what makes a tier grow and shrink."""

from __future__ import annotations

from pydantic import Field

from fleet.stack.settings_base import Group, when


class Scaling(Group):
    cpu_target_percent: int = Field(
        default=70,
        ge=10,
        le=95,
        description="Average CPU that scaling aims at.",
        json_schema_extra=when("Lower it where load comes faster than nodes boot."),
    )


class GatewayScaling(Scaling):
    requests_per_target: int = Field(
        default=3000,
        ge=1,
        description="Requests a minute and gateway that scaling aims at.",
        json_schema_extra=when("To what a gateway of your types serves at half its CPU."),
    )
