"""Nodes that are nothing but their admin ports, all in one process, for a storm of notices.

Reads one JSON line with their addresses, writes `ready`, and answers as a node does: GET /state, POST /drain.
At the end of its stdin it writes how many orders to drain each address got, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from typing import Any

PORT = 9090
_BACKLOG = 64


class _Node(asyncio.Protocol):
    """One connection; requests come one after the other, small enough to come in one piece."""

    def __init__(self, orders: Counter[str], deadlines: dict[str, float]) -> None:
        self._orders, self._deadlines = orders, deadlines

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._address = transport.get_extra_info("sockname")[0]
        self._held = b""

    def data_received(self, data: bytes) -> None:
        self._held += data
        head, separator, body = self._held.partition(b"\r\n\r\n")
        if not separator:
            return
        if head.startswith(b"POST"):
            if not body.endswith(b"}"):
                return
            self._orders[self._address] += 1
            self._deadlines[self._address] = float(json.loads(body)["deadline_s"])
        self._held = b""
        self._answer()

    def _answer(self) -> None:
        deadline = self._deadlines.get(self._address)
        phase = "serving" if deadline is None else "accepting"
        said: dict[str, Any] = {"phase": phase, "deadline": deadline, "in_flight": 1}
        raw = json.dumps(said).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(raw)}\r\nconnection: close\r\n\r\n"
        self._transport.write(head.encode() + raw)
        self._transport.close()


async def serve(addresses: list[str]) -> Counter[str]:
    """Until the end of stdin."""
    orders: Counter[str] = Counter()
    deadlines: dict[str, float] = {}
    loop = asyncio.get_running_loop()
    for address in addresses:
        await loop.create_server(lambda: _Node(orders, deadlines), address, PORT, backlog=_BACKLOG)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)
    return orders


if __name__ == "__main__":
    json.dump(asyncio.run(serve(json.loads(sys.stdin.readline()))), sys.stdout)
