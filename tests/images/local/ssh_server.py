"""A real SSH server on a loopback port, that runs commands on this machine as a builder would."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko

from images.keys import KeyPair, make_key_pair
from images.remote import Login


class Server(paramiko.ServerInterface):
    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self._machine.logins += 1
        if self._machine.logins <= self._machine.denials:
            return paramiko.AUTH_FAILED
        return paramiko.AUTH_SUCCESSFUL

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self._machine.commands.append(command.decode())
        threading.Thread(target=self._machine.execute, args=(channel, command.decode())).start()
        return True


class Machine:
    """Denies the first `denials` logins; commands find `bin` first on their PATH."""

    def __init__(self, directory: Path, host: paramiko.PKey) -> None:
        self.denials = 0
        self.logins = 0
        self.commands: list[str] = []
        self.user = make_key_pair()
        self._host_key = host
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._transports: list[paramiko.Transport] = []
        self._bin = directory / "bin"
        self._bin.mkdir()
        sudo = self._bin / "sudo"
        sudo.write_text('#!/bin/sh\n[ "$1" = -n ] && shift\nAS_ROOT=yes exec "$@"\n')
        sudo.chmod(0o755)
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    def login(self, host_key: str) -> Login:
        return Login("127.0.0.1", self._listener.getsockname()[1], "admin", self.user.private, host_key)

    def execute(self, channel: paramiko.Channel, command: str) -> None:
        environment = {"PATH": f"{self._bin}{os.pathsep}{os.defpath}"}
        process = subprocess.Popen(
            ["sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        threads = [
            threading.Thread(target=_feed, args=(channel, process.stdin)),
            threading.Thread(target=_carry, args=(process.stdout, channel.sendall)),
            threading.Thread(target=_carry, args=(process.stderr, channel.sendall_stderr)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads[1:]:
            thread.join()
        with contextlib.suppress(OSError):
            channel.send_exit_status(process.wait() % 256)
        channel.close()
        threads[0].join()

    def cut(self) -> None:
        """As if the machine vanished."""
        for transport in self._transports:
            transport.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join(20)
        self.cut()
        for transport in self._transports:
            transport.join(20)

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(peer)
            transport.add_server_key(self._host_key)
            self._transports.append(transport)
            with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
                transport.start_server(server=Server(self))


@contextlib.contextmanager
def running(directory: Path, host: paramiko.PKey) -> Iterator[Machine]:
    machine = Machine(directory, host)
    try:
        yield machine
    finally:
        machine.close()


def host_key(pair: KeyPair) -> paramiko.PKey:
    return paramiko.Ed25519Key.from_private_key(io.StringIO(pair.private.decode()))


def _feed(channel: paramiko.Channel, stdin: Any) -> None:
    with contextlib.suppress(OSError), stdin:
        while block := channel.recv(65536):
            stdin.write(block)
            stdin.flush()


def _carry(stream: Any, send: Any) -> None:
    with contextlib.suppress(OSError), stream:
        while block := stream.read1(65536):
            send(block)
