"""One node's part of a stream, read: what the client gets of it, and what it adds to the record.

Token events like one that was seen before are passed on without parsing. What they said is kept as bytes
until the record is needed.
"""

import json
from collections.abc import Callable, Iterator

from server.errors import AttemptFailed, WireError
from server.faces import Face
from server.record import Record
from server.resume import Leg, read, shape
from server.retry import Failure
from server.wire.jsonbody import Json
from server.wire.openai import Delta, is_given_up, read_error
from server.wire.sse import DONE, SseParser
from server.wire.token_events import TokenEvents, learn

# An engine's event, put into OpenAI's words.
Translate = Callable[[Json], Json]

# Bytes of token events that are kept unread at most, and of an event that has not ended.
_MAX_KEPT = 8 * 1024
_MAX_UNENDED = 64 * 1024
# After so many lessons in a row that no later event was like, none is taken any more.
_MAX_VAIN_LESSONS = 4


class LegReader:
    """Call `settle` before using the record.

    `done` is whether `[DONE]` was read, `tokens` the number of those read, `parsed` that of the events that
    had to be parsed.
    """

    def __init__(self, leg: Leg, record: Record, face: Face, into_openai: Translate | None = None) -> None:
        self.done = False
        self.tokens = self.parsed = 0
        self._leg = leg
        self._record = record
        self._face = face
        self._into_openai = into_openai
        self._parser = SseParser()
        self._alike: TokenEvents | None = None
        self._skims = False
        self._unended = b""
        self._kept = bytearray()
        learns = face.repeats and record.generation.choices == 1 and into_openai is None
        self._vain_lessons = 0 if learns else _MAX_VAIN_LESSONS

    @property
    def kept_bytes(self) -> int:
        """What is held of the stream and not yet in the record."""
        return len(self._kept) + len(self._unended) + self._parser.held

    def skim(self, data: bytes) -> tuple[bytes, bytes] | None:
        """What the client gets for token events that need no parsing, and what is left for `frames`.

        None: `frames` must read all of `data`.
        """
        if not self._skims or self._alike is None:
            return None
        taken = self._alike.take(self._unended + data if self._unended else data)
        if taken is None:
            return None
        out, kept, rest, events = taken
        self.tokens += events
        self._kept += kept
        if len(self._kept) > _MAX_KEPT or self._vain_lessons:
            self._kept_more()
        self._unended = b""
        if rest and not _may_hold_an_end(rest):
            self._unended, rest = rest, b""
        return out, rest

    def frames(self, data: bytes) -> Iterator[bytes]:
        """What the client gets for `data`. Raises AttemptFailed, EngineRefused and WireError.

        What was given before an error is real.
        """
        self._parser.push(self._unended + data)
        self._unended = b""
        if self._skims:
            yield self._skimmed()
        learned = False
        while (event := self._parser.next()) is not None:
            if event.data == DONE:
                self.settle()
                self.done = True
                return
            if event.data is None:
                continue
            delta, frame = self._read(event.data)
            yield frame
            if self._record.cut_short:
                self.done = True
                return
            if not learned and self._is_lesson(delta):
                learned = True
                self._learn(event.raw)
                yield self._skimmed()
        self._pause()

    def settle(self) -> None:
        """Bring the record up to date."""
        if self._kept and self._alike is not None:
            self._record.add_gist(self._alike.gist(self._kept, apart=self._record.marked))
            self._kept.clear()

    def _pause(self) -> None:
        """What has begun and not ended is held here while it may be like what was seen."""
        if self._alike is not None and 0 < self._parser.held <= _MAX_UNENDED:
            unended = self._parser.take_back()
            if _may_hold_an_end(unended):
                self._parser.push(unended)
            else:
                self._unended = unended
        self._skims = self._parser.between_events and self._may_skim

    @property
    def _may_skim(self) -> bool:
        """Whether what comes with the next token does not depend on those before."""
        across = self._record.stop_across
        return not self._record.silent_ids and (across is None or not across.open)

    def _skimmed(self) -> bytes:
        """Like `skim`, for what the parser holds."""
        if self._alike is None or not self._may_skim:
            return b""
        data = self._parser.take_back()
        taken = self._alike.take(data)
        if taken is None:
            self._parser.push(data)
            return b""
        out, kept, rest, events = taken
        self.tokens += events
        self._kept += kept
        self._kept_more()
        self._parser.push(rest)
        return out

    def _kept_more(self) -> None:
        self._vain_lessons = 0
        # A share of a long text, for each time all of it is copied.
        if len(self._kept) > _MAX_KEPT and len(self._kept) > len(self._record.text) // 4:
            self.settle()

    def _read(self, data: bytes) -> tuple[Delta, bytes]:
        self.settle()
        self.parsed += 1
        chunk = _chunk(data, self._into_openai)
        before = self._record.count
        delta = read(self._leg, chunk, self._record)
        self.tokens += self._record.count - before
        return delta, self._render(chunk, delta)

    def _render(self, chunk: Json, delta: Delta) -> bytes:
        shaped = shape(self._leg, chunk, delta, self._record)
        return b"" if shaped is None else self._face.chunk(shaped, delta)

    def _is_lesson(self, delta: Delta) -> bool:
        """Whether more events like the one that was read are to be expected."""
        return (
            bool(delta.text)
            and not delta.finished
            and delta.opaque is None
            and delta.usage is None
            and delta.prompt_token_ids is None
            and delta.made is None
            and self._vain_lessons < _MAX_VAIN_LESSONS
        )

    def _learn(self, raw: bytes) -> None:
        self._vain_lessons += 1
        self._alike = learn(raw, self._leg.kind, self._render_other)

    def _render_other(self, chunk: Json, text: str, ids: list[int] | None) -> bytes:
        return self._render(chunk, Delta(text=text, token_ids=ids))


def _chunk(data: bytes, into_openai: Translate | None) -> Json:
    try:
        chunk = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise WireError("an event of the node's stream is not JSON") from exc
    if not isinstance(chunk, dict):
        raise WireError("an event of the node's stream is not an object")
    said: Json = chunk if into_openai is None else into_openai(chunk)
    error = read_error(said)
    if error is not None:
        raise error.refusal or AttemptFailed(_failure(error.code), f"the stream ended in {error.code}")
    if is_given_up(said):
        raise AttemptFailed(Failure.CUT, "the engine gave the generation up")
    return said


_FAILURES = {
    "node_draining": Failure.DRAINING,
    "engine_silent": Failure.ENGINE_SILENT,
    "429": Failure.OVERLOADED,
    "503": Failure.OVERLOADED,
}


def _failure(code: str) -> Failure:
    return _FAILURES.get(code, Failure.CUT)


def _may_hold_an_end(data: bytes) -> bool:
    return b"\n\n" in data or b"\r" in data or len(data) > _MAX_UNENDED
