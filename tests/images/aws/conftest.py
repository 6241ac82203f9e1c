"""A fresh account for each test, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images.aws.world import World, in_process


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with in_process(tmp_path) as made:
        yield made
