from dataclasses import replace
from pathlib import Path

import pytest

from bench.faults import FAULTS, Noticed, Offered, prepare
from bench.gateways import SPECS
from bench.processes import Cores
from bench.stage import Stage

ONE = Noticed(100, 1, 50, 2, 3, 0, 0.5, 0.1, 0.2)
SHORT = Offered(seconds=1.0, unary_per_s=8, streams_per_s=6, unary_tokens=2, stream_tokens=40, patience_s=5.0)


def test_repeats_add_up() -> None:
    """Losses are counted over all repeats, waits are the longest of any."""
    both = ONE + replace(ONE, unary_failed=0, slowest_unary_s=2.0)

    assert (both.unary, both.unary_failed, both.lost) == (200, 1, 11)
    assert (both.slowest_unary_s, both.longest_gap_s) == (2.0, 0.2)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_client_of_no_gateway_notices_what_was_done(fault: str, tmp_path: Path) -> None:
    """Each fault reaches the engine: without a gateway, whoever talks to it loses something."""
    [direct] = [spec for spec in SPECS if spec.kind == "none"]
    with Stage(tmp_path, Cores.here()) as stage:
        noticed = await (await prepare(stage, direct)).strike(fault, SHORT)

    assert noticed.unary == 8
    assert noticed.streams == 6
    # Clients here never keep a connection, so only a gateway would meet its reset.
    assert (noticed.lost > 0) == (fault != "resets")
    assert noticed.wrong == 0
