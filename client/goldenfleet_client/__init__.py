"""A client for Goldenfleet: retries inside a budget, and goes on with a stream that was cut."""

from ._async import AsyncStream
from ._calls import Message
from ._sync import Stream
from .client import AsyncClient, Client, Options
from .errors import (
    ConfigurationError,
    ConnectionFailed,
    DeadlineExceeded,
    GoldenfleetError,
    InvalidRequest,
    NotAuthorised,
    RateLimited,
    RequestRefused,
    ServerFailed,
    ServiceError,
    StreamTruncated,
)
from .types import (
    Chunk,
    Event,
    EventHook,
    GaveUp,
    Generation,
    Model,
    Resumed,
    Retried,
    RetryPolicy,
    Timeouts,
    Usage,
)

__all__ = [
    "AsyncClient",
    "AsyncStream",
    "Chunk",
    "Client",
    "ConfigurationError",
    "ConnectionFailed",
    "DeadlineExceeded",
    "Event",
    "EventHook",
    "GaveUp",
    "Generation",
    "GoldenfleetError",
    "InvalidRequest",
    "Message",
    "Model",
    "NotAuthorised",
    "Options",
    "RateLimited",
    "RequestRefused",
    "Resumed",
    "Retried",
    "RetryPolicy",
    "ServerFailed",
    "ServiceError",
    "Stream",
    "StreamTruncated",
    "Timeouts",
    "Usage",
]
