from __future__ import annotations

import socket

import pytest

from fleet.rehearsal.errors import PortInUseError, RehearsalError
from fleet.rehearsal.ports import NODE_PORTS, check_free, check_nodes_can_listen, free_port, listens

ADDRESS = "127.201.7.7"  # nobody else's in these tests


def test_in_use() -> None:
    """A port that someone listens on is refused, by number."""
    with socket.create_server((ADDRESS, 0)) as taken:
        port = taken.getsockname()[1]
        assert listens(ADDRESS, port)
        with pytest.raises(PortInUseError, match=f"{port} on {ADDRESS}"):
            check_free(ADDRESS, port)


def test_free() -> None:
    """A free port is free, even when closed connections of it are remembered."""
    port = free_port(ADDRESS)
    with socket.create_server((ADDRESS, port)) as server, socket.create_connection((ADDRESS, port)):
        server.accept()[0].close()
    check_free(ADDRESS, port)
    assert not listens(ADDRESS, port)


def test_not_ours() -> None:
    """An address that this machine does not have is an error, not a port in use."""
    with pytest.raises(RehearsalError, match=r"192\.0\.2\.1"):
        check_free("192.0.2.1", 80)


@pytest.mark.parametrize("port", NODE_PORTS)
def test_node_port_taken_everywhere(port: int) -> None:
    """A node's port that is held on an address nobody uses is held on all of them."""
    with socket.create_server((ADDRESS, port)), pytest.raises(PortInUseError, match=str(port)):
        check_nodes_can_listen(ADDRESS)
