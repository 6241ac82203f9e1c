"""Settings of what makes a tier grow and shrink."""

from __future__ import annotations

from pydantic import Field

from fleet.stack.settings_base import Group


class Scaling(Group):
    cpu_target_percent: int = Field(default=70, ge=10, le=95, description="Average CPU that scaling aims at.")


class GatewayScaling(Scaling):
    requests_per_target: int = Field(
        default=3000, ge=1, description="Requests a minute and gateway that scaling aims at."
    )
