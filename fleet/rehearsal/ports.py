"""Ports that must be free before anything starts."""

from __future__ import annotations

import errno
import socket

from fleet.rehearsal.errors import PortInUseError, RehearsalError


def check_free(host: str, port: int) -> None:
    """Raise PortInUseError when something listens on `host:port`, before anything of ours does."""
    with socket.socket() as probe:
        # As Envoy does: a port that only has closed connections left in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUseError(
                    f"port {port} on {host} is in use",
                    "Stop what listens there, or choose another with --port.",
                ) from error
            raise RehearsalError(f"cannot listen on {host}:{port}: {error.strerror}") from error
