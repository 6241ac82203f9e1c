"""How long a node of an image takes from launch to ready: measured by its bake, read from SSM at `up`.

Nothing here imports pulumi.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleet.errors import ImageMissingError


class _Boot(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal[1]
    launch_to_ready_s: Annotated[float, Field(gt=0, le=7200)]


def parse_boot(text: str, parameter: str) -> float:
    """Seconds. Raises ImageMissingError with the first thing that is wrong."""
    try:
        return _Boot.model_validate_json(text).launch_to_ready_s
    except ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        where = "".join(f"{part}: " for part in error["loc"])
        raise ImageMissingError(
            f"{parameter} cannot be used: {where}{error['msg']}",
            "Bake the image again, or correct the value.",
        ) from exc
