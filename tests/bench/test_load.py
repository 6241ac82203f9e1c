import asyncio
import math
import time

from bench.answers import ask
from bench.engine import Engine
from bench.load import Address, StreamClient, UnaryClient, Window, connected
from bench.modes import MODES, Mode, Size, Target, unary
from bench.processes import free_port
from tests.bench.conftest import PATIENCE_S, until

SMALL = Size(
    unary_clients=4,
    unary_s=0.1,
    streams=8,
    stream_tokens=8,
    pace_s=0.002,
    full_streams=4,
    full_s=0.1,
)


async def test_every_mode_measures_a_healthy_engine(engine: Engine, address: Address) -> None:
    """Nothing is lost, and what came is counted, in each of the measurements."""
    for mode in ("unary", "paced", "full"):
        engine.pace_s = SMALL.pace_s if mode == "paced" else 0.0
        found = await measured(mode, address)  # type: ignore[arg-type]
        assert sum(found.get(name, 0) for name in ("failed", "wrong", "truncated")) == 0
        assert found["per_s" if mode == "unary" else "tokens_per_s"] > 0
    assert engine.served > 0


async def test_a_paced_stream_tells_its_time_to_first_token(engine: Engine, address: Address) -> None:
    """Against an engine of a known pace, the first token takes that pace, and so do the gaps."""
    engine.pace_s = SMALL.pace_s
    found = await measured("paced", address)

    assert found["ok"] == SMALL.streams * SMALL.rounds
    assert found["ttft_p50_ms"] >= SMALL.pace_s * 1000


async def test_an_unavailable_engine_counts_as_failures(engine: Engine, address: Address) -> None:
    """Errors are not requests per second."""
    engine.failing = "unavailable"
    found = await measured("unary", address)

    assert found["per_s"] == 0
    assert found["failed"] > 0


async def test_nobody_there_counts_as_failures() -> None:
    """A gateway that went away is seen, not waited for."""
    found = await unary(target(("127.0.0.1", free_port("127.0.0.1"))), SMALL)

    assert found["failed"] > 0
    assert found["per_s"] == 0


async def test_another_requests_answer_is_wrong(address: Address) -> None:
    """A gateway that mixes up answers is not counted as fast."""
    window = Window(time.monotonic(), math.inf)
    mixed_up = ask(6, 4, stream=False, headers={})
    asked = ask(5, 4, stream=False, headers={})
    ended = asyncio.get_running_loop().create_future()
    client = UnaryClient(type(asked)(mixed_up.raw, 5, 4, asked.expected), window, ended)
    await asyncio.get_running_loop().create_connection(lambda: client, *address)
    await until(lambda: window.wrong)
    client.hang_up()
    assert window.done == 0


async def test_a_stream_whose_time_is_up_is_late(engine: Engine, address: Address) -> None:
    """Whatever it got is kept, and it is not counted as whole."""
    engine.pace_s = 30.0
    client = await connected(address, StreamClient())
    result = client.start(ask(5, 4, stream=True, headers={}))
    client.late()

    assert (await result).ended == "late"
    assert (await result).verdict == "failed"


def target(address: Address) -> Target:
    return Target([address], {}, lambda: 0.0)


async def measured(mode: Mode, address: Address) -> dict[str, float]:
    async with asyncio.timeout(PATIENCE_S * 2):
        return await MODES[mode](target(address), SMALL)
