"""How often a peer may be wrong."""

from collections import OrderedDict
from collections.abc import Callable

_WINDOW_S = 60.0
_MOST_PEERS = 10_000


class Failures:
    """Failed authentications by peer: past `allowed` a minute, a peer's are refused unread.

    `clock` is monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float], allowed: int) -> None:
        self._clock = clock
        self._allowed = allowed
        self._peers: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def blocked(self, peer: str) -> bool:
        began, count = self._peers.get(peer, (0.0, 0))
        return count >= self._allowed and self._clock() < began + _WINDOW_S

    def add(self, peer: str) -> None:
        now = self._clock()
        began, count = self._peers.pop(peer, (now, 0))
        if now >= began + _WINDOW_S:
            began, count = now, 0
        self._peers[peer] = (began, count + 1)
        if len(self._peers) > _MOST_PEERS:
            self._peers.popitem(last=False)

    @property
    def remembered(self) -> int:
        return len(self._peers)
