"""
What a call can raise:

* GoldenfleetError
  x ConfigurationError     the call itself is wrong; nothing was sent
  x ServiceError           the service answered, but not with what was asked for
    + RequestRefused       it will not do this
      - InvalidRequest     400, 404, 405, 413, 422
      - NotAuthorised      401, 403
      - RateLimited        429, after retries
    + ServerFailed         it could not, after retries
  x ConnectionFailed       no address answered, after retries
  x DeadlineExceeded       the call's own deadline passed
  x StreamTruncated        a stream was cut and could not be continued

Every one carries `request_id`, `attempts` and `text`: what had arrived when it was raised. `envelope` is the
service's own error as JSON, where the last attempt ended in one.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Where a call stood when it failed; `text` is what a stream had said by then."""

    request_id: str = ""
    attempts: int = 0
    text: str = ""
    envelope: object = None


class GoldenfleetError(Exception):
    """Anything this client raises on purpose."""

    def __init__(self, message: str, at: Circumstances | None = None) -> None:
        at = at or Circumstances()
        super().__init__(
            f"{message} (request {at.request_id}, attempts {at.attempts})" if at.attempts else message
        )
        self.request_id = at.request_id
        self.attempts = at.attempts
        self.text = at.text
        self.envelope = at.envelope


class ConfigurationError(GoldenfleetError):
    """The call cannot be made as it was asked for."""


class ServiceError(GoldenfleetError):
    """The service answered, but not with what was asked for. `status` is None for an error in a stream."""

    def __init__(
        self,
        message: str,
        at: Circumstances | None = None,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, at)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


class RequestRefused(ServiceError):
    """The service will not do this, however often it is asked."""


class InvalidRequest(RequestRefused):
    """The request itself is at fault: 400, 404, 405, 413 or 422."""


class NotAuthorised(RequestRefused):
    """The key is missing, unknown or lacks the right: 401 or 403."""


class RateLimited(RequestRefused):
    """429; `retry_after_s` is what the service asked for, where it did."""


class ServerFailed(ServiceError):
    """A 5xx answer, or an answer that makes no sense, on the last attempt."""


class ConnectionFailed(GoldenfleetError):
    """No answer came: refused, reset or silent on the last attempt."""


class DeadlineExceeded(GoldenfleetError):
    """The call's total time ran out."""


class StreamTruncated(GoldenfleetError):
    """A stream ended before its terminal event and could not be continued; `text` is its beginning."""


def for_status(status: int) -> type[ServiceError]:
    """The error for an HTTP status."""
    if status in (401, 403):
        return NotAuthorised
    if status == 429:
        return RateLimited
    if status in (400, 404, 405, 413, 422):
        return InvalidRequest
    return RequestRefused if status < 500 else ServerFailed
