"""What an image asks of its volumes: refused where EBS would refuse it, and read as a bake writes it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fleet.errors import ImageMissingError
from fleet.stack.naming import launch_path
from fleet.stack.volumes import NOTHING_ASKED, parse
from images.builders import Volume
from images.launch import parameter, value

NAME = "/goldenfleet/prod/launch/ami-0123456789abcdef0/volumes"
ROOT: dict[str, Any] = {
    "holds": "root",
    "device": "/dev/sda1",
    "snapshot": "snap-1",
    "gib": 130,
    "throughput_mib_s": 125,
    "iops": 3000,
    "initialization_mib_s": None,
}
WEIGHTS = {
    **ROOT,
    "holds": "weights",
    "device": "/dev/sdf",
    "snapshot": "snap-2",
    "initialization_mib_s": 300,
}


def text(*volumes: dict[str, Any], **more: Any) -> str:
    return json.dumps({"format": 1, "volumes": volumes, **more})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "Invalid JSON"),
        ("latest", "Invalid JSON"),
        ('{"volumes": []}', "format: Field required"),
        (text(format=2), "format: Input should be 1, not 2"),
        (text(colour="red"), "colour: Extra inputs are not permitted"),
        (text({**WEIGHTS, "mood": 1}), "volumes.0.mood: Extra inputs are not permitted"),
        (
            text(ROOT, {**WEIGHTS, "initialization_mib_s": 99}),
            "volumes.1.initialization_mib_s: Input should be",
        ),
        (text({**WEIGHTS, "initialization_mib_s": 99}), "greater than or equal to 100, not 99"),
        (text({**WEIGHTS, "initialization_mib_s": 301}), "less than or equal to 300, not 301"),
        (text({**WEIGHTS, "throughput_mib_s": 124}), "greater than or equal to 125, not 124"),
        (text({**WEIGHTS, "throughput_mib_s": 2001}), "less than or equal to 2000, not 2001"),
        (text({**WEIGHTS, "iops": 2999}), "greater than or equal to 3000, not 2999"),
        (text({**WEIGHTS, "throughput_mib_s": 1000}), "volumes.0: 1000 MiB/s need 4000 iops, not 3000"),
        (text({**WEIGHTS, "snapshot": "vol-1"}), "snapshot"),
        (text({**WEIGHTS, "device": "sdf"}), "device"),
        (text({**WEIGHTS, "gib": 0}), "gib"),
        (text({**WEIGHTS, "holds": "cache"}), "holds"),
        (text(ROOT, {**WEIGHTS, "device": "/dev/sda1"}), "two volumes have the same device"),
        (text(WEIGHTS, {**WEIGHTS, "device": "/dev/sdh"}), "two volumes have the same holds"),
    ],
)
def test_what_ebs_would_refuse_is_refused(given: str, said: str) -> None:
    """One line that names the parameter, the key and the number."""
    with pytest.raises(ImageMissingError) as caught:
        parse(given, NAME)
    assert "\n" not in caught.value.message
    assert caught.value.message.startswith(f"{NAME} cannot be used: ")
    assert said in caught.value.message


def test_limits_are_taken() -> None:
    """What EBS takes at either end is taken."""
    for rate in (100, 300, None):
        found = parse(text({**WEIGHTS, "initialization_mib_s": rate}), NAME).of("weights")
        assert found is not None
        assert found.initialization_mib_s == rate
    fast = {**WEIGHTS, "throughput_mib_s": 2000, "iops": 8000}
    assert parse(text(fast), NAME).of("weights") is not None


def test_images_of_before_ask_nothing() -> None:
    """An image of which no bake wrote anything has neither a root to be checked nor a second volume."""
    assert NOTHING_ASKED.of("root") is None
    assert NOTHING_ASKED.of("weights") is None


def test_what_a_bake_writes_is_read() -> None:
    """The two meet only in this parameter, so a key or a path that one of them changes shows here."""
    volumes = (Volume(**ROOT), Volume(**WEIGHTS))
    read = parse(value(volumes), NAME)
    assert [volume.model_dump() for volume in read.volumes] == [ROOT, WEIGHTS]
    image_id = "ami-0123456789abcdef0"
    assert parameter("prod", image_id) == NAME == f"{launch_path('prod', image_id)}/volumes"
