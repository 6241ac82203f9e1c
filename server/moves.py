"""Requests that went from one node to another: what was handed over here, and what was continued elsewhere.

Whoever drains a node asks here what became of its requests: the node tells which it handed over, gateways
tell of each whether another node went on with it. Ids only, and of many the last.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

MOST_KEPT = 256  # of each kind: /state stays an answer of some kilobytes
RUNNING = "running"

T = TypeVar("T")


class Moves:
    """Called at the end of few requests, so it costs the data path nothing."""

    def __init__(self) -> None:
        self.handed_over_count = 0
        self.cut = 0
        """Requests that neither finished nor could be handed over: cut, without a word."""
        self._handed_over: OrderedDict[str, None] = OrderedDict()
        self._moved: OrderedDict[str, str] = OrderedDict()

    def handed_over(self, request_id: str) -> None:
        """This process ended the request so that it goes on elsewhere."""
        self.handed_over_count += 1
        _keep(self._handed_over, request_id, None)

    def moved(self, request_id: str, outcome: str = RUNNING) -> None:
        """Another node was asked to go on with the request, which is running, or ended with `outcome`."""
        _keep(self._moved, request_id, outcome)

    def serves_again(self) -> None:
        """What an earlier drain handed over is none of the next one's."""
        self.handed_over_count = self.cut = 0
        self._handed_over.clear()

    def snapshot(self) -> dict[str, object]:
        """For /state, oldest first."""
        return {
            "handed_over": self.handed_over_count,
            "cut": self.cut,
            "handed_over_ids": list(self._handed_over),
            "moved": dict(self._moved),
        }


def _keep(kept: OrderedDict[str, T], key: str, value: T) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > MOST_KEPT:
        kept.popitem(last=False)
