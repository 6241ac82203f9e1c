"""Every error that the console raises on purpose.

GoldenfleetError
+-- ConsoleError
    +-- AddressRefused   not an address of this machine alone
    +-- PortTaken        somebody listens there already
"""

from __future__ import annotations

from fleet.errors import GoldenfleetError


class ConsoleError(GoldenfleetError):
    """The console cannot start as asked."""

    exit_code = 2


class AddressRefused(ConsoleError):
    """The address is not a loopback one."""


class PortTaken(ConsoleError):
    """The port cannot be had."""
