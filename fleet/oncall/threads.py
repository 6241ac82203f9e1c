"""Calls side by side, in threads that nobody waits for: Ctrl-C ends a command though AWS does not answer.

A ThreadPoolExecutor's threads are joined when it is left, and once more at the interpreter's end.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

A = TypeVar("A")
T = TypeVar("T")


def begin(ask: Callable[[], T]) -> Future[T]:
    """In a thread of its own."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(ask())
        except BaseException as error:  # noqa: BLE001  it is raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def side_by_side(ask: Callable[[A], T], items: Sequence[A], workers: int) -> list[T]:
    """In the items' order. Raises what `ask` raises."""
    left = deque(enumerate(items))

    def work() -> list[tuple[int, T]]:
        done = []
        while left:
            try:
                place, one = left.popleft()
            except IndexError:
                break  # another took the last one
            done.append((place, ask(one)))
        return done

    working = [begin(work) for _ in range(min(workers, len(items)))]
    found = dict(pair for future in working for pair in future.result())
    return [found[place] for place in range(len(items))]
