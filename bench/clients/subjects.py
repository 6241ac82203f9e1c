"""The clients that are compared, each as its makers' documentation has it used."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import goldenfleet_client as ours

from bench.frames import MODEL
from bench.gateways import KEY

# As docs/clients.md tells users of the OpenAI SDK.
SDK_RETRIES = 6
SDK_CONNECT_S, SDK_READ_S = 5.0, 45.0
# Longer than any answer here takes, so that no loss is a limit of the comparison's own.
_LIMIT_S = 120.0


class Subject(Protocol):
    """One client. `resumed` counts streams that it continued."""

    resumed: int

    async def whole(self, prompt: str, tokens: int) -> str:
        """The text of an answer. Raises whatever the client raises."""

    def stream(self, prompt: str, tokens: int) -> AsyncIterator[str]:
        """The pieces of an answer, an empty one when it has begun. Raises whatever the client raises."""

    async def aclose(self) -> None: ...


@dataclass(frozen=True)
class Kind:
    """A row of the table, and how its subject is made for a base URL."""

    name: str
    make: Callable[[str], Subject]


def _messages(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


class OpenAi:
    """Chat by the OpenAI SDK; `settings` go to its client."""

    resumed = 0

    def __init__(self, base_url: str, **settings: Any) -> None:
        import openai

        self._client = openai.AsyncOpenAI(base_url=f"{base_url}/v1", api_key=KEY, **settings)

    def _ask(self, prompt: str, tokens: int, *, stream: bool) -> Any:
        asked: dict[str, Any] = {"model": MODEL, "messages": _messages(prompt), "max_tokens": tokens}
        return self._client.chat.completions.create(**asked, temperature=0, stream=stream)

    async def whole(self, prompt: str, tokens: int) -> str:
        answer = await self._ask(prompt, tokens, stream=False)
        return answer.choices[0].message.content or ""

    async def stream(self, prompt: str, tokens: int) -> AsyncIterator[str]:
        stream = await self._ask(prompt, tokens, stream=True)
        yield ""
        async with stream:
            async for chunk in stream:
                yield chunk.choices[0].delta.content or "" if chunk.choices else ""

    async def aclose(self) -> None:
        await self._client.close()


def _openai_as_told(base_url: str) -> Subject:
    import httpx2

    timeout = httpx2.Timeout(600.0, connect=SDK_CONNECT_S, read=SDK_READ_S)
    return OpenAi(base_url, max_retries=SDK_RETRIES, timeout=timeout)


class HuggingFaceHub:
    """Chat by huggingface_hub, which does not retry inference."""

    resumed = 0

    def __init__(self, base_url: str) -> None:
        from huggingface_hub import AsyncInferenceClient

        self._client: Any = AsyncInferenceClient(base_url=base_url, api_key=KEY, timeout=_LIMIT_S)

    async def whole(self, prompt: str, tokens: int) -> str:
        answer = await self._client.chat_completion(_messages(prompt), max_tokens=tokens, temperature=0)
        return answer.choices[0].message.content or ""

    async def stream(self, prompt: str, tokens: int) -> AsyncIterator[str]:
        stream = await self._client.chat_completion(
            _messages(prompt), max_tokens=tokens, temperature=0, stream=True
        )
        yield ""
        async for chunk in stream:
            yield chunk.choices[0].delta.content or "" if chunk.choices else ""

    async def aclose(self) -> None:
        # It closes sessions side by side, and looks for some that a stream that broke off closes meanwhile.
        with suppress(KeyError):
            await self._client.close()


class TextGeneration:
    """Completions in TGI's format, by `client`: text_generation's, or ours in its place."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.resumed = 0

    def count(self, event: ours.Event) -> None:
        self.resumed += isinstance(event, ours.Resumed)

    async def whole(self, prompt: str, tokens: int) -> str:
        answer = await self._client.generate(prompt, max_new_tokens=tokens)
        return str(answer.generated_text)

    async def stream(self, prompt: str, tokens: int) -> AsyncIterator[str]:
        async with aclosing(self._client.generate_stream(prompt, max_new_tokens=tokens)) as pieces:
            async for piece in pieces:
                yield piece.token.text

    async def aclose(self) -> None:
        """Both open connections for each call alone."""


_HEADERS = {"authorization": f"Bearer {KEY}"}


def _text_generation(base_url: str) -> Subject:
    import text_generation

    return TextGeneration(text_generation.AsyncClient(base_url, headers=_HEADERS, timeout=int(_LIMIT_S)))


def _drop_in(base_url: str) -> Subject:
    from goldenfleet_client.text_generation import AsyncClient

    made = TextGeneration(None)
    made._client = AsyncClient(base_url, headers=_HEADERS, timeout=_LIMIT_S, on_event=made.count)
    return made


class Ours:
    """Chat by goldenfleet_client, as it is without settings."""

    def __init__(self, base_url: str) -> None:
        self._client = ours.AsyncClient(base_url, api_key=KEY, model=MODEL)
        self.resumed = 0

    async def whole(self, prompt: str, tokens: int) -> str:
        return (await self._client.chat(_messages(prompt), max_tokens=tokens, temperature=0.0)).text

    async def stream(self, prompt: str, tokens: int) -> AsyncIterator[str]:
        async with self._client.chat_stream(_messages(prompt), max_tokens=tokens, temperature=0.0) as stream:
            async for chunk in stream:
                yield chunk.text
        self.resumed += stream.result.resumes

    async def aclose(self) -> None:
        await self._client.aclose()


KINDS: Sequence[Kind] = (
    Kind("OpenAI SDK", OpenAi),
    Kind("OpenAI SDK, set as below", _openai_as_told),
    Kind("huggingface_hub", HuggingFaceHub),
    Kind("text_generation", _text_generation),
    Kind("goldenfleet_client.text_generation", _drop_in),
    Kind("goldenfleet_client", Ours),
)
