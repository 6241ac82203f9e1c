"""How a guest reaches the host, and the host a guest."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.machines import relay
from images.machines.hardware import Forward, Hardware
from images.machines.network import free_port, slirp
from images.machines.uml import programs


def hardware(tmp_path: Path, **changes: object) -> Hardware:
    return Hardware(disk=tmp_path / "disk.raw", directory=tmp_path, **changes)  # type: ignore[arg-type]


def test_forwards_listen_on_the_nodes_own_address_only(tmp_path: Path) -> None:
    """Two nodes may have the same ports on two loopback addresses."""
    found = slirp(
        hardware(tmp_path, address="127.0.16.4", forwards=(Forward(8080, 8080), Forward(9090, 9090)))
    )
    assert "hostfwd=tcp:127.0.16.4:8080-169.254.0.15:8080" in found
    assert "hostfwd=tcp:127.0.16.4:9090-169.254.0.15:9090" in found
    assert "0.0.0.0" not in found


def test_the_metadata_service_has_its_own_address_in_the_guest(tmp_path: Path) -> None:
    """169.254.169.254:80 leads to the address and port given, and nowhere without one."""
    found = slirp(hardware(tmp_path, metadata=("127.0.16.4", 1338)))
    assert "guestfwd=tcp:169.254.169.254:80-cmd:" in found
    assert found.endswith("relay.py 127.0.16.4 1338")
    assert "guestfwd" not in slirp(hardware(tmp_path))


def test_an_image_is_below_its_overlay(tmp_path: Path) -> None:
    """A node's writes go to its overlay; a builder's to the disk."""
    node = programs(hardware(tmp_path, overlay=True)).main.argv
    builder = programs(hardware(tmp_path)).main.argv
    assert f"ubd0={tmp_path}/overlay,{tmp_path}/disk.raw" in node
    assert f"ubd0={tmp_path}/disk.raw" in builder


def test_seeds_cannot_be_written_to(tmp_path: Path) -> None:
    """Further disks are read-only to the guest."""
    found = programs(hardware(tmp_path, read_only_disks=(tmp_path / "seed.iso", tmp_path / "more.iso"))).main
    assert f"ubd1r={tmp_path}/seed.iso" in found.argv
    assert f"ubd2r={tmp_path}/more.iso" in found.argv


def test_machines_are_told_no_environment_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials in our environment are not handed to the processes of a machine."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    found = programs(hardware(tmp_path))
    assert all(set(program.environment) <= {"TMPDIR"} for program in (found.main, *found.others))


@pytest.fixture
def echo() -> Iterator[int]:
    """A service that answers what it is told in capitals, until it is told no more."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            peer, _ = server.accept()
            with peer:
                while data := peer.recv(65536):
                    peer.sendall(data.upper())

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


def test_a_relay_carries_both_directions(echo: int) -> None:
    """What the guest says reaches the service whole, and its answer the guest."""
    guest = subprocess.Popen(
        [sys.executable, "-I", "-S", relay.__file__, "127.0.0.1", str(echo)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert guest.stdin is not None
    assert guest.stdout is not None
    guest.stdin.write(b"get " * 25_000)
    guest.stdin.flush()
    assert guest.stdout.read(100_000) == b"GET " * 25_000
    guest.stdin.close()
    assert guest.wait(10) == 0
    guest.stdout.close()


def test_a_relay_without_its_service_ends_with_an_error() -> None:
    """A guest that asks when nothing listens sees its connection closed."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", relay.__file__, "127.0.0.1", str(free_port())],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert done.returncode != 0
