"""A shell on the machine being provisioned: Fabric, and the only place that knows it.

Exceptions of Fabric, Invoke and Paramiko become `images.errors.RemoteError`s here.
"""

from __future__ import annotations

import base64
import io
import logging
import shlex
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, Self

import fabric  # type: ignore[import-untyped]
import invoke.exceptions
import paramiko  # type: ignore[import-untyped]

from images.clock import Clock, SystemClock
from images.errors import (
    AuthenticationFailed,
    CommandFailed,
    CommandTimedOut,
    ConnectFailed,
    HostKeyMismatch,
)
from images.steps.command import Command, Facts, Upload
from images.steps.facts import ASK, parse

CONNECT_TIMEOUT_S = 15.0
BANNER_TIMEOUT_S = 60.0
"""A machine that just booted on a busy host says its name late."""
KEEPALIVE_S = 15
OUTPUT_LIMIT_CHARACTERS = 4 * 1024 * 1024
"""Of each stream; a command that prints more goes on, and the rest is dropped."""
_PAUSE_S = 0.5
_GRACE_S = 30.0
_KILL_AFTER_S = 10
_TIMED_OUT_EXITS = (124, 137)
_SHOWN = 2000

# Paramiko logs every refused attempt with its stack, which without a handler ends up on stderr.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Output:
    stdout: str
    stderr: str
    exit: int


class Remote(Protocol):
    """A machine that takes commands."""

    def run(self, command: Command, *, check: bool = True) -> Output:
        """Raises CommandFailed for an exit status other than 0, unless told not to `check`."""
        ...

    def put(self, upload: Upload) -> None: ...

    def facts(self) -> Facts: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Login:
    """Where a machine is reached, and how it and we prove who we are."""

    host: str
    port: int
    user: str
    private_key: bytes
    host_key: str
    """The only key that the machine may show, `ssh-ed25519 AAAA...`: its user data put it there."""
    proxy_command: str | None = None
    """A command whose stdin and stdout are the way to the machine, where it has no ingress."""


def connect(login: Login, deadline: float, clock: Clock | None = None) -> SshRemote:
    """Log in as soon as the machine lets us; `deadline` is in the clock's seconds since the epoch.

    A denied login may be user data that was not run yet, so it is tried again like a refused connection.
    Another host key than the pinned one is final. Raises ConnectFailed, AuthenticationFailed or
    HostKeyMismatch.
    """
    clock = clock or SystemClock()
    while True:
        try:
            return SshRemote(_opened(login))
        except (ConnectFailed, AuthenticationFailed) as exc:
            if clock.now() >= deadline:
                raise type(exc)(f"{exc.message}; gave up at the deadline", exc.hint) from exc
            clock.sleep(_PAUSE_S)


class SshRemote:
    """A Remote over one SSH connection."""

    def __init__(self, connection: PinnedConnection) -> None:
        self._connection = connection

    def run(self, command: Command, *, check: bool = True) -> Output:
        for attempt in range(command.retries + 1):
            output = self._run_once(command)
            if output.exit == 0:
                return output
            if output.exit in _TIMED_OUT_EXITS:
                raise _timed_out(command)
            if attempt == command.retries and not check:
                return output
        raise _failed(command, output)

    def put(self, upload: Upload) -> None:
        """Through `cat` and not SFTP, whose every 32 KiB wait for an answer when both ends are busy."""
        target, part = shlex.quote(upload.target), shlex.quote(f"{upload.target}.part")
        line = f"cat > {part} && chmod {upload.mode:o} {part} && mv -f {part} {target}"
        try:
            with upload.source.open("rb") as content:
                self._run(_as_root(line), content, upload.timeout_s, f"upload of {upload.source.name}")
        except OSError as exc:
            raise CommandFailed(f"cannot read {upload.source}: {exc.strerror}") from exc

    def facts(self) -> Facts:
        return parse(self.run(ASK).stdout)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run_once(self, command: Command) -> Output:
        line = _as_root(command.line) if command.sudo else command.line
        return self._run(line, io.BytesIO(command.stdin or b""), command.timeout_s, command.line)

    def _run(self, line: str, stdin: io.BufferedIOBase, timeout_s: float, name: str) -> Output:
        bounded = f"timeout --kill-after={_KILL_AFTER_S} {timeout_s:g} sh -c {shlex.quote(line)}"
        with _translated(name, timeout_s):
            result = self._connection.run(
                bounded,
                in_stream=stdin,
                hide=True,
                warn=True,
                encoding="utf-8",
                timeout=timeout_s + _KILL_AFTER_S + _GRACE_S,
            )
        if result.return_code < 0:
            raise ConnectFailed(
                f"the connection broke during: {_short(name)}", "look at the machine's console"
            )
        return Output(result.stdout, result.stderr, result.return_code)


class _Pinned(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
    """For a machine that shows no key of the pinned type at all."""

    def missing_host_key(self, _client: Any, hostname: str, _key: Any) -> None:
        raise _mismatch(hostname)


class _Streaming(fabric.runners.Remote):  # type: ignore[misc]
    """Invoke feeds stdin one character per 10 ms and keeps all output; here blocks, and up to a limit."""

    def handle_stdin(self, input_: io.BufferedIOBase, output: object, echo: bool = False) -> None:  # noqa: ARG002
        try:
            while block := input_.read(256 * 1024):
                self._write_proc_stdin(block)
            self.close_proc_stdin()
        except OSError:
            # The command ended without reading all of it: its exit status says whether that was right.
            return

    def read_proc_output(self, reader: Callable[[int], bytes]) -> Iterator[str]:
        left = OUTPUT_LIMIT_CHARACTERS
        for text in super().read_proc_output(reader):
            if left > 0:
                yield text[:left]
            left -= len(text)


class PinnedConnection(fabric.Connection):  # type: ignore[misc]
    """A Fabric connection to a machine whose host key is known beforehand."""

    def __init__(self, login: Login) -> None:
        super().__init__(
            login.host,
            user=login.user,
            port=login.port,
            gateway=login.proxy_command,
            connect_timeout=CONNECT_TIMEOUT_S,
            config=fabric.Config(overrides={"load_ssh_configs": False, "runners": {"remote": _Streaming}}),
            connect_kwargs={
                "pkey": paramiko.Ed25519Key.from_private_key(io.StringIO(login.private_key.decode())),
                "allow_agent": False,
                "look_for_keys": False,
                "banner_timeout": BANNER_TIMEOUT_S,
                "auth_timeout": BANNER_TIMEOUT_S,
            },
        )
        kind, encoded = login.host_key.split()[:2]
        name = login.host if login.port == 22 else f"[{login.host}]:{login.port}"
        self.client.set_missing_host_key_policy(_Pinned())
        key = paramiko.PKey.from_type_string(kind, base64.b64decode(encoded))
        self.client.get_host_keys().add(name, kind, key)


def _opened(login: Login) -> PinnedConnection:
    if login.proxy_command is None:
        _expect_banner(login.host, login.port)
    connection = PinnedConnection(login)
    with _translated(f"{login.user}@{login.host}:{login.port}", BANNER_TIMEOUT_S):
        connection.open()
    connection.transport.set_keepalive(KEEPALIVE_S)
    return connection


def _expect_banner(host: str, port: int) -> None:
    """A forwarded port takes connections before its machine listens: only SSH's own greeting counts."""
    try:
        with socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S) as probe:
            greeting = probe.recv(4)
    except OSError as exc:
        raise ConnectFailed(f"{host}:{port} cannot be reached: {exc}", _UNREACHABLE) from exc
    if greeting != b"SSH-":
        raise ConnectFailed(f"{host}:{port} does not speak SSH", _UNREACHABLE)


@contextmanager
def _translated(name: str, timeout_s: float) -> Iterator[None]:
    try:
        yield
    except paramiko.BadHostKeyException as exc:
        raise _mismatch(exc.hostname) from exc
    except paramiko.AuthenticationException as exc:
        raise AuthenticationFailed(
            f"{name} does not let us in: {exc}", "its user data has not put our key there; see its console"
        ) from exc
    except invoke.exceptions.CommandTimedOut as exc:
        raise CommandTimedOut(f"took longer than {timeout_s:g} s: {_short(name)}") from exc
    except (paramiko.SSHException, EOFError, OSError, invoke.exceptions.ThreadException) as exc:
        raise ConnectFailed(f"{_short(name)}: {str(exc) or type(exc).__name__}", _UNREACHABLE) from exc


_UNREACHABLE = "the machine may be booting, or gone: look at its console"


def _as_root(line: str) -> str:
    return f"sudo -n sh -c {shlex.quote(line)}"


def _mismatch(host: str) -> HostKeyMismatch:
    return HostKeyMismatch(
        f"{host} shows another host key than the one that its user data gave it",
        "it is not the machine that was started here: do not log in; discard the run and start again",
    )


def _timed_out(command: Command) -> CommandTimedOut:
    return CommandTimedOut(f"took longer than {command.timeout_s:g} s: {_short(command.line)}")


def _failed(command: Command, output: Output) -> CommandFailed:
    said = "its output is secret" if command.secret else (output.stderr or output.stdout)[-_SHOWN:].strip()
    return CommandFailed(f"exit {output.exit} of: {_short(command.line)}\n{said}")


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
