"""Every error that asking raises on purpose, with the exit code of each.

GoldenfleetError
+-- AskError
    +-- NotAsked          2  there is no question, or no endpoint to put it to
    +-- KeyRefused        3  the endpoint does not accept the key, or wants one
    +-- ModelUnknown      6  the endpoint does not serve that model, or none
    +-- TimeUp            9  the answer was not there in time
    +-- NotAnswered       1  the endpoint does not answer, for any other reason
"""

from __future__ import annotations

from typing import ClassVar

from fleet.errors import GoldenfleetError


class AskError(GoldenfleetError):
    """Anything that asking raises on purpose."""

    exit_code: ClassVar[int | None] = 1


class NotAsked(AskError):
    """There is no question, or no endpoint to put it to."""

    exit_code = 2


class KeyRefused(AskError):
    """The endpoint does not accept the key, or wants one."""

    exit_code = 3


class ModelUnknown(AskError):
    """The endpoint does not serve that model, or none."""

    exit_code = 6


class TimeUp(AskError):
    """The answer was not there in time."""

    exit_code = 9


class NotAnswered(AskError):
    """The endpoint does not answer."""
