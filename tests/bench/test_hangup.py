from pathlib import Path

import pytest

from bench.gateways import SPECS
from bench.hangup import until_engine_stops
from bench.processes import Cores
from bench.stage import Stage


@pytest.mark.parametrize("name", ["direct", "ours"])
async def test_an_engine_stops_soon_after_its_client_left(name: str, tmp_path: Path) -> None:
    """With our gateway between them or not: it does not go on for the 20 s that it was asked for."""
    [spec] = [spec for spec in SPECS if spec.name == name]
    with Stage(tmp_path, Cores.here()) as stage:
        found = await until_engine_stops(stage, spec)

    assert 0 < found["stream_max_ms"] < 1000
    assert 0 < found["unary_max_ms"] < 1000
