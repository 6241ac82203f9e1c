"""The engine: a task that steps the scheduler while the model computes in a thread of its own.

Everything but the model's arithmetic happens on the event loop, so nothing needs a lock.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from server.engine.config import PAGE_TOKENS, Limits, ModelShape
from server.engine.detokenizer import Delta, Detokenizer
from server.engine.errors import EngineError, EngineStoppedError, RequestError
from server.engine.model import Model
from server.engine.pages import pages_for
from server.engine.sampling import Sampling
from server.engine.scheduler import Running, Scheduler
from server.engine.weights import TrainedModel


@dataclass(frozen=True)
class Prompt:
    """What to generate. `max_tokens` None means as much as the context holds."""

    token_ids: tuple[int, ...]
    max_tokens: int | None = None
    sampling: Sampling = field(default_factory=Sampling)
    stops: tuple[str, ...] = ()
    ignore_end: bool = False


@dataclass(frozen=True)
class Load:
    """How busy the engine is now, and what it has done since it started."""

    running: int
    waiting: int
    page_share: float
    pages_free: int
    prompt_tokens_total: int
    generated_tokens_total: int
    preemptions_total: int


class Generation:
    """One answer as it is written. Iterate once; raises EngineStoppedError when the engine ends before it."""

    def __init__(self, scheduler: Scheduler, sequence: Running, deltas: asyncio.Queue[Delta | None]) -> None:
        self._scheduler = scheduler
        self._sequence = sequence
        self._deltas = deltas

    async def __aiter__(self) -> AsyncIterator[Delta]:
        while True:
            delta = await self._deltas.get()
            if delta is None:
                raise EngineStoppedError(
                    "the engine stopped before the answer was finished; ask another node"
                )
            yield delta
            if delta.finish_reason is not None:
                return

    def cancel(self) -> None:
        """Frees the pages now. Idempotent; a finished answer is left as it is."""
        if not self._sequence.gone:
            self._scheduler.cancel(self._sequence)
            self._deltas.put_nowait(None)


class Engine:
    def __init__(self, trained: TrainedModel, limits: Limits) -> None:
        """Raises EngineError for limits under which some request could never run."""
        check(limits, trained.shape)
        self.shape = trained.shape
        self.tokenizer = trained.tokenizer
        self._model = Model(trained.shape, trained.weights, limits.pages)
        self._scheduler = Scheduler(limits)
        self._live: weakref.WeakSet[Generation] = weakref.WeakSet()
        self._work = asyncio.Event()
        self.stopped = False

    async def run(self) -> None:
        """Step until cancelled. However it ends, whoever waits for an answer is told."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix="model") as worker:
            try:
                while True:
                    await self._work.wait()
                    step = self._scheduler.plan()
                    if not step.slices:
                        self._work.clear()
                        continue
                    logits = await loop.run_in_executor(worker, self._model.forward, step.slices)
                    self._scheduler.apply(step, logits)
            finally:
                self.stopped = True
                for generation in list(self._live):
                    generation.cancel()

    def generate(self, prompt: Prompt) -> Generation:
        """Raises RequestError when prompt and answer exceed the context, EngineStoppedError after the end."""
        if self.stopped:
            raise EngineStoppedError("the engine has stopped; ask another node")
        deltas: asyncio.Queue[Delta | None] = asyncio.Queue()
        sequence = Running(
            prompt=prompt.token_ids,
            max_tokens=fitting_max_tokens(prompt, self.shape.context),
            sampling=prompt.sampling,
            detokenizer=Detokenizer(self.tokenizer, prompt.token_ids, prompt.stops),
            deliver=deltas.put_nowait,
            ignore_end=prompt.ignore_end,
        )
        generation = Generation(self._scheduler, sequence, deltas)
        self._live.add(generation)
        self._scheduler.add(sequence)
        self._work.set()
        return generation

    def load(self) -> Load:
        scheduler = self._scheduler
        return Load(
            running=len(scheduler.running),
            waiting=len(scheduler.waiting),
            page_share=scheduler.pool.used_share,
            pages_free=scheduler.pool.free,
            prompt_tokens_total=scheduler.prompt_tokens_total,
            generated_tokens_total=scheduler.generated_tokens_total,
            preemptions_total=scheduler.preemptions_total,
        )


def fitting_max_tokens(prompt: Prompt, context: int) -> int:
    length = len(prompt.token_ids)
    if prompt.max_tokens is None and length < context:
        return context - length
    wanted = prompt.max_tokens or 1
    if length + wanted > context:
        raise too_long(f"at least {length} in the prompt and {wanted} in the answer", context)
    return wanted


def too_long(asked: str, context: int) -> RequestError:
    return RequestError(
        f"This model's maximum context length is {context} tokens, but you asked for {asked}. "
        "Shorten the prompt or lower max_tokens.",
        code="context_length_exceeded",
        param="prompt",
    )


def check(limits: Limits, shape: ModelShape) -> None:
    """Every request that fits the context must be able to run alone, and prompts beside a full batch."""
    least_pages = pages_for(shape.context)
    least_batch = limits.max_sequences + PAGE_TOKENS
    if limits.max_sequences < 1:
        raise EngineError("max-sequences must be at least 1")
    if limits.pages < least_pages:
        raise EngineError(f"pages must be at least {least_pages}, or the longest request never fits")
    if limits.max_batch_tokens < least_batch:
        raise EngineError(
            f"max-batch-tokens must be at least max-sequences + {PAGE_TOKENS} = {least_batch}, "
            "or prompts wait for ever while the batch is full"
        )
