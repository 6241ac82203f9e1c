"""Nodes that fell silent with one request on them."""

from collections.abc import Set

from server.upstreams import Node, NodeSet


class Silences:
    """A node counts as long as it is silent: one that answers again stood still, which was not the request's
    doing, and one that is gone can be asked no more. `count` is of all silences since the last progress.
    """

    __slots__ = ("_before", "_nodes", "_since", "count")

    def __init__(self, nodes: NodeSet) -> None:
        self._nodes = nodes
        self._since: set[Node] = set()
        self._before: set[Node] = set()
        self.count = 0

    def fell(self, node: Node) -> None:
        self._since.add(node)
        self.count += 1

    def progressed(self) -> None:
        self._before |= self._since
        self._since.clear()
        self.count = 0

    @property
    def since_progress(self) -> int:
        """Nodes that are silent still."""
        return self._silent(self._since)

    @property
    def in_all(self) -> int:
        return self._silent(self._since | self._before)

    def _silent(self, nodes: Set[Node]) -> int:
        return sum(1 for node in nodes if node.silent and node in self._nodes)
