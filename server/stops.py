"""Stop strings around a cut: what an engine still held back, and what it had sent of one."""

from collections.abc import Iterable
from dataclasses import dataclass

from server.wire.jsonbody import Json


def stop_strings(body: Json) -> tuple[str, ...]:
    given = body.get("stop")
    listed = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    return tuple(stop for stop in listed if isinstance(stop, str) and stop)


def characters_behind(body: Json) -> int:
    """How far the text of an engine that lags stays behind its tokens, in characters."""
    stops = stop_strings(body)
    if not stops or body.get("include_stop_str_in_output"):
        return 0
    return max(map(len, stops)) - 1


@dataclass(frozen=True, slots=True)
class Sent:
    """Of the tokens that were made, `whole` had all their text sent; `exact` says that no other had any."""

    whole: int
    exact: bool


def sent_tokens(marks: list[tuple[int, int]], sent: int, behind: int) -> Sent:
    """`marks` are the numbers of tokens made and of characters sent after each chunk, the first of them where
    the engine began. `sent` characters were, and the engine stays `behind` with its text.
    """
    begun = marks[0][1]
    # While it has sent nothing, how much an engine that lags has made cannot be told.
    ends = [marks[0], *((tokens, at + behind) for tokens, at in marks[1:] if at > begun)]
    tokens, end = max(((tokens, end) for tokens, end in ends if end <= sent), key=lambda pair: pair[1])
    return Sent(tokens, end == sent)


@dataclass(frozen=True, slots=True)
class Stopped:
    """`text` is what of the new text belongs to the answer, `stop` what ended it."""

    text: str
    stop: str


class StopAcross:
    """Finds a stop string that begins in what was sent before a cut and ends in what comes after it.

    `open` is whether one may still come.
    """

    def __init__(self, sent: str, stops: Iterable[str], *, keeps_stop: bool) -> None:
        self._stops = tuple(stops)
        self._keeps_stop = keeps_stop
        longest = max(map(len, self._stops), default=1)
        self._seen = sent[max(0, len(sent) - longest + 1) :]
        self._old = len(self._seen)
        self.open = self._may_come()

    def take(self, text: str) -> Stopped | None:
        """What the engine adds. None while no stop string lies across the cut."""
        if not self.open:
            return None
        before = len(self._seen)
        self._seen += text
        for at in range(self._old):
            for stop in self._stops:
                if self._seen.startswith(stop, at) and at + len(stop) > self._old:
                    end = at + len(stop) if self._keeps_stop else self._old
                    return Stopped(self._seen[before : max(before, end)], stop)
        self.open = self._may_come()
        return None

    def _may_come(self) -> bool:
        ends = [self._seen[at:] for at in range(self._old)]
        return any(len(end) < len(stop) and stop.startswith(end) for end in ends for stop in self._stops)
