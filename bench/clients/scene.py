"""Envoy before gateways of ours, one of which is killed every few seconds and started again."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from bench.answers import dechunked
from bench.errors import ProcessFailed
from bench.gateways import BALANCER, ROOT, SPECS, Place
from bench.processes import Address, Child
from bench.stage import Stage, exchange

_START_S = 30.0
_ASK_S = 10.0
[_OURS] = [spec for spec in SPECS if spec.kind == "ours"]


class Gateway:
    """One gateway, at one address for all its lives."""

    def __init__(self, stage: Stage, address: Address, engines: Sequence[Address], directory: Path) -> None:
        launch = _OURS.launch(Place(address, engines, directory, ROOT))
        self.address = address
        self._stage = stage
        self._argv, self._env = launch.argv, launch.env
        self._lives = 0
        self._child = self._start()

    def _start(self) -> Child:
        self._lives += 1
        name = f"gateway-{self.address[0]}-{self._lives}"
        return self._stage.child(self._argv, name, (self._stage.cores.gateway,), self._env)

    async def ready(self) -> None:
        """Raises ProcessFailed."""
        await self._child.listening(self.address, _START_S)

    async def in_flight(self) -> int:
        """Requests that it has now, by its own count. Raises OSError."""
        admin = (self.address[0], int(self._env["GOLDENFLEET_ADMIN_PORT"]))
        answer = await exchange(admin, b"GET /state HTTP/1.1\r\nhost: bench\r\n\r\n", _ASK_S)
        return int(json.loads(dechunked(answer))["in_flight"])

    async def die(self) -> None:
        """At once, as an instance that is taken away without a notice; then it starts anew."""
        self._child.signal(signal.SIGKILL)
        await asyncio.to_thread(self._child.kill)
        self._child = self._start()


@dataclass
class Losses:
    """How often a gateway was killed, and what those had in flight right before."""

    kills: int = 0
    in_flight: int = 0


class Scene:
    """`base_url` is where clients ask."""

    def __init__(self, base_url: str, gateways: Sequence[Gateway]) -> None:
        self.base_url = base_url
        self._gateways = gateways

    async def whole(self) -> None:
        """Until every gateway serves. Raises ProcessFailed."""
        await asyncio.gather(*(gateway.ready() for gateway in self._gateways))

    async def kill_in_turn(self, every_s: float, losses: Losses) -> None:
        """Until cancelled. Raises ProcessFailed."""
        while True:
            for gateway in self._gateways:
                await asyncio.sleep(every_s)
                await gateway.ready()
                try:
                    had = await gateway.in_flight()
                except OSError as exc:
                    raise ProcessFailed(f"a gateway does not say what it has in flight: {exc!r}") from exc
                await gateway.die()
                losses.kills += 1
                losses.in_flight += had


async def set_up(stage: Stage, directory: Path, gateways: int, engine: Mapping[str, object]) -> Scene:
    """Two engines, set as `engine` says, the gateways and their balancer. Raises ProcessFailed."""
    engines = await stage.engines(2)
    for one in engines:
        await one.set(**engine)
    addresses = [one.address for one in engines]
    made = [
        Gateway(stage, stage.address(), addresses, Path(mkdtemp(prefix="gateway", dir=directory)))
        for _ in range(gateways)
    ]
    await asyncio.gather(*(gateway.ready() for gateway in made))
    balancer = await stage.gateway(BALANCER, [gateway.address for gateway in made])
    host, port = balancer.address
    return Scene(f"http://{host}:{port}", made)
