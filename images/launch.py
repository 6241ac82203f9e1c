"""What a fleet must know of an image beyond its id, to launch nodes from it: values in SSM, read at `up`.

`/goldenfleet/STACK/launch/IMAGE/volumes` and `.../boot`, beside the image's manifest. By image and not by
channel: promoting and rolling back move one pointer, and what it points at cannot fit another image.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal

from images.builders import Volume
from images.errors import ManifestError

FORMAT: Literal[1] = 1


def launch_path(stack: str, image_id: str) -> str:
    return f"/goldenfleet/{stack}/launch/{image_id}/"


def parameter(stack: str, image_id: str) -> str:
    return f"{launch_path(stack, image_id)}volumes"


def value(volumes: Sequence[Volume]) -> str:
    """JSON; sizes in GiB, rates in MiB/s, `initialization_mib_s` null for EBS's own pace."""
    return json.dumps({"format": FORMAT, "volumes": [asdict(volume) for volume in volumes]})


def names_volumes(manifest: bytes) -> bool:
    """Whether an image with this manifest was published with its volumes. Raises ManifestError."""
    try:
        said = json.loads(manifest)
    except ValueError as exc:
        raise ManifestError(f"the manifest is no JSON: {exc}", "bake a new image") from exc
    image = said.get("image") if isinstance(said, dict) else None
    return isinstance(image, dict) and bool(image.get("volumes"))


def boot_parameter(stack: str, image_id: str) -> str:
    return f"{launch_path(stack, image_id)}boot"


def boot_value(seconds: float) -> str:
    """JSON; from launch to ready, as the bake measured it on the image's first fresh boot."""
    return json.dumps({"format": FORMAT, "launch_to_ready_s": round(seconds, 1)})
