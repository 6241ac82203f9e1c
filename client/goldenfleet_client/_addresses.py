"""Which address of the service an attempt goes to."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Sequence
from typing import TypeAlias

Resolver: TypeAlias = Callable[[str, int], Sequence[str]]

_KEPT_S = 10.0  # a load balancer's names live 60 s; a gateway that left must not be asked for that long
_SHUNNED_S = 30.0


def system_resolver(host: str, port: int) -> Sequence[str]:
    """Every address that the name has now, in the system's order of preference. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class Addresses:
    """The addresses of one host, kept for a while; those that refused a connection come last."""

    def __init__(self, host: str, port: int, resolver: Resolver, clock: Callable[[], float]) -> None:
        self._host = host
        self._port = port
        self._resolver = resolver
        self._clock = clock
        self._lock = threading.Lock()
        self._kept_until = float("inf") if _is_literal(host) else 0.0
        self._kept: Sequence[str] = [host] if _is_literal(host) else []
        self._shunned_until: dict[str, float] = {}

    def kept(self) -> Sequence[str]:
        """What is known without asking; empty when it must be asked for."""
        return self._kept if self._clock() < self._kept_until else []

    def look_up(self) -> Sequence[str]:
        """Blocks. Raises OSError, unless there are addresses from before: a resolver that fails for a moment
        must not stop calls to a service that is well."""
        try:
            found = self._resolver(self._host, self._port)
            if not found:
                raise OSError(f"{self._host} has no address")
        except OSError:
            if not self._kept:
                raise
            found = self._kept
        with self._lock:
            self._kept, self._kept_until = found, self._clock() + _KEPT_S
        return found

    def shun(self, address: str) -> None:
        with self._lock:
            self._shunned_until[address] = self._clock() + _SHUNNED_S

    def shunned(self) -> set[str]:
        now = self._clock()
        with self._lock:
            return {address for address, until in self._shunned_until.items() if until > now}


class Route:
    """The addresses that one call went to."""

    def __init__(self) -> None:
        self._tried: set[str] = set()
        self._last: str | None = None

    def choose(self, addresses: Sequence[str], shunned: set[str], random: float) -> str:
        """One that was not tried, the shunned ones last; after all were tried they count as new.

        Families take turns, the one that the system prefers first, as in Happy Eyeballs (RFC 8305, 4): where
        IPv6 leads nowhere, one attempt finds out and not one per address. Within a family chance decides, so
        that clients spread over a load balancer's addresses.
        """
        if self._tried.issuperset(addresses):
            self._tried.clear()
        untried = [address for address in addresses if address not in self._tried]
        welcome = [address for address in untried if address not in shunned] or untried
        v6 = _is_v6(welcome[0]) if self._last is None else not _is_v6(self._last)
        family = [address for address in welcome if _is_v6(address) is v6] or welcome
        chosen = self._last = family[int(random * len(family))]
        self._tried.add(chosen)
        return chosen

    def others_left(self, addresses: Sequence[str]) -> bool:
        return not self._tried.issuperset(addresses)


def _is_v6(address: str) -> bool:
    return ":" in address


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
