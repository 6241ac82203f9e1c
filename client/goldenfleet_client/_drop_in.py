"""What both clients of text_generation.py share: requests, answers and errors as text_generation has them."""

from __future__ import annotations

import random as chance
import ssl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import aiohttp
import requests
from text_generation.errors import parse_error
from text_generation.types import (
    ChatComplete,
    ChatCompletionChunk,
    ChatRequest,
    Parameters,
    Response,
    StreamResponse,
)
from text_generation.types import Request as TgiRequest

from . import errors
from ._addresses import Resolver, system_resolver
from ._calls import Request
from ._plan import Call, Means, Script, relay, unary
from ._retry import RetryBudget
from ._tgi import ChatAccount, TokenAccount, chat, seeded, whole
from ._transcript import Account
from ._wire import Endpoint, header_value
from .types import Event, EventHook, RetryPolicy, Timeouts

T = TypeVar("T")

# Where text_generation sets no limit: a day.
NO_LIMIT_S = 86_400.0


def _ignore(_event: Event) -> None:
    return None


class Calls:
    """What both clients share; no I/O. Headers, cookies and the timeout are read at each call, as there."""

    def __init__(
        self,
        base_url: str,
        headers: dict[str, str] | None = None,
        cookies: dict[str, str] | None = None,
        timeout: float | None = 10,
        *,
        retry: RetryPolicy | None = None,
        on_event: EventHook = _ignore,
        verify: ssl.SSLContext | bool = True,
        resolver: Resolver = system_resolver,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = chance.random,
    ) -> None:
        self.base_url = base_url
        self.headers = headers
        self.cookies = cookies
        self.timeout = timeout
        self._endpoint = Endpoint(base_url, resolver, clock, random)
        self._tls = self._endpoint.tls(verify)
        self._budget = RetryBudget(clock)
        self._policy = retry or RetryPolicy()
        self._on_event = on_event
        self._clock = clock
        self._random = random
        self._open()

    def _open(self) -> None:
        """The client's own connections."""

    def _means(self, timeouts: Timeouts) -> Means:
        return Means(
            clock=self._clock,
            today=lambda: datetime.now(UTC),
            random=self._random,
            budget=self._budget,
            policy=self._policy,
            timeouts=timeouts,
            headers=self._request_headers(),
            request_id=uuid.uuid4().hex,
        )

    def _request_headers(self) -> dict[str, str]:
        given = {name.lower(): header_value(name, value) for name, value in (self.headers or {}).items()}
        if self.cookies:
            pairs = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            given["cookie"] = header_value("cookies", pairs)
        return {"content-type": "application/json", "accept-encoding": "identity", **given}

    def _whole(self, request: Request, parse: Callable[[Any], T], timeouts: Timeouts) -> Script[T]:
        return unary(self._means(timeouts), request, lambda answer, _call: _understood(parse, answer))

    def _streamed(self, account: Account, timeouts: Timeouts) -> Script[None]:
        return relay(Call(self._means(timeouts)), account)

    def _generation(self, arguments: dict[str, Any], timeouts: Timeouts) -> Script[Response]:
        request = _generation(arguments, stream=False)
        return self._whole(whole(request), lambda answer: Response(**answer[0]), timeouts)

    def _tokens(self, arguments: dict[str, Any], timeouts: Timeouts) -> Script[None]:
        request = _generation(arguments, stream=True)
        parameters = seeded(request["parameters"], self._random())
        return self._streamed(TokenAccount(request["inputs"], parameters, StreamResponse), timeouts)

    def _chat(self, arguments: dict[str, Any], timeouts: Timeouts) -> Script[ChatComplete]:
        return self._whole(
            chat(_chat(arguments), stream=False), lambda answer: ChatComplete(**answer), timeouts
        )

    def _chunks(self, arguments: dict[str, Any], timeouts: Timeouts) -> Script[None]:
        return self._streamed(ChatAccount(chat(_chat(arguments), stream=True), ChatCompletionChunk), timeouts)


def _understood(parse: Callable[[Any], T], answer: Any) -> T:
    """Raises ValueError for an answer that is not TGI's."""
    try:
        return parse(answer)
    except (TypeError, LookupError) as exc:
        raise ValueError(f"not an answer of TGI's: {exc}") from exc


def _generation(arguments: dict[str, Any], *, stream: bool) -> dict[str, Any]:
    """A request's JSON from the arguments of a method. Raises text_generation's ValidationError."""
    asked = {name: value for name, value in arguments.items() if name not in ("self", "prompt")}
    asked["stop"] = asked.pop("stop_sequences") or []
    parameters = Parameters(details=True, **asked)
    return _json(TgiRequest(inputs=arguments["prompt"], stream=stream, parameters=parameters))


def _chat(arguments: dict[str, Any]) -> dict[str, Any]:
    asked = {name: value for name, value in arguments.items() if name != "self"}
    return _json(ChatRequest(model="tgi", **asked))


def _json(model: Any) -> dict[str, Any]:
    made = model.model_dump(mode="json")
    assert isinstance(made, dict)
    return made


def _refusal(error: errors.ServiceError) -> Exception:
    """What text_generation raises for such an answer, which it takes for an object with `error`."""
    envelope = error.envelope
    payload = envelope if isinstance(envelope, Mapping) and "error" in envelope else {"error": str(error)}
    refused: Exception = parse_error(error.status or 200, payload)
    return refused


@contextmanager
def as_requests() -> Iterator[None]:
    """Raises what text_generation's sync client raises: its own errors, and requests'."""
    try:
        yield
    except errors.ServiceError as exc:
        raise _refusal(exc) from exc
    except errors.DeadlineExceeded as exc:
        raise requests.exceptions.ReadTimeout(str(exc)) from exc
    except errors.StreamTruncated as exc:
        raise _truncated(exc, requests.exceptions.ChunkedEncodingError) from exc
    except errors.ConnectionFailed as exc:
        raise requests.exceptions.ConnectionError(str(exc)) from exc


@contextmanager
def as_aiohttp() -> Iterator[None]:
    """Raises what text_generation's async client raises: its own errors, and aiohttp's."""
    try:
        yield
    except errors.ServiceError as exc:
        raise _refusal(exc) from exc
    except errors.DeadlineExceeded as exc:
        raise TimeoutError(str(exc)) from exc
    except errors.StreamTruncated as exc:
        raise _truncated(exc, aiohttp.ClientPayloadError) from exc
    except errors.ConnectionFailed as exc:
        raise aiohttp.ClientConnectionError(str(exc)) from exc


def _truncated(exc: errors.StreamTruncated, broken: type[Exception]) -> Exception:
    """The service's last word where it had one, else a broken body."""
    if isinstance(exc.envelope, Mapping) and "error" in exc.envelope:
        said: Exception = parse_error(200, exc.envelope)
        return said
    return broken(str(exc))
