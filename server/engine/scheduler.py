"""Iteration-level scheduling: each step decodes every running sequence, then reads prompts in what is left.

Pages are taken as sequences grow. When none is left the youngest sequence gives its own back and waits; it
reads its tokens again later and goes on, to the last bit, as if nothing had happened. Nothing here waits or
computes; the engine calls `plan`, runs the model, and calls `apply`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from server.engine.config import PAGE_TOKENS, Limits
from server.engine.detokenizer import Delta, Detokenizer
from server.engine.model import Slice
from server.engine.pages import PagePool, pages_for
from server.engine.sampling import Sampling, next_token
from server.engine.tokenizer import END_OF_TEXT
from server.engine.weights import Matrix


@dataclass(eq=False)
class Running:
    """One sequence from its admission to the queue until it is finished or cancelled."""

    prompt: tuple[int, ...]
    max_tokens: int
    sampling: Sampling
    detokenizer: Detokenizer
    deliver: Callable[[Delta], None]
    ignore_end: bool = False
    tokens: list[int] = field(init=False)
    cached: int = 0
    pages: tuple[int, ...] = ()
    gone: bool = False

    def __post_init__(self) -> None:
        self.tokens = list(self.prompt)

    @property
    def pages_missing(self) -> int:
        return pages_for(len(self.tokens)) - len(self.pages)

    @property
    def decodes(self) -> bool:
        return len(self.tokens) - self.cached == 1

    @property
    def generated(self) -> int:
        return len(self.tokens) - len(self.prompt)

    def take(self, token: int) -> Delta | None:
        """The token's effect on the text; a Delta with a finish reason ends the sequence."""
        self.tokens.append(token)
        delta = self.detokenizer.push(token)
        if delta is not None and delta.finish_reason is not None:
            return delta
        if token == END_OF_TEXT and not self.ignore_end:
            return _joined(delta, self.detokenizer.finish("stop"))
        if self.generated >= self.max_tokens:
            return _joined(delta, self.detokenizer.finish("length"))
        return delta


def _joined(first: Delta | None, last: Delta) -> Delta:
    if first is None:
        return last
    return Delta(first.text + last.text, first.token_ids + last.token_ids, last.finish_reason)


@dataclass(frozen=True)
class Step:
    """One batch for the model: `owners[i]` is the sequence that `slices[i]` belongs to."""

    slices: list[Slice]
    owners: list[Running]


class Scheduler:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.pool = PagePool(limits.pages)
        self.waiting: deque[Running] = deque()
        self.running: list[Running] = []
        self.prompt_tokens_total = 0
        self.generated_tokens_total = 0
        self.preemptions_total = 0

    def add(self, sequence: Running) -> None:
        self.waiting.append(sequence)

    def cancel(self, sequence: Running) -> None:
        """Frees the sequence's pages at once: a step under way still writes to them, but no later one."""
        if sequence.gone:
            return
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)
        self._let_go(sequence)

    def plan(self) -> Step:
        """The next batch; empty when there is nothing to do."""
        self._grow()
        self._admit()
        step = Step([], [])
        decoding = [sequence for sequence in self.running if sequence.decodes]
        for sequence in decoding:
            step.slices.append(Slice(sequence.tokens[-1:], sequence.cached, sequence.pages))
            step.owners.append(sequence)
        self._read_prompts(step, self._limits.max_batch_tokens - len(decoding))
        return step

    def apply(self, step: Step, logits: Matrix) -> None:
        """Take the model's answer to `step`: advance, sample, deliver, let go of what is finished."""
        for part, sequence, scores in zip(step.slices, step.owners, logits, strict=True):
            if sequence.gone:
                continue
            sequence.cached = part.end
            if part.end == len(sequence.tokens):
                self._extend(sequence, scores)

    def _extend(self, sequence: Running, scores: Matrix) -> None:
        if not sequence.generated:
            self.prompt_tokens_total += len(sequence.prompt)
        self.generated_tokens_total += 1
        delta = sequence.take(next_token(scores, sequence.sampling, len(sequence.tokens)))
        if delta is None:
            return
        if delta.finish_reason is not None:
            self.running.remove(sequence)
            self._let_go(sequence)
        sequence.deliver(delta)

    def _grow(self) -> None:
        """The oldest first. The oldest of all gets what it needs, for the pool holds a whole context."""
        for sequence in list(self.running):
            while sequence.pages and sequence.pages_missing:
                page = self.pool.take(1)
                if page is None:
                    self._preempt(self.running[-1])
                else:
                    sequence.pages += page

    def _preempt(self, sequence: Running) -> None:
        self.running.remove(sequence)
        self._give_back_pages(sequence)
        sequence.cached = 0
        self.waiting.appendleft(sequence)
        self.preemptions_total += 1

    def _admit(self) -> None:
        """First come, first served, while a page is left over for each running sequence to grow by."""
        while self.waiting and len(self.running) < self._limits.max_sequences:
            sequence = self.waiting[0]
            if sequence.pages_missing + len(self.running) > self.pool.free:
                return
            sequence.pages = self.pool.take(sequence.pages_missing) or ()
            self.running.append(self.waiting.popleft())

    def _read_prompts(self, step: Step, budget: int) -> None:
        reading = [sequence for sequence in self.running if not sequence.decodes]
        for sequence in reading:
            for chunk in _chunks(sequence):
                if len(chunk.tokens) > budget:
                    return
                budget -= len(chunk.tokens)
                step.slices.append(chunk)
                step.owners.append(sequence)

    def _let_go(self, sequence: Running) -> None:
        sequence.gone = True
        self._give_back_pages(sequence)

    def _give_back_pages(self, sequence: Running) -> None:
        self.pool.give_back(sequence.pages)
        sequence.pages = ()


def _chunks(sequence: Running) -> Iterator[Slice]:
    """What is unread, cut at multiples of PAGE_TOKENS.

    Chunks of one step may follow each other: the model stores the whole batch's keys before it attends.
    """
    at = sequence.cached
    while at < len(sequence.tokens):
        end = min(at - at % PAGE_TOKENS + PAGE_TOKENS, len(sequence.tokens))
        yield Slice(sequence.tokens[at:end], at, sequence.pages)
        at = end
