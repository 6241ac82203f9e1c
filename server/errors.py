"""What can go wrong in the server, and how each wire format says it.

    ServerError
    ├── SettingsError            settings, user data or tier config that cannot work: nothing starts
    ├── RequestRefused           an answer to the client: status, type and code in the wire's envelope
    │   ├── BadRequest           400  a field is missing, unknown or out of range
    │   ├── Unauthenticated      401  the same for every cause
    │   ├── Forbidden            403  a known sender without the route's scope
    │   ├── NotFound             404  no such route
    │   ├── ModelNotFound        404  no such model, or not for this sender: the two look alike
    │   ├── MethodNotAllowed     405  the route has other methods: see the header allow
    │   ├── RequestTooLarge      413  the body exceeds its bound
    │   ├── RateLimited          429  a limit of the key or its tenant
    │   ├── TooManyFailures      429  a peer that sent too many bad credentials
    │   ├── EngineRefused        4xx  the engine's own validation, passed on
    │   ├── ResumeUnsupported    in a stream: it was cut and cannot be continued faithfully
    │   ├── NodesFailed          502, 503  every attempt that was allowed has failed
    │   ├── NodeDraining         503  ask another node
    │   ├── EngineSilent         503  ask another node, and this one once its /health no longer says so
    │   ├── NoNodeReady          503  no node is ready
    │   ├── NotYetReady          503  this node cannot serve yet
    │   ├── Overloaded           503  no place before the deadline, or shed for a higher class
    │   └── DeadlineExceeded     504  the time that the request had is over
    ├── AttemptFailed            one node failed a request; another may be asked
    ├── WireError                an upstream's answer is not the engine's wire format
    │   └── EventTooLarge        one server-sent event exceeds its bound
    ├── DiscoveryFailed          the node set could not be read; the last good one stays
    ├── PartEnded                a part of the process that never ends has ended: so must the process
    ├── SecretUnreadable         a file, parameter or secret could not be read
    └── KeysUnusable             keys or key set that cannot be used; the last good ones stay

What a connection can do is in server/http/errors.py.
Engines' and libraries' exceptions are translated into these where they enter.
"""
# The names say what happened; an Error suffix on each would say nothing more.

import json
import math
from collections.abc import Iterable
from typing import Literal

from server.retry import Failure

# In which a node tells its gateways what becomes of it; `silent` is one whose engine does not answer.
STATE_HEADER = "x-goldenfleet-state"
SILENT = "silent"

Wire = Literal["openai", "tgi"]
HeaderList = list[tuple[bytes, bytes]]


class ServerError(Exception):
    """Base of every error that the server raises on purpose."""


class SettingsError(ServerError):
    """The process must not start with these settings."""


class RequestRefused(ServerError):
    """An answer to the client. `retry_after_ms` and `should_retry` become headers where they are set."""

    status: int = 500
    type: str = "server_error"
    code: str = "internal_error"
    tgi_type: str = "generation"
    closes: bool = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after_ms: int | None = None,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_ms = retry_after_ms
        self.should_retry = should_retry


class BadRequest(RequestRefused):
    status = 400
    type = "invalid_request_error"
    code = "invalid_request"
    tgi_type = "validation"


class NotFound(RequestRefused):
    status = 404
    type = "invalid_request_error"
    code = "not_found"
    tgi_type = "validation"


class MethodNotAllowed(RequestRefused):
    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"
    tgi_type = "validation"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class Unauthenticated(RequestRefused):
    """Which check failed is nobody's business, so every instance says the same."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"
    tgi_type = "validation"

    def __init__(self) -> None:
        super().__init__("A valid key is required: send it as `Authorization: Bearer KEY`.")


class Forbidden(RequestRefused):
    status = 403
    type = "permission_error"
    code = "insufficient_scope"
    tgi_type = "validation"


class ModelNotFound(NotFound):
    code = "model_not_found"

    def __init__(self) -> None:
        super().__init__("The model does not exist, or your key is not for it.", param="model")


class RateLimited(RequestRefused):
    """`headers` are the x-ratelimit-* ones."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    tgi_type = "overloaded"

    def __init__(self, message: str, *, retry_after_s: float, headers: HeaderList) -> None:
        super().__init__(message, retry_after_ms=min(60_000, max(1, math.ceil(retry_after_s * 1000))))
        self.headers = headers


class TooManyFailures(RequestRefused):
    status = 429
    type = "rate_limit_error"
    code = "too_many_failures"
    tgi_type = "overloaded"

    def __init__(self) -> None:
        super().__init__(
            "Too many requests with bad keys came from here; wait.", retry_after_ms=60_000, should_retry=False
        )


class RequestTooLarge(RequestRefused):
    status = 413
    type = "invalid_request_error"
    code = "body_too_large"
    tgi_type = "validation"
    closes = True


class EngineRefused(RequestRefused):
    """The engine refused the request itself: another node would say the same."""

    tgi_type = "validation"

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str,
        type: str,  # noqa: A002
        param: str | None = None,
    ) -> None:
        super().__init__(message, param=param)
        self.status = status
        self.code = code
        self.type = type


class ResumeUnsupported(RequestRefused):
    """Raised in the middle of a stream, so `status` is never sent."""

    status = 502
    code = "resume_unsupported"
    tgi_type = "incomplete_generation"


class NodesFailed(RequestRefused):
    code = "nodes_failed"

    def __init__(self, message: str, *, status: int = 502) -> None:
        # The attempts that are worth making were made here: a client's own would only add load.
        super().__init__(message, should_retry=False)
        self.status = status


class NodeDraining(RequestRefused):
    status = 503
    code = "node_draining"
    tgi_type = "overloaded"
    closes = True

    def __init__(self, message: str = "This node is draining; send the request again.") -> None:
        super().__init__(message, retry_after_ms=250, should_retry=True)


class EngineSilent(RequestRefused):
    status = 503
    code = "engine_silent"
    tgi_type = "overloaded"

    def __init__(self) -> None:
        super().__init__("This node's engine does not answer; send the request again.", should_retry=True)


class NoNodeReady(RequestRefused):
    status = 503
    code = "no_node_ready"
    tgi_type = "overloaded"


class NotYetReady(RequestRefused):
    status = 503
    code = "not_ready"
    tgi_type = "overloaded"


class Overloaded(RequestRefused):
    status = 503
    code = "overloaded"
    tgi_type = "overloaded"

    def __init__(self, *, retry_after_ms: int) -> None:
        super().__init__(
            "The fleet has more work than it can begin; try again later.",
            retry_after_ms=retry_after_ms,
            should_retry=True,
        )


class DeadlineExceeded(RequestRefused):
    status = 504
    code = "deadline_exceeded"


class AttemptFailed(ServerError):
    """One node failed a request. The message is for people, and is never sent to a client."""

    def __init__(self, failure: Failure, message: str) -> None:
        super().__init__(message)
        self.failure = failure


class WireError(ServerError):
    """An upstream's answer is not the engine's wire format."""


class EventTooLarge(WireError):
    """A server-sent event exceeds the bound on one event."""


class DiscoveryFailed(ServerError):
    """The node set could not be read."""


class PartEnded(ServerError):
    """Something that runs as long as the process does has ended."""


class SecretUnreadable(ServerError):
    """What a reference names could not be read. The message never holds what was read."""


class KeysUnusable(ServerError):
    """Keys, or a key set, that cannot be used. The message quotes neither a key nor its hash."""


def envelope(error: RequestRefused, wire: Wire, request_id: str | None = None) -> bytes:
    """The JSON body. `request_id` is for errors inside a stream, where no header can carry it."""
    body: dict[str, object]
    if wire == "tgi":
        body = {"error": error.message, "error_type": error.tgi_type}
        return _dump(body | ({"request_id": request_id} if request_id else {}))
    body = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return _dump({"error": body | ({"request_id": request_id} if request_id else {})})


def refusal_headers(error: RequestRefused) -> HeaderList:
    """Headers of a refusal besides x-request-id."""
    return list(_refusal_headers(error))


def _refusal_headers(error: RequestRefused) -> Iterable[tuple[bytes, bytes]]:
    yield b"content-type", b"application/json"
    yield b"cache-control", b"no-store"
    if error.retry_after_ms is not None:
        yield b"retry-after-ms", str(error.retry_after_ms).encode()
        # Whole seconds, for clients that know only the standard header; never over 60.
        yield b"retry-after", str(min(60, -(-error.retry_after_ms // 1000))).encode()
    if error.should_retry is not None:
        yield b"x-should-retry", b"true" if error.should_retry else b"false"
    if isinstance(error, RateLimited):
        yield from error.headers
    if isinstance(error, Unauthenticated):
        yield b"www-authenticate", b"Bearer"
    if isinstance(error, MethodNotAllowed):
        yield b"allow", error.allow.encode()
    if isinstance(error, NodeDraining):
        yield STATE_HEADER.encode(), b"draining"
    if isinstance(error, EngineSilent):
        yield STATE_HEADER.encode(), SILENT.encode()
    if error.closes:
        yield b"connection", b"close"


def _dump(body: object) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
