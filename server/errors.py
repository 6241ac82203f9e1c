"""What can go wrong in the server, and how each wire format says it.

    ServerError
    ├── SettingsError            settings, user data or tier config that cannot work: nothing starts
    ├── RequestRefused           an answer to the client: status, type and code in the wire's envelope
    │   ├── BadRequest           400
    │   │   ├── BadFraming       400  and the connection is closed
    │   │   └── ResumeUnsupported  in a stream: it was cut and cannot be continued faithfully
    │   ├── NotFound             404
    │   ├── MethodNotAllowed     405
    │   ├── HeadersTooSlow       408
    │   ├── BodyTooLarge         413
    │   ├── HeadersTooLarge      431
    │   ├── UpstreamRefused      4xx  the engine's own validation, passed on
    │   ├── UpstreamsFailed      502  every attempt that was allowed has failed
    │   ├── NodeDraining         503  ask another node
    │   ├── NotReady             503  no node is ready
    │   └── DeadlineExceeded     504
    ├── UpstreamError            one exchange with an upstream failed
    │   ├── ConnectFailed        nothing was sent: always safe to send elsewhere
    │   ├── ResponseLost         cut before the response head
    │   ├── BodyCut              cut inside the response body
    │   ├── UpstreamTimeout      silent for too long
    │   └── UpstreamMalformed    not HTTP, or not the engine's wire format
    ├── ClientGone               the client's connection is closed: there is nobody to answer
    ├── EventTooLarge            one server-sent event exceeds its bound
    └── DiscoveryFailed          the node set could not be read; the last good one stays

Engines' and libraries' exceptions are translated into these where they enter.
"""
# The names say what happened; an Error suffix on each would say nothing more.
# ruff: noqa: N818

import json
from collections.abc import Iterable
from typing import Literal

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


class BadFraming(BadRequest):
    code = "bad_framing"
    closes = True


class ResumeUnsupported(BadRequest):
    """Raised in the middle of a stream; `status` is only what the error would have been."""

    type = "server_error"
    code = "resume_unsupported"
    tgi_type = "incomplete_generation"


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


class HeadersTooSlow(RequestRefused):
    status = 408
    type = "invalid_request_error"
    code = "headers_too_slow"
    tgi_type = "validation"
    closes = True


class BodyTooLarge(RequestRefused):
    status = 413
    type = "invalid_request_error"
    code = "body_too_large"
    tgi_type = "validation"
    closes = True


class HeadersTooLarge(RequestRefused):
    status = 431
    type = "invalid_request_error"
    code = "headers_too_large"
    tgi_type = "validation"
    closes = True


class UpstreamRefused(RequestRefused):
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


class UpstreamsFailed(RequestRefused):
    status = 502
    code = "upstreams_failed"


class NodeDraining(RequestRefused):
    status = 503
    code = "node_draining"
    tgi_type = "overloaded"
    closes = True

    def __init__(self, message: str = "This node is draining; send the request again.") -> None:
        super().__init__(message, retry_after_ms=250, should_retry=True)


class NotReady(RequestRefused):
    status = 503
    code = "no_node_ready"
    tgi_type = "overloaded"


class DeadlineExceeded(RequestRefused):
    status = 504
    code = "deadline_exceeded"


class UpstreamError(ServerError):
    """One exchange with an upstream failed."""


class ConnectFailed(UpstreamError):
    """No connection, so nothing was sent."""


class ResponseLost(UpstreamError):
    """The upstream closed or reset before it sent a response head."""


class BodyCut(UpstreamError):
    """The upstream closed or reset inside the response body."""


class UpstreamTimeout(UpstreamError):
    """The upstream was silent for longer than allowed."""


class UpstreamMalformed(UpstreamError):
    """The upstream's answer is not HTTP or not the engine's wire format."""


class ClientGone(ServerError):
    """The client's connection is closed."""


class EventTooLarge(ServerError):
    """A server-sent event exceeds the bound on one event."""


class DiscoveryFailed(ServerError):
    """The node set could not be read."""


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
    if isinstance(error, MethodNotAllowed):
        yield b"allow", error.allow.encode()
    if isinstance(error, NodeDraining):
        yield b"x-goldenfleet-state", b"draining"
    if error.closes:
        yield b"connection", b"close"


def _dump(body: object) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
