"""Ways through Systems Manager to machines without ingress; needs the AWS CLI and its plugin for sessions."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import time

from images.errors import BuilderError

_OPEN_LIMIT_S = 60.0


def shell_command(region: str, instance_id: str) -> str:
    """A command whose stdin and stdout are the machine's SSH port."""
    return shlex.join(_session(region, instance_id, "AWS-StartSSHSession", {"portNumber": ["22"]}))


class Tunnel:
    """A port of the machine on a loopback port of ours, until closed."""

    def __init__(self, region: str, instance_id: str, port: int) -> None:
        self.local_port = _free_port()
        ports = {"portNumber": [str(port)], "localPortNumber": [str(self.local_port)]}
        command = _session(region, instance_id, "AWS-StartPortForwardingSession", ports)
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        except FileNotFoundError as exc:
            raise BuilderError(
                "reach = ssm needs the AWS CLI, which is not installed", "install awscli 2"
            ) from exc
        self._wait_open(instance_id)

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_open(self, instance_id: str) -> None:
        ends = time.monotonic() + _OPEN_LIMIT_S
        while not _accepts(self.local_port):
            if self._process.poll() is not None or time.monotonic() > ends:
                self.close()
                raise BuilderError(
                    f"no session to {instance_id}",
                    "is the session manager plugin installed, and its agent let in?",
                )
            time.sleep(0.2)


def _session(region: str, instance_id: str, document: str, parameters: dict[str, list[str]]) -> list[str]:
    target = ["--region", region, "--target", instance_id, "--document-name", document]
    return ["aws", "ssm", "start-session", *target, "--parameters", json.dumps(parameters)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
