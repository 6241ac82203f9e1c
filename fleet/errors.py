"""Every error that `fleet` raises on purpose.

GoldenfleetError
+-- SettingsError        a setting is missing, unknown or impossible
+-- ImageMissingError    no usable image is published where a tier looks for one
"""

from __future__ import annotations

from typing import ClassVar


class GoldenfleetError(Exception):
    """What failed, and in `hint` what to do about it."""

    exit_code: ClassVar[int | None] = None
    """Of the process, where the kind of error decides it and not the command."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class SettingsError(GoldenfleetError):
    """Settings of a stack that cannot be used; the message names each of them."""


class ImageMissingError(GoldenfleetError):
    """The channel that a tier launches from points at no image that can be launched."""
