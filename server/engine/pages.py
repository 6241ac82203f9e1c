"""Which pages of the KV cache are free. A page belongs to one sequence at a time."""

from __future__ import annotations

from server.engine.config import PAGE_TOKENS


def pages_for(tokens: int) -> int:
    return -(-tokens // PAGE_TOKENS)


class PagePool:
    def __init__(self, total: int) -> None:
        self.total = total
        self._free = list(range(total - 1, -1, -1))

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def used_share(self) -> float:
        return 1 - len(self._free) / self.total

    def take(self, count: int) -> tuple[int, ...] | None:
        """`count` pages, or None when there are not so many."""
        if count > len(self._free):
            return None
        return tuple(self._free.pop() for _ in range(count))

    def give_back(self, pages: tuple[int, ...]) -> None:
        self._free.extend(reversed(pages))
