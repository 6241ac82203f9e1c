"""Whether the balancer may send."""

from collections.abc import Callable, Iterable


class Readiness:
    """Named conditions that must all hold: `engine` on a model node, `nodes` on a gateway.

    `changed` is told when all hold (True) and when one of them no longer does (False).
    """

    def __init__(self, conditions: Iterable[str], changed: Callable[[bool], None]) -> None:
        self._holds = dict.fromkeys(conditions, False)
        self._changed = changed

    @property
    def ready(self) -> bool:
        return all(self._holds.values())

    @property
    def missing(self) -> tuple[str, ...]:
        """Conditions that do not hold."""
        return tuple(name for name, holds in self._holds.items() if not holds)

    def set(self, condition: str, holds: bool) -> bool:
        """Returns whether the condition changed. Raises KeyError for an unknown one."""
        if condition not in self._holds:
            raise KeyError(condition)
        if self._holds[condition] == holds:
            return False
        before = self.ready
        self._holds[condition] = holds
        if self.ready != before:
            self._changed(self.ready)
        return True
