"""`text_generation.Client` and `AsyncClient` for a fleet whose instances go: same calls, same types, same
errors, with this library's retries and resumes.

Replace `from text_generation import Client` by `from goldenfleet_client.text_generation import Client`.
Needs the extra `goldenfleet-client[text-generation]`.

`timeout` (seconds) means what it means there: to the sync client the longest silence, to the async one the
whole call. Retries take place within it. What a call raises is what text_generation's would have raised,
requests' and aiohttp's exceptions included; its `__cause__` is this library's own error, with the request id,
the attempts and what had arrived. Differences: a chat that is refused raises instead of streaming nothing;
proxies of the environment are not used.
"""

# Every parameter goes through locals(): the signatures are text_generation's, and a test compares them.

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any, TypeVar

from text_generation.types import (
    ChatComplete,
    ChatCompletionChunk,
    Grammar,
    Message,
    Response,
    StreamResponse,
    Tool,
)

from ._async import AsyncPools, AsyncRun, AsyncWire
from ._drop_in import NO_LIMIT_S, Calls, as_aiohttp, as_requests
from ._plan import Script
from ._sync import Pools, Run, Wire
from .types import Timeouts

__all__ = ["AsyncClient", "Client"]

T = TypeVar("T")


class Client(Calls):
    """See text_generation.Client. Threads may share one; connections are kept between calls."""

    def _open(self) -> None:
        self._pools = Pools(self._tls)
        # text_generation's has no close(), so nobody calls ours: connections go with the client.
        self.close = weakref.finalize(self, self._pools.close)

    def chat(
        self,
        messages: list[Message],
        repetition_penalty: float | None = None,
        frequency_penalty: float | None = None,
        logit_bias: list[float] | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        max_tokens: int | None = None,
        n: int | None = None,
        presence_penalty: float | None = None,
        stream: bool = False,
        seed: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        tools: list[Tool] | None = None,
        tool_choice: str | None = None,
    ) -> ChatComplete | Iterator[ChatCompletionChunk]:
        arguments = dict(locals())
        if stream:
            return self._each(self._chunks(arguments, self._silence))
        return self._only(self._chat(arguments, self._whole_answer))

    def generate(
        self,
        prompt: str,
        do_sample: bool = False,
        max_new_tokens: int = 20,
        best_of: int | None = None,
        repetition_penalty: float | None = None,
        frequency_penalty: float | None = None,
        return_full_text: bool = False,
        seed: int | None = None,
        stop_sequences: list[str] | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        truncate: int | None = None,
        typical_p: float | None = None,
        watermark: bool = False,
        decoder_input_details: bool = False,
        top_n_tokens: int | None = None,
        grammar: Grammar | None = None,
    ) -> Response:
        return self._only(self._generation(dict(locals()), self._whole_answer))

    def generate_stream(
        self,
        prompt: str,
        do_sample: bool = False,
        max_new_tokens: int = 20,
        repetition_penalty: float | None = None,
        frequency_penalty: float | None = None,
        return_full_text: bool = False,
        seed: int | None = None,
        stop_sequences: list[str] | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        truncate: int | None = None,
        typical_p: float | None = None,
        watermark: bool = False,
        top_n_tokens: int | None = None,
        grammar: Grammar | None = None,
    ) -> Iterator[StreamResponse]:
        yield from self._each(self._tokens(dict(locals()), self._silence))

    def _only(self, script: Script[T]) -> T:
        with as_requests():
            run = self._run(script)
            run.advance()
        assert run.result is not None
        return run.result

    def _each(self, script: Script[None]) -> Iterator[Any]:
        run = self._run(script)
        try:
            with as_requests():
                while (piece := run.advance()) is not None:
                    yield piece
        finally:
            run.close()

    def _run(self, script: Script[T]) -> Run[T]:
        return Run(script, Wire(self._endpoint, self._pools), self._on_event)

    @property
    def _whole_answer(self) -> Timeouts:
        """An answer that does not stream is silent until it is there."""
        limit_s = NO_LIMIT_S if self.timeout is None else self.timeout
        return Timeouts(limit_s, limit_s, limit_s, limit_s)

    @property
    def _silence(self) -> Timeouts:
        limit_s = NO_LIMIT_S if self.timeout is None else self.timeout
        return Timeouts(limit_s, limit_s, limit_s, NO_LIMIT_S)


class AsyncClient(Calls):
    """See text_generation.AsyncClient. As there, connections last for one call: nothing is to be closed, and
    a client may serve several event loops."""

    async def chat(
        self,
        messages: list[Message],
        repetition_penalty: float | None = None,
        frequency_penalty: float | None = None,
        logit_bias: list[float] | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        max_tokens: int | None = None,
        n: int | None = None,
        presence_penalty: float | None = None,
        stream: bool = False,
        seed: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        tools: list[Tool] | None = None,
        tool_choice: str | None = None,
    ) -> ChatComplete | AsyncIterator[ChatCompletionChunk]:
        arguments = dict(locals())
        if stream:
            return self._each(self._chunks(arguments, self._limits))
        return await self._only(self._chat(arguments, self._limits))

    async def generate(
        self,
        prompt: str,
        do_sample: bool = False,
        max_new_tokens: int = 20,
        best_of: int | None = None,
        repetition_penalty: float | None = None,
        frequency_penalty: float | None = None,
        return_full_text: bool = False,
        seed: int | None = None,
        stop_sequences: list[str] | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        truncate: int | None = None,
        typical_p: float | None = None,
        watermark: bool = False,
        decoder_input_details: bool = False,
        top_n_tokens: int | None = None,
        grammar: Grammar | None = None,
    ) -> Response:
        return await self._only(self._generation(dict(locals()), self._limits))

    async def generate_stream(
        self,
        prompt: str,
        do_sample: bool = False,
        max_new_tokens: int = 20,
        repetition_penalty: float | None = None,
        frequency_penalty: float | None = None,
        return_full_text: bool = False,
        seed: int | None = None,
        stop_sequences: list[str] | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        truncate: int | None = None,
        typical_p: float | None = None,
        watermark: bool = False,
        top_n_tokens: int | None = None,
        grammar: Grammar | None = None,
    ) -> AsyncIterator[StreamResponse]:
        async with aclosing(self._each(self._tokens(dict(locals()), self._limits))) as each:
            async for response in each:
                yield response

    async def _only(self, script: Script[T]) -> T:
        async with aclosing(AsyncPools(self._tls)) as pools:
            with as_aiohttp():
                run = self._run(script, pools)
                await run.advance()
        assert run.result is not None
        return run.result

    async def _each(self, script: Script[None]) -> AsyncGenerator[Any, None]:
        async with aclosing(AsyncPools(self._tls)) as pools, aclosing(self._run(script, pools)) as run:
            with as_aiohttp():
                while (piece := await run.advance()) is not None:
                    yield piece

    def _run(self, script: Script[T], pools: AsyncPools) -> AsyncRun[T]:
        return AsyncRun(script, AsyncWire(self._endpoint, pools), self._on_event)

    @property
    def _limits(self) -> Timeouts:
        limit_s = NO_LIMIT_S if self.timeout is None else self.timeout
        return Timeouts(limit_s, limit_s, limit_s, limit_s)
