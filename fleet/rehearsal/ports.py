"""Ports that must be free before anything starts."""

from __future__ import annotations

import errno
import socket

from fleet.rehearsal.errors import PortInUseError, RehearsalError

NODE_PORTS = (8080, 9090, 8000, 1338)  # serving, admin, engine, instance metadata
_NOBODYS = "127.255.255.254"


def check_nodes_can_listen(address: str = _NOBODYS) -> None:
    """Raise PortInUseError when something holds one of the nodes' ports on every address of this machine."""
    for port in NODE_PORTS:
        check_free(address, port, "Nodes need it on addresses of their own: stop what listens on 0.0.0.0.")


def check_free(
    host: str, port: int, hint: str = "Stop what listens there, or choose another with --port."
) -> None:
    """Raise PortInUseError when something listens on `host:port`, before anything of ours does."""
    with socket.socket() as probe:
        # As Envoy does: a port that only has closed connections left in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUseError(f"port {port} on {host} is in use", hint) from error
            raise RehearsalError(f"cannot listen on {host}:{port}: {error.strerror}") from error


def free_port(host: str) -> int:
    """A port of `host` that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port


def listens(host: str, port: int) -> bool:
    """Whether something accepts connections there now."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True
