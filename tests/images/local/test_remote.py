"""The shell on the machine being provisioned, against a real SSH server."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from images.errors import (
    AuthenticationFailed,
    CommandFailed,
    CommandTimedOut,
    ConnectFailed,
    HostKeyMismatch,
)
from images.keys import KeyPair, make_key_pair
from images.remote import OUTPUT_LIMIT_CHARACTERS, Login, SshRemote, connect
from images.steps import Command, Upload
from tests.images.local.ssh_server import Machine, host_key, running


class Hours:
    """A clock whose waiting takes no time."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture(scope="module")
def host() -> KeyPair:
    return make_key_pair()


@pytest.fixture
def machine(tmp_path: Path, host: KeyPair) -> Iterator[Machine]:
    with running(tmp_path, host_key(host)) as made:
        yield made


@pytest.fixture
def remote(machine: Machine, host: KeyPair) -> Iterator[SshRemote]:
    with connect(machine.login(host.public), deadline=10, clock=Hours()) as made:
        yield made


def test_another_host_key_is_final(machine: Machine) -> None:
    """A machine that shows another key of the pinned type is never logged in to, nor tried again."""
    clock = Hours()
    with pytest.raises(HostKeyMismatch, match="another host key"):
        connect(machine.login(make_key_pair().public), deadline=60, clock=clock)
    assert machine.logins == 0
    assert clock.now() == 0


def test_a_host_key_of_another_type_is_final(tmp_path: Path, host: KeyPair) -> None:
    """A machine without a key of the pinned type is not trusted on first use."""
    with (
        running(tmp_path, paramiko.ECDSAKey.generate()) as machine,
        pytest.raises(HostKeyMismatch, match="another host key"),
    ):
        connect(machine.login(host.public), deadline=60, clock=Hours())
    assert machine.logins == 0


def test_a_key_that_is_never_accepted_is_said_to_be_an_authentication_failure(
    machine: Machine, host: KeyPair
) -> None:
    """At the deadline the error says that the machine answers, and does not let us in."""
    machine.denials = 10**6
    clock = Hours()
    with pytest.raises(AuthenticationFailed, match=r"does not let us in.*gave up at the deadline"):
        connect(machine.login(host.public), deadline=2, clock=clock)
    assert clock.now() >= 2


def test_a_first_denial_may_be_cloud_init_not_done_yet(machine: Machine, host: KeyPair) -> None:
    """Denied logins are tried again until one is let in."""
    machine.denials = 3
    with connect(machine.login(host.public), deadline=60, clock=Hours()) as remote:
        assert remote.run(Command("echo in")).stdout == "in\n"
    assert machine.logins == 4


def test_a_port_that_takes_connections_is_not_a_machine_that_answers(host: KeyPair) -> None:
    """A forwarder that accepts and closes, as slirp does, is waited for until the deadline."""
    with socket.create_server(("127.0.0.1", 0)) as forwarder:

        def accept() -> None:
            for _ in range(3):
                forwarder.accept()[0].close()

        thread = threading.Thread(target=accept)
        thread.start()
        target = Login("127.0.0.1", forwarder.getsockname()[1], "admin", make_key_pair().private, host.public)
        with pytest.raises(ConnectFailed, match=r"does not speak SSH|cannot be reached"):
            connect(target, deadline=1, clock=Hours())
        thread.join(10)


def test_a_failed_command_says_what_it_said(remote: SshRemote) -> None:
    """Exit status, line and the end of stderr are in the message."""
    with pytest.raises(CommandFailed, match=r"(?s)exit 3 of: echo why >&2; exit 3.*why"):
        remote.run(Command("echo why >&2; exit 3"))


def test_an_unchecked_command_gives_its_status(remote: SshRemote) -> None:
    """The caller that asks for it judges the exit status."""
    assert remote.run(Command("echo out; exit 4"), check=False).exit == 4


def test_a_failed_command_is_run_again_as_often_as_it_allows(remote: SshRemote, tmp_path: Path) -> None:
    """Two further attempts are made, and the third success is one."""
    line = f'echo . >> {tmp_path}/tries; test "$(wc -l < {tmp_path}/tries)" -ge 3'
    remote.run(Command(line, retries=2))
    with pytest.raises(CommandFailed):
        remote.run(Command("exit 1", retries=1))


def test_secrets_are_neither_arguments_nor_in_messages(machine: Machine, remote: SshRemote) -> None:
    """A secret travels on stdin only: no command line holds it, and an error does not repeat output."""
    secret = b"hf_sEcReTtOkEn"
    with pytest.raises(CommandFailed) as caught:
        remote.run(Command("cat >&2; exit 1", stdin=secret, secret=True))
    assert secret.decode() not in str(caught.value)
    assert all(secret.decode() not in line for line in machine.commands)
    assert secret.decode() not in repr(Command("cat", stdin=secret))


def test_large_stdin_arrives_whole(remote: SshRemote) -> None:
    """Megabytes go at once, and the command sees the end of its input."""
    content = bytes(range(256)) * 8192
    assert remote.run(Command("sha256sum", stdin=content)).stdout.split()[0] == _sha256(content)


def test_a_command_that_reads_nothing_sees_an_empty_input(remote: SshRemote) -> None:
    """Nobody waits for input that nobody gives."""
    assert remote.run(Command("cat; echo done")).stdout == "done\n"


def test_a_command_may_end_without_reading_its_input(remote: SshRemote) -> None:
    """Its exit status is what counts."""
    assert remote.run(Command("exec true", stdin=b"x" * 4_000_000)).exit == 0


def test_endless_output_is_kept_up_to_a_limit(remote: SshRemote) -> None:
    """A command that prints more than the limit runs to its end, and memory does not grow with it."""
    output = remote.run(
        Command(f"head -c {OUTPUT_LIMIT_CHARACTERS + 300_000} /dev/zero | tr '\\0' x; echo e >&2")
    )
    assert len(output.stdout) == OUTPUT_LIMIT_CHARACTERS
    assert output.stderr == "e\n"


def test_a_command_past_its_limit_is_ended_on_the_machine(remote: SshRemote, tmp_path: Path) -> None:
    """The error names the limit, and the command does not go on behind our back."""
    with pytest.raises(CommandTimedOut, match=r"longer than 0\.3 s: sleep 30"):
        remote.run(Command(f"sleep 30; touch {tmp_path}/went-on", timeout_s=0.3))
    assert not (tmp_path / "went-on").exists()


def test_a_machine_that_vanishes_is_a_broken_connection(machine: Machine, remote: SshRemote) -> None:
    """A command in flight ends with ConnectFailed, not with a status."""
    threading.Timer(0.3, machine.cut).start()
    with pytest.raises(ConnectFailed):
        remote.run(Command("sleep 20", timeout_s=60))


def test_root_runs_the_whole_line(remote: SshRemote) -> None:
    """Pipes and redirections of the line are root's as well."""
    assert remote.run(Command('echo "$AS_ROOT" | cat', sudo=True)).stdout == "yes\n"


def test_quotes_survive(remote: SshRemote) -> None:
    """The line reaches the machine's shell as it was written."""
    assert remote.run(Command("""printf '%s|' "a 'b'" '$HOME' 'c "d"'""")).stdout == """a 'b'|$HOME|c "d"|"""


def test_an_upload_has_its_name_only_when_it_is_whole(remote: SshRemote, tmp_path: Path) -> None:
    """Content and mode are right, and no half file is left."""
    source, target = tmp_path / "source", tmp_path / "a target"
    source.write_bytes(b"weights" * 100_000)
    remote.put(Upload(source, str(target), mode=0o640))
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_mode & 0o777 == 0o640
    assert not (tmp_path / "a target.part").exists()


def test_an_upload_of_nothing_is_an_error(remote: SshRemote, tmp_path: Path) -> None:
    """A source that is not there is named."""
    with pytest.raises(CommandFailed, match=r"cannot read .*missing"):
        remote.put(Upload(tmp_path / "missing", str(tmp_path / "target")))


def test_a_machine_tells_its_facts(remote: SshRemote) -> None:
    """The one command of the steps is understood, here by the machine that tests run on."""
    facts = remote.facts()
    assert facts.architecture in ("x86_64", "arm64")
    assert facts.user


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
