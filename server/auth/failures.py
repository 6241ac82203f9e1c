"""How often a peer may be wrong."""

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

_WINDOW_S = 60.0
_MOST_PEERS = 10_000


class Failures:
    """Failed authentications by peer: past `allowed` a minute, a peer's are refused unread. IPv6 peers count
    by /64, for whoever has one address of a subnet may use all of them (RFC 4291, 2.5.1).

    `clock` is monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float], allowed: int) -> None:
        self._clock = clock
        self._allowed = allowed
        self._peers: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def blocked(self, peer: str) -> bool:
        began, count = self._peers.get(_holder(peer), (0.0, 0))
        return count >= self._allowed and self._clock() < began + _WINDOW_S

    def add(self, peer: str) -> None:
        now, peer = self._clock(), _holder(peer)
        began, count = self._peers.pop(peer, (now, 0))
        if now >= began + _WINDOW_S:
            began, count = now, 0
        self._peers[peer] = (began, count + 1)
        if len(self._peers) > _MOST_PEERS:
            self._peers.popitem(last=False)

    @property
    def remembered(self) -> int:
        return len(self._peers)


def _holder(peer: str) -> str:
    """Whoever the address belongs to, as far as addresses tell."""
    try:
        address = ip_address(peer)
    except ValueError:
        # A balancer's word may be anything: it then stands for itself.
        return peer
    if not isinstance(address, IPv6Address):
        return peer
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{int(address) >> 64:x}::/64"
