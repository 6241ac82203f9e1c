"""Engines and gateways as running processes, on loopback addresses of their own."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Self

from bench.answers import Asked, ask, dechunked, status_of, whole_length
from bench.errors import ProcessFailed
from bench.frames import Json
from bench.gateways import HEADERS, ROOT, Place, Running, Spec
from bench.processes import Address, Child, Cores, free_port, prioritise

_START_S = 20.0
_READY_ANSWERS = 4
_PASSED_ENV = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")


class FakeEngine:
    """An engine process that can be told how to behave, and killed."""

    def __init__(self, address: Address, stage: Stage, name: str) -> None:
        self.address = address
        self._stage = stage
        self._name = name
        self._child = self._start()

    def signal(self, number: signal.Signals) -> None:
        self._child.signal(number)

    async def ready(self) -> None:
        """Raises ProcessFailed."""
        await self._child.listening(self.address, _START_S)

    async def set(self, **wanted: object) -> Json:
        """See bench.engine.Engine.set. Raises OSError."""
        return await control(self.address, "POST", wanted)

    async def state(self) -> Json:
        """Raises OSError."""
        return await control(self.address, "GET", {})

    def _start(self) -> Child:
        host, port = self.address
        argv = [sys.executable, "-m", "bench.engine", "--host", host, "--port", str(port)]
        return self._stage.child(argv, self._name, self._stage.cores.others, {"PYTHONPATH": str(ROOT)})


class Stage:
    """Everything that it starts ends with it. Loopback addresses 127.0.64.x are its own."""

    def __init__(
        self,
        directory: Path,
        cores: Cores,
        tree: Path = ROOT,
        python: str = sys.executable,
        nice: int = 0,
    ) -> None:
        """`tree` is the checkout whose server is measured, `python` what runs it."""
        self.cores = cores
        self._tree = tree
        self._python = python
        self._nice = nice
        self._directory = directory
        self._exits = ExitStack()
        self._hosts = (f"127.0.{64 + n // 250}.{1 + n % 250}" for n in itertools.count())

    def address(self) -> Address:
        """That nobody has yet."""
        host = next(self._hosts)
        return host, free_port(host)

    async def engine(self) -> FakeEngine:
        """Raises ProcessFailed."""
        address = self.address()
        engine = FakeEngine(address, self, f"engine-{address[0]}")
        await engine.ready()
        return engine

    async def engines(self, count: int) -> list[FakeEngine]:
        return list(await asyncio.gather(*(self.engine() for _ in range(count))))

    async def gateway(self, spec: Spec, backends: Sequence[Address]) -> Running:
        """Started, and it has answered. Raises ProcessFailed."""
        if spec.kind == "none":
            return Running(spec, backends[0], None)
        address = self.address()
        directory = Path(mkdtemp(prefix=spec.name, dir=self._directory))
        launch = spec.launch(Place(address, backends, directory, self._tree, self._python))
        name = f"{spec.name}-{address[0]}"
        child = self.child(launch.argv, name, (self.cores.gateway,), launch.env)
        await child.listening(address, launch.start_s)
        await self._answers(child, spec, address, launch.start_s)
        return Running(spec, address, child)

    def child(self, argv: Sequence[str], name: str, cores: Sequence[int], env: Mapping[str, str]) -> Child:
        """Raises ProcessFailed."""
        passed = {key: os.environ[key] for key in _PASSED_ENV if key in os.environ}
        child = Child(argv, cores=cores, env={**passed, **env}, cwd=self._directory, name=name)
        self._exits.callback(child.stop)
        if self._nice:
            prioritise(child.pid, self._nice)
        return child

    async def _answers(self, child: Child, spec: Spec, address: Address, within_s: float) -> None:
        """Until several requests in a row are answered: routers check their workers first."""
        asked = ask(0, 1, stream=False, headers=HEADERS)
        ends, good, answer = time.monotonic() + within_s, 0, b""
        while good < _READY_ANSWERS:
            if not child.running or time.monotonic() > ends:
                last = answer[-300:].decode(errors="replace")
                raise ProcessFailed(f"{spec.name} does not serve: {last} {child.log_tail()}")
            answer = await asked_once(address, asked, 5.0)
            good = good + 1 if status_of(answer) == 200 else 0
            await asyncio.sleep(0.05 if good else 0.3)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, where: TracebackType | None
    ) -> None:
        self._exits.close()


async def control(address: Address, method: str, wanted: Json) -> Json:
    body = json.dumps(wanted).encode()
    head = f"{method} /_bench HTTP/1.1\r\nhost: bench\r\ncontent-length: {len(body)}\r\n\r\n"
    answer = await exchange(address, head.encode() + body, 5.0)
    said = json.loads(dechunked(answer))
    assert isinstance(said, dict)
    return said


async def asked_once(address: Address, asked: Asked, within_s: float) -> bytes:
    """The whole answer, or nothing."""
    try:
        return await exchange(address, asked.raw, within_s)
    except OSError:
        return b""


async def exchange(address: Address, raw: bytes, within_s: float) -> bytes:
    """One request on a connection of its own; what came, if it is whole. Raises OSError."""
    async with asyncio.timeout(within_s):
        reader, writer = await asyncio.open_connection(*address)
        try:
            writer.write(raw)
            answer = b""
            while whole_length(answer) is None:
                data = await reader.read(65536)
                if not data:
                    raise ConnectionResetError("the connection ended before the answer did")
                answer += data
            return answer
        finally:
            writer.transport.abort()
