"""A fresh account for each test, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from images.aws import Aws
from tests.images.aws.world import World, in_process


@pytest.fixture(scope="session")
def clients() -> dict[str, Aws]:
    """Clients of moto in this process, for every test."""
    return {}


@pytest.fixture
def world(tmp_path: Path, clients: dict[str, Aws]) -> Iterator[World]:
    with in_process(tmp_path, regions=clients) as made:
        yield made
