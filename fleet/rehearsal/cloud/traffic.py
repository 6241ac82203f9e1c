"""Calls to the emulated AWS: counted by operation, and throttled where that is asked for.

AWS throttles by token buckets: a burst, then so many calls a second ("Request throttling for the Amazon EC2
API"). What it answers then differs by protocol; botocore takes each for throttling and tries again.
"""

from __future__ import annotations

import io
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

_App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_QUERY = (
    "<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate exceeded</Message></Error>"
    "<RequestId>throttled</RequestId></ErrorResponse>"
)
_EC2 = (
    "<Response><Errors><Error><Code>RequestLimitExceeded</Code><Message>Request limit exceeded.</Message>"
    "</Error></Errors><RequestID>throttled</RequestID></Response>"
)
_JSON = '{"__type": "ThrottlingException", "message": "Rate exceeded"}'


@dataclass(frozen=True)
class Limit:
    """Of one operation: `burst` calls at once, then `per_second`."""

    burst: float
    per_second: float


@dataclass
class _Bucket:
    limit: Limit
    tokens: float
    filled_at: float

    def take(self, now: float) -> bool:
        filled = self.tokens + (now - self.filled_at) * self.limit.per_second
        self.tokens, self.filled_at = min(self.limit.burst, filled), now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class Traffic:
    """`clock` gives seconds, from anywhere."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, _Bucket] = {}
        self._calls: Counter[str] = Counter()
        self._throttled: Counter[str] = Counter()

    def limit(self, limits: Mapping[str, Limit]) -> None:
        """By operation, as DescribeInstances; others have none."""
        now = self._clock()
        with self._lock:
            self._buckets = {name: _Bucket(limit, limit.burst, now) for name, limit in limits.items()}

    def forget(self) -> None:
        """Count anew."""
        with self._lock:
            self._calls.clear()
            self._throttled.clear()

    @property
    def calls(self) -> Counter[str]:
        """Calls by operation, throttled ones among them."""
        with self._lock:
            return self._calls.copy()

    @property
    def throttled(self) -> Counter[str]:
        with self._lock:
            return self._throttled.copy()

    def around(self, app: _App) -> _App:
        def counted(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = io.BytesIO(body)
            if self._admit(operation_of(environ, body)):
                return app(environ, start_response)
            status, kind, text = _refusal(environ, body)
            start_response(status, [("Content-Type", kind), ("Content-Length", str(len(text)))])
            return [text]

        return counted

    def _admit(self, operation: str) -> bool:
        with self._lock:
            self._calls[operation] += 1
            bucket = self._buckets.get(operation)
            if bucket is None or bucket.take(self._clock()):
                return True
            self._throttled[operation] += 1
            return False


def operation_of(environ: Mapping[str, Any], body: bytes) -> str:
    """AWS's name of the operation; method and path where the protocol has none."""
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        return str(target).rpartition(".")[2]
    if body.startswith(b"Action=") or b"&Action=" in body:
        return parse_qs(body.decode())["Action"][0]
    return f"{environ.get('REQUEST_METHOD')} {environ.get('PATH_INFO')}"


def _refusal(environ: Mapping[str, Any], body: bytes) -> tuple[str, str, bytes]:
    if environ.get("HTTP_X_AMZ_TARGET"):
        return "400 Bad Request", "application/x-amz-json-1.0", _JSON.encode()
    if b"Version=2016-11-15" in body:
        return "503 Service Unavailable", "text/xml", _EC2.encode()
    return "400 Bad Request", "text/xml", _QUERY.encode()
