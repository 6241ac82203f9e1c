from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest

from fleet.rehearsal.balancer import Balancer
from fleet.rehearsal.envoy import Listener
from fleet.rehearsal.errors import PortInUseError, ProcessFailedError
from fleet.rehearsal.processes import Processes

HOSTS = ("127.0.16.4", "127.0.32.4")


@dataclass(frozen=True)
class T:
    address: str
    port: int
    state: str
    routed: bool


class Node:
    """A loopback server that says its address; `/stream` goes on until `finish` is set."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.finish = asyncio.Event()
        self.cut = False
        self._handlers: set[asyncio.Task[None]] = set()

    async def start(self) -> T:
        self.server = await asyncio.start_server(self._serve, self.address, 0)
        return T(self.address, self.server.sockets[0].getsockname()[1], "healthy", True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            await self._answer(reader, writer)
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await self._head(reader):
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            self._chunk(writer, self.address.encode())
            if b"/stream" in head:
                await self.finish.wait()
                if self.cut:
                    writer.transport.abort()
                    return
                self._chunk(writer, b" end")
            self._chunk(writer, b"")

    async def aclose(self) -> None:
        self.finish.set()
        self.server.close()
        for task in self._handlers:
            task.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    @staticmethod
    async def _head(reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""

    @staticmethod
    def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(b"%x\r\n%s\r\n" % (len(data), data))


class Group:
    """A target group whose states the test sets."""

    def __init__(self, targets: list[T]) -> None:
        self.targets = targets

    def set(self, index: int, state: str, *, routed: bool = False) -> None:
        routed = routed or state == "healthy"
        self.targets[index] = replace(self.targets[index], state=state, routed=routed)

    def __call__(self, arn: str) -> list[T]:
        assert arn == "arn:group"
        return list(self.targets)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


LISTENER = Listener(80, "arn:group", "round_robin", 60)


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes() as running:
        yield running


@pytest.fixture
async def nodes() -> AsyncIterator[list[Node]]:
    made = [Node(host) for host in HOSTS]
    yield made
    for node in made:
        await node.aclose()


@pytest.fixture
async def group(nodes: list[Node]) -> Group:
    return Group([await node.start() for node in nodes])


@pytest.fixture
async def balancer(processes: Processes, tmp_path: Path, group: Group) -> AsyncIterator[Balancer]:
    made = Balancer(processes, tmp_path, [LISTENER], group, port=free_port())
    await asyncio.to_thread(made.start)
    yield made
    await asyncio.to_thread(made.close)


async def answered(session: aiohttp.ClientSession, url: str, times: int = 8) -> set[str]:
    """Who answers; a status that is not 200 stands for itself."""
    found = set()
    for _ in range(times):
        async with session.get(url) as response:
            found.add(await response.text() if response.status == 200 else str(response.status))
    return found


async def settles(session: aiohttp.ClientSession, url: str, wanted: set[str]) -> None:
    async with asyncio.timeout(20):
        while await answered(session, url) != wanted:
            pass


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


def test_port_in_use(processes: Processes, tmp_path: Path) -> None:
    """A port that someone listens on is refused before Envoy is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        balancer = Balancer(processes, tmp_path, [LISTENER], lambda _: [], port=port)
        with pytest.raises(PortInUseError, match=f"port {port}"):
            balancer.start()
    assert processes.running() == {}


def test_envoy_refuses(processes: Processes, tmp_path: Path) -> None:
    """A configuration that Envoy refuses is an error that carries Envoy's own words."""
    wrong = replace(LISTENER, idle_timeout_s=-1)
    balancer = Balancer(processes, tmp_path, [wrong], lambda _: [], port=free_port())
    with pytest.raises(ProcessFailedError, match="did not start") as caught:
        balancer.start()
    assert caught.value.hint


async def test_spreads(balancer: Balancer, session: aiohttp.ClientSession) -> None:
    """Requests go to every healthy target."""
    await settles(session, balancer.url, set(HOSTS))


async def test_no_target(balancer: Balancer, group: Group, session: aiohttp.ClientSession) -> None:
    """Without a target the balancer answers 503, as an ALB does."""
    group.targets.clear()
    await settles(session, balancer.url, {"503"})


async def test_refused_connection(
    balancer: Balancer, nodes: list[Node], session: aiohttp.ClientSession
) -> None:
    """A target that refuses connections is a 502, and is not retried elsewhere."""
    nodes[0].server.close()
    await settles(session, balancer.url, {"502", HOSTS[1]})


async def test_drains(
    balancer: Balancer, group: Group, nodes: list[Node], session: aiohttp.ClientSession
) -> None:
    """A deregistered target gets requests during the lag, then none, and finishes its streams."""
    group.set(1, "initial")
    await settles(session, balancer.url, {HOSTS[0]})
    async with session.get(f"{balancer.url}/stream") as stream:
        assert await stream.content.readany() == HOSTS[0].encode()
        group.set(0, "draining", routed=True)
        group.set(1, "healthy")
        await settles(session, balancer.url, set(HOSTS))
        group.set(0, "draining")
        await settles(session, balancer.url, {HOSTS[1]})
        nodes[0].finish.set()
        assert await stream.content.read() == b" end"


async def test_stream_survives_removal(
    balancer: Balancer, group: Group, nodes: list[Node], session: aiohttp.ClientSession
) -> None:
    """A stream goes on even when its target has left the group."""
    async with session.get(f"{balancer.url}/stream") as stream:
        serving = (await stream.content.readany()).decode()
        index = HOSTS.index(serving)
        del group.targets[index]
        await settles(session, balancer.url, {HOSTS[1 - index]})
        nodes[index].finish.set()
        assert await stream.content.read() == b" end"


async def test_fails_open(balancer: Balancer, group: Group, session: aiohttp.ClientSession) -> None:
    """Unhealthy targets get nothing, until the target group sends to them for want of healthy ones."""
    group.set(0, "unhealthy")
    await settles(session, balancer.url, {HOSTS[1]})
    group.set(0, "unhealthy", routed=True)
    group.set(1, "unhealthy", routed=True)
    await settles(session, balancer.url, set(HOSTS))


async def test_cut_is_passed_on(
    balancer: Balancer, nodes: list[Node], session: aiohttp.ClientSession
) -> None:
    """A response that its target cuts reaches the client as an unclean end."""
    async with session.get(f"{balancer.url}/stream") as stream:
        node = nodes[HOSTS.index((await stream.content.readany()).decode())]
        node.cut = True
        node.finish.set()
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream.content.read()


async def test_counts(balancer: Balancer, session: aiohttp.ClientSession) -> None:
    """Envoy's counters tell how many requests went to each target group; when it is gone, nothing does."""
    await answered(session, balancer.url, 3)
    async with asyncio.timeout(20):  # workers add their counters up every few milliseconds
        while await asyncio.to_thread(balancer.requests) != {"arn:group": 3}:
            pass
    await asyncio.to_thread(balancer.close)
    async with asyncio.timeout(20):
        while await asyncio.to_thread(balancer.requests):
            pass
