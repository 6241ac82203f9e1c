"""
GoldenfleetError
+-- ControlError
    +-- AwsFailed        a call to AWS failed, after botocore's own retries; the notice is handled again
"""

from __future__ import annotations

from fleet.errors import GoldenfleetError


class ControlError(GoldenfleetError):
    """Anything the control handler raises on purpose."""


class AwsFailed(ControlError):
    """Throttled, unreachable or refused; `code` is AWS's, or the name of botocore's exception."""

    def __init__(self, operation: str, code: str, message: str) -> None:
        super().__init__(f"{operation} failed: {code}: {message}")
        self.operation = operation
        self.code = code
