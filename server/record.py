"""What one generation is: what was asked for, and what has been sent of its answer."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from server.engines import Capabilities
from server.stops import StopAcross, characters_behind, sent_tokens
from server.wire.jsonbody import Json
from server.wire.openai import Delta, Generation
from server.wire.token_events import Gist


@dataclass(slots=True)
class Record:
    """One generation: the request, and what has been sent of its answer.

    `prompt_ids` and `ids` are exact from the last leg whose prompt the engine described; `count` is the
    number of tokens sent in all. `marks` are those numbers after each chunk, of ids and of characters of
    text, where there are stop strings; the first is where the leg began. `cut_short` says that a stop string
    across a cut was found here.
    """

    generation: Generation
    head: Json = field(default_factory=dict)
    prompt_ids: list[int] | None = None
    ids: list[int] = field(default_factory=list)
    silent_ids: list[int] = field(default_factory=list)
    text: str = ""
    count: int = 0
    prompt_tokens: int | None = None
    role_sent: bool = False
    ids_lost: bool = False
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    finished: int = 0
    usage: Json | None = None
    opaque: str | None = None
    marks: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])
    leg_count: int = 0
    held_back: bool = False
    stop_across: StopAcross | None = None
    cut_short: bool = False

    @property
    def complete(self) -> bool:
        """Every choice has its finish reason; only usage and [DONE] may be missing."""
        return self.finished >= self.generation.choices

    @property
    def started(self) -> bool:
        """Whether content was sent: from here on only a resume is possible."""
        return bool(self.text or self.count or self.finished or self.opaque)

    def add(self, delta: Delta) -> None:
        self.text += delta.text
        self.opaque = self.opaque or delta.opaque
        if delta.token_ids is not None:
            self._add_ids(delta)
            if self.marked:
                self.marks.append((len(self.ids) + len(self.silent_ids), len(self.text)))
        elif delta.text:
            # Without ids and a number of its own a chunk is taken for one token, which is what engines send.
            self.ids_lost = True
            self.count = self.count + 1 if delta.made is None else self.leg_count + delta.made
        if delta.finished:
            self.finished += delta.finished
            self.finish_reason = delta.finish_reason
            self.stop_reason = delta.stop_reason

    @property
    def marked(self) -> bool:
        """Whether it matters in which chunk a token came."""
        return characters_behind(self.generation.body) > 0

    def add_gist(self, gist: Iterable[Gist]) -> None:
        """Token events that were not parsed one by one; one by one where it is `marked`."""
        for text, ids, events in gist:
            if ids is not None and self.marked:
                self.add(Delta(text=text, token_ids=ids))
                continue
            self.text += text
            if ids is None:
                self.ids_lost = True
                self.count += events
            else:
                self.ids += ids
                self.count += len(ids)

    def _add_ids(self, delta: Delta) -> None:
        assert delta.token_ids is not None
        if delta.text or delta.finished:
            sent = self.silent_ids + delta.token_ids
            self.ids += sent
            self.count += len(sent)
            self.silent_ids = []
            delta.token_ids = sent
        else:
            # Their text is held back by the engine: the next node makes these tokens again.
            self.silent_ids += delta.token_ids

    def settle(self, capabilities: Capabilities) -> None:
        """The leg was cut: takes back the ids whose text the lost engine still held.

        Where a token had its text sent in part, the ids count as lost: what follows is asked for by text.
        """
        received, self.silent_ids = self.ids + self.silent_ids, []
        behind = characters_behind(self.generation.body)
        self.held_back = bool(behind) and capabilities.stop_text in ("lagging", "unknown")
        if self.complete or self.ids_lost or not self.held_back:
            return
        if capabilities.stop_text == "unknown":
            self.ids_lost = True
            return
        sent = sent_tokens(self.marks, len(self.text), behind)
        self.count -= len(self.ids) - sent.whole
        self.ids_lost = not sent.exact
        if self.generation.wants_ids and sent.whole < len(received):
            self.opaque = "token_ids"
        self.ids = received[: sent.whole]
