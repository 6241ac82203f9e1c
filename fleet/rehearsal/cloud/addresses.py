"""Loopback addresses for instances: 127.0.x.y, where x.y is the host part of the subnet's address."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network

METADATA_PORT = 1338  # ports below 1024 need privileges: 80, as on AWS, is out of reach
_NODE_PORTS = (8080, 9090, 8000)  # what a node serves on; an address where one is taken is skipped
_RESERVED = 4  # AWS keeps the first four addresses of a subnet, and the last


@dataclass(frozen=True)
class Lease:
    """An address that is this cloud's alone: its metadata socket already listens."""

    address: str
    socket: socket.socket

    def release(self) -> None:
        self.socket.close()


class Addresses:
    """Hands out addresses of each subnet in turn, so that one just given back rests longest."""

    def __init__(self) -> None:
        self._turns: dict[str, Iterator[str]] = {}

    def lease(self, cidr: str) -> Lease | None:
        """The next free address of the subnet; None when all are taken."""
        turn = self._turns.setdefault(cidr, _cycle(cidr))
        for _ in range(max(0, IPv4Network(cidr).num_addresses - _RESERVED - 1)):
            address = next(turn)
            if (metadata := _listen(address)) is not None:
                return Lease(address, metadata)
        return None


def _cycle(cidr: str) -> Iterator[str]:
    network = IPv4Network(cidr)
    first, last = int(network.network_address) + _RESERVED, int(network.broadcast_address) - 1
    while True:
        for number in range(first, last + 1):
            yield f"127.0.{number >> 8 & 255}.{number & 255}"


def _listen(address: str) -> socket.socket | None:
    if not all(_is_free(address, port) for port in _NODE_PORTS):
        return None
    return _bind(address, METADATA_PORT, listen=True)


def _is_free(address: str, port: int) -> bool:
    bound = _bind(address, port, listen=False)
    if bound is not None:
        bound.close()
    return bound is not None


def _bind(address: str, port: int, *, listen: bool) -> socket.socket | None:
    """A socket bound to the address; None where another has it."""
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((address, port))
        if listen:
            found.listen(128)
    except OSError as error:
        found.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    found.setblocking(False)
    return found
