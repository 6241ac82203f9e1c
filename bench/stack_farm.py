"""Nodes that only say that they are ready: what health checks ask, and nothing else."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType

from fleet.rehearsal.cloud import InstanceView

_PORT = 8080
_READY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Farm:
    """Hears of every instance that is launched and taken away. Use as a context manager."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="farm", daemon=True)
        self._nodes: dict[str, asyncio.Server] = {}

    def __enter__(self) -> Farm:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for instance_id in list(self._nodes):
            self.killed(instance_id)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def launched(self, instance: InstanceView) -> None:
        listening = asyncio.run_coroutine_threadsafe(_listen(instance.address), self._loop)
        self._nodes[instance.instance_id] = listening.result()

    def killed(self, instance_id: str) -> None:
        asyncio.run_coroutine_threadsafe(_close(self._nodes.pop(instance_id)), self._loop).result()


async def _listen(address: str) -> asyncio.Server:
    return await asyncio.start_server(_answer, address, _PORT)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_READY)
        await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        return
    finally:
        writer.close()


async def _close(server: asyncio.Server) -> None:
    server.close()
