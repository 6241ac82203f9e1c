"""Every error that a load raises on purpose.

GoldenfleetError
+-- LoadError            a load cannot be made as asked
    +-- TraceError       a trace cannot be read
    +-- EndpointError    what was given is no endpoint
    +-- KeyRefusedError  the endpoint does not accept the key
    +-- ModelError       the endpoint does not serve that model, or none
"""

from __future__ import annotations

from fleet.errors import GoldenfleetError


class LoadError(GoldenfleetError):
    """A load cannot be made as asked."""


class TraceError(LoadError):
    """A trace cannot be read; the message names the line."""


class EndpointError(LoadError):
    """What was given is no endpoint."""

    exit_code = 2


class KeyRefusedError(LoadError):
    """The endpoint does not accept the key, or there is none."""

    exit_code = 3


class ModelError(LoadError):
    """The endpoint does not serve that model, or none."""

    exit_code = 6
