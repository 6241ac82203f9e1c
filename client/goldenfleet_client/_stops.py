"""Stop strings around a cut. An engine may have held back text that could begin one, or have sent it."""

from __future__ import annotations

from collections.abc import Mapping


class Stops:
    """The stop strings of one request. `lag`: text may stay behind token ids, for an engine that waits for
    the rest of a stop string (vLLM: as many characters as the longest has, but one)."""

    def __init__(self, body: Mapping[str, object]) -> None:
        given = body.get("stop") or body.get("stop_sequences")
        listed = [given] if isinstance(given, str) else given if isinstance(given, (list, tuple)) else []
        self._stops = tuple(stop for stop in listed if isinstance(stop, str) and stop)
        self._longest = max(map(len, self._stops), default=0)
        self.lag = self._longest > 1
        self._seen = ""
        self._old = 0

    def cut_after(self, text: str) -> None:
        """What was sent before a cut may end in the beginning of a stop string: no engine knows that."""
        self._seen = text[max(0, len(text) - self._longest + 1) :] if self.lag else ""
        self._old = len(self._seen)

    def across(self, text: str) -> str | None:
        """How much of `text` belongs to the answer if a stop string that began before the cut ends in it."""
        if not self._old:
            return None
        before, self._seen = len(self._seen), self._seen + text
        for at in range(self._old):
            if any(self._ends_at(at, stop) for stop in self._stops):
                return self._seen[before : max(before, self._old)]
        if len(self._seen) > self._old + self._longest:
            self._old = 0
        return None

    def _ends_at(self, at: int, stop: str) -> bool:
        return self._seen.startswith(stop, at) and at + len(stop) > self._old
