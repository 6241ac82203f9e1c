"""Every error that the on-call commands raise on purpose, with the exit code of each.

GoldenfleetError
+-- OnCallError
    +-- CredentialsRefused    3  there are no credentials, they have expired, or they do not allow this
    +-- AwsFailed             1  AWS did not do as asked, for any other reason
    +-- RegionUnknown         2  nothing says which region to ask
    +-- NotFound              6
    |   +-- StackUnknown         there is no such stack, or none at all
    |   +-- NodeUnknown          no node is called that
    |   +-- NothingKept          no rehearsal is kept on this machine
    +-- Ambiguous             2  several are meant, or none is named; the message lists them
    +-- NotConfirmed          2  nobody was there to ask
    |   +-- Declined          8  somebody said no
    |   +-- Stopped         130  somebody pressed Ctrl-C instead of an answer
    +-- Impossible            2  it cannot be done as asked
    +-- ProgramMissing        1  a program that this needs is not installed
"""

from __future__ import annotations

from typing import ClassVar

from fleet.errors import GoldenfleetError


def up(stack: str) -> str:
    """What makes a stack on AWS as the program says, asking the policies: Pulumi's own `up` asks none."""
    return f"goldenfleet up --stack {stack} --engine pulumi"


def bring_up(stack: str) -> str:
    """The hint where the program makes what is missing."""
    return f"Bring the stack up to date: {up(stack)}"


class OnCallError(GoldenfleetError):
    """Anything the on-call commands raise on purpose."""

    exit_code: ClassVar[int | None] = 1


class CredentialsRefused(OnCallError):
    """There are no credentials, they have expired, or they do not allow this."""

    exit_code = 3


class AwsFailed(OnCallError):
    """AWS did not do as asked; `code` is AWS's, or botocore's name of what went wrong."""

    def __init__(self, message: str, hint: str = "", code: str = "") -> None:
        super().__init__(message, hint)
        self.code = code


class RegionUnknown(OnCallError):
    """Nothing says which region to ask."""

    exit_code = 2


class NotFound(OnCallError):
    """What was named is not there."""

    exit_code = 6


class StackUnknown(NotFound):
    """There is no such stack, or none at all."""


class NodeUnknown(NotFound):
    """No node is called that."""


class NothingKept(NotFound):
    """No rehearsal is kept on this machine."""


class Ambiguous(OnCallError):
    """Several are meant, or none is named; the message lists them."""

    exit_code = 2


class NotConfirmed(OnCallError):
    """Nobody was there to ask."""

    exit_code = 2


class Declined(NotConfirmed):
    """Somebody said no."""

    exit_code = 8


class Stopped(NotConfirmed):
    """Somebody pressed Ctrl-C instead of an answer."""

    exit_code = 130


class Impossible(OnCallError):
    """It cannot be done as asked."""

    exit_code = 2


class ProgramMissing(OnCallError):
    """A program that this needs is not installed."""
