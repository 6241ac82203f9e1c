"""How long a node may be silent: learned from how long nodes have been silent of late.

Three waits are learned for each model: for a stream's first token, by the request's size; for the next
token of a stream; and for a whole answer, by the tokens that it may have. Each has three bounds. After
`suspect_s` the node is asked whether it lives, on a new connection: cheap, so it may be wrong. After `cut_s`
the work of a node that lives is moved, if there is a better place for it. After `most_s` it is over.
"""

import math
from dataclasses import dataclass

# A bucket is a fourth of a doubling, so that a quantile is at most 19% too high.
_STEPS = 4
_FLOOR_S = 0.001
_BUCKETS = 26 * _STEPS
# Counts are halved here: what was seen a thousand values ago weighs half. A quantile of 0.99 needs hundreds.
_MEMORY = 1024
# Below this many values there is nothing to learn from.
_ENOUGH = 20
_HIGH = 0.99

# More than the 200 ms that TCP takes at the least to send a lost segment again.
SUSPECT_MIN_S = 0.25
SUSPECT_FACTOR = 2.0
CUT_FACTOR = 5.0
# Models whose pace is remembered. A client may name any model, so the memory is bounded.
MAX_MODELS = 64


class Sketch:
    """A quantile of recent values, in seconds from 1 ms to some 18 hours."""

    __slots__ = ("_counts", "_total", "count")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self._total = 0
        self.count = 0

    def observe(self, seconds: float) -> None:
        at = int(math.log2(seconds / _FLOOR_S) * _STEPS) if seconds > _FLOOR_S else 0
        self._counts[min(at, _BUCKETS - 1)] += 1
        self._total += 1
        self.count += 1
        if self._total >= _MEMORY:
            self._counts = [count // 2 for count in self._counts]
            self._total = sum(self._counts)

    def quantile(self, share: float) -> float:
        """At least `share` of the values are not above it; 0 without values."""
        above = (1 - share) * self._total
        for at in range(_BUCKETS - 1, -1, -1):
            above -= self._counts[at]
            if above < 0:
                return float(_FLOOR_S * 2 ** ((at + 1) / _STEPS))
        return 0.0


@dataclass(frozen=True, slots=True)
class Patience:
    """Settings, in seconds. `suspect_s` bounds all suspicion; `stall_s` is the least after which a node that
    lives is cut, `first_byte_s` and `silence_s` the most, before and after the first token.
    """

    suspect_s: float
    stall_s: float
    first_byte_s: float
    silence_s: float


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds of silence; see the module. `doubled` is for a request that was cut for being slow."""

    suspect_s: float
    cut_s: float
    most_s: float

    def doubled(self, times: int) -> "Bounds":
        return Bounds(self.suspect_s, min(self.most_s, self.cut_s * 2**times), self.most_s)


class Wait:
    """One kind of wait: what was seen, and the bounds that follow. They are computed anew only now and
    then, as a quantile costs more than a request may.
    """

    __slots__ = ("_bounds", "_due", "_least_s", "_most_s", "_patience", "_sketch")

    def __init__(self, patience: Patience, least_s: float, most_s: float) -> None:
        self._patience = patience
        self._least_s = least_s
        self._most_s = most_s
        self._sketch = Sketch()
        self._due = _ENOUGH
        self._bounds = Bounds(min(patience.suspect_s, most_s), most_s, most_s)

    @property
    def learned(self) -> bool:
        return self._sketch.count > 0

    @property
    def bounds(self) -> Bounds:
        return self._bounds

    def observe(self, seconds: float) -> None:
        """A wait that ended, or was cut: were those left out, a slower fleet would never be learned."""
        sketch = self._sketch
        sketch.observe(seconds)
        if sketch.count >= self._due:
            self._due = sketch.count + _ENOUGH
            self._bounds = self._learn(sketch.quantile(_HIGH))

    def _learn(self, high_s: float) -> Bounds:
        suspect_s = min(self._patience.suspect_s, max(SUSPECT_MIN_S, SUSPECT_FACTOR * high_s))
        cut_s = min(self._most_s, max(self._least_s, CUT_FACTOR * high_s))
        return Bounds(min(suspect_s, cut_s), cut_s, self._most_s)


class Pace:
    """One model's waits."""

    __slots__ = ("_first", "_patience", "_whole", "gap", "listing")

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._first: dict[int, Wait] = {}
        self._whole: dict[int, Wait] = {}
        self.gap = Wait(patience, patience.stall_s, patience.silence_s)
        # Of what an engine knows by heart.
        self.listing = Wait(patience, patience.stall_s, patience.silence_s)

    @property
    def learned(self) -> bool:
        return self.gap.learned or any(
            wait.learned for waits in (self._first, self._whole) for wait in waits.values()
        )

    @property
    def first_byte_s(self) -> float:
        """How long a live node may take to the first token of a small request."""
        return self.first(0).bounds.cut_s

    @property
    def stall_s(self) -> float:
        """How long a live node may take from one token to the next."""
        return self.gap.bounds.cut_s

    def first(self, request_bytes: int) -> Wait:
        """Until the first token. A prompt four times as long is another kind: it may rightly take longer."""
        kind = request_bytes.bit_length() // 2
        wait = self._first.get(kind)
        if wait is None:
            patience = self._patience
            wait = self._first[kind] = Wait(patience, patience.stall_s, patience.first_byte_s)
        return wait

    def whole(self, max_tokens: int | None) -> Wait:
        """Until an answer that comes in one piece. It may take minutes by right, so a node that lives is cut
        only for what has never been seen, and no sooner than `first_byte_s`.
        """
        kind = -1 if max_tokens is None else max_tokens.bit_length() // 2
        wait = self._whole.get(kind)
        if wait is None:
            wait = self._whole[kind] = Wait(self._patience, self._patience.first_byte_s, math.inf)
        return wait


class Paces:
    """The pace of each model."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._paces: dict[object, Pace] = {}

    def of(self, model: object) -> Pace:
        """By the name that the client sent, which may be anything."""
        name = model if isinstance(model, str) else None
        pace = self._paces.get(name)
        if pace is None:
            self._make_room()
            pace = self._paces[name] = Pace(self._patience)
        return pace

    def __len__(self) -> int:
        return len(self._paces)

    def _make_room(self) -> None:
        """Names that no node ever answered for go first."""
        if len(self._paces) >= MAX_MODELS:
            unused = (name for name, pace in self._paces.items() if not pace.learned)
            del self._paces[next(unused, next(iter(self._paces)))]
