"""What an image wants of the volumes that nodes get with it: written by its bake, read from SSM at `up`.

Nothing here imports pulumi.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fleet.errors import ImageMissingError

# EBS: 100 to 300 MiB/s for a snapshot's blocks; gp3 from 125 MiB/s and 3,000 operations a second.
Rate = Annotated[int, Field(ge=100, le=300)]
Throughput = Annotated[int, Field(ge=125, le=2000)]
Iops = Annotated[int, Field(ge=3000, le=80_000)]
IOPS_PER_MIBPS = 4
"""gp3 allows at most 0.25 MiB/s for each operation a second."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Volume(_Strict):
    holds: Literal["root", "weights"]
    device: str = Field(pattern=r"^/dev/\w+$")
    snapshot: str = Field(pattern=r"^snap-[0-9a-f]+$")
    gib: int = Field(ge=1, le=65_536)
    throughput_mib_s: Throughput
    iops: Iops
    initialization_mib_s: Rate | None = None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        needed = self.throughput_mib_s * IOPS_PER_MIBPS
        if self.iops < needed:
            raise ValueError(f"{self.throughput_mib_s} MiB/s need {needed} iops, not {self.iops}")
        return self


class Volumes(_Strict):
    """The root is told even where nothing is asked of it: no node's may be smaller than its snapshot."""

    format: Literal[1]
    volumes: tuple[Volume, ...]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for key in ("holds", "device"):
            told = [getattr(volume, key) for volume in self.volumes]
            if len(set(told)) != len(told):
                raise ValueError(f"two volumes have the same {key}")
        return self

    def of(self, holds: Literal["root", "weights"]) -> Volume | None:
        return next((volume for volume in self.volumes if volume.holds == holds), None)


NOTHING_ASKED = Volumes(format=1, volumes=())
"""Images that were published before bakes wrote any of this."""


def parse(text: str, parameter: str) -> Volumes:
    """Raises ImageMissingError with the first thing that is wrong."""
    try:
        return Volumes.model_validate_json(text)
    except ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        where = "".join(f"{part}: " for part in (".".join(map(str, error["loc"])),) if part)
        said = str(error["msg"]).removeprefix("Value error, ")
        given = (
            "" if error["type"] in ("value_error", "missing", "json_invalid") else f", not {error['input']!r}"
        )
        raise ImageMissingError(
            f"{parameter} cannot be used: {where}{said}{given}", "Bake the image again, or correct the value."
        ) from exc
