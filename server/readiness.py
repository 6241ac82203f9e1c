"""Whether the balancer may send."""

from collections.abc import Iterable


class Readiness:
    """Named conditions that must all hold: `engine` on a model node, `nodes` on a gateway."""

    def __init__(self, conditions: Iterable[str]) -> None:
        self._holds = dict.fromkeys(conditions, False)

    @property
    def ready(self) -> bool:
        return all(self._holds.values())

    @property
    def missing(self) -> tuple[str, ...]:
        """Conditions that do not hold."""
        return tuple(name for name, holds in self._holds.items() if not holds)

    def set(self, condition: str, holds: bool) -> bool:
        """Returns whether this changed `ready`. Raises KeyError for an unknown condition."""
        before = self.ready
        if condition not in self._holds:
            raise KeyError(condition)
        self._holds[condition] = holds
        return self.ready != before
