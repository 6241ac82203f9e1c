"""A stream passed on in whole events, of which only those that may end it are looked at."""

from server.wire.sse import DONE, Event, SseParser

# An event that has not ended is held here up to this size, beyond it by the parser, which bounds it.
_MAX_UNENDED = 64 * 1024
# What begins an error event's data, and so ends a stream.
_ERROR = b'{"error"'


class WholeEvents:
    """`ended` is whether the stream's last event was read, `count` the number of events, `tail` what the last
    two pieces held: an engine's usage comes before its end.
    """

    def __init__(self) -> None:
        self.ended = False
        self.count = 0
        self.tail = b""
        self._last = b""
        self._parser = SseParser()
        self._unended = b""

    def skim(self, data: bytes) -> bytes | None:
        """The events that `data` completes. None: only `read` can tell."""
        if not self._parser.between_events:
            return None
        if self._unended:
            data = self._unended + data
        end = data.rfind(b"\n\n") + 2
        if end == 1 or len(data) - end > _MAX_UNENDED or b"\r" in data:
            return None
        events = data if end == len(data) else data[:end]
        if DONE in events or _ERROR in events or b"\n\n\n" in events:
            return None
        self._unended = data[end:]
        self._last = events
        self.count += events.count(b"\n\n")
        return events

    def read(self, data: bytes) -> list[Event]:
        """The events that `data` completes. Raises EventTooLarge."""
        data = self._unended + data
        self.tail, self._last = self._last + data, data
        events = self._parser.feed(data)
        self._unended = b""
        self.count += len(events)
        self.ended = self.ended or any(is_last(event) for event in events)
        if self._parser.held <= _MAX_UNENDED:
            self._unended = self._parser.take_back()
        return events


def is_last(event: Event) -> bool:
    return event.data is not None and (event.data == DONE or event.data.startswith(_ERROR))
