"""How machines are reached: our own address, sessions without ingress, passwords that stay off the line."""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from pydantic import ValidationError

from images.builders.ec2_access import own_cidr
from images.builders.ec2_materials import materials
from images.builders.ec2_settings import Ec2Settings
from images.builders.ec2_tunnel import Tunnel, shell_command
from images.errors import BuilderError
from images.recipe import Recipe, parse
from images.run import Run, new_run
from tests.images.aws.world import REGION, World, recipe

SERVES = """#!{python}
import http.server, json, sys
ports = json.loads(sys.argv[sys.argv.index("--parameters") + 1])
handler = http.server.SimpleHTTPRequestHandler
http.server.HTTPServer(("127.0.0.1", int(ports["localPortNumber"][0])), handler).serve_forever()
"""
REFUSES = "#!/bin/sh\nexit 255\n"


@contextmanager
def answering(body: bytes) -> Iterator[str]:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_our_address_is_asked_for() -> None:
    """Without a given address the service's answer becomes a /32."""
    with answering(b"198.51.100.4\n") as url:
        assert own_cidr(url, None) == "198.51.100.4/32"


def test_a_given_address_asks_nobody() -> None:
    """A given address is used as it is."""
    assert own_cidr("http://127.0.0.1:1/", IPv4Address("203.0.113.7")) == "203.0.113.7/32"


@pytest.mark.parametrize("body", [b"", b"<html>", b"0.0.0.0/0", b"::1", b"\xff\xfe"])
def test_no_address_opens_nothing(body: bytes) -> None:
    """An answer that is no address opens no port to anyone."""
    with answering(body) as url, pytest.raises(BuilderError, match="our address"):
        own_cidr(url, None)


def test_a_silent_service_opens_nothing() -> None:
    """A service that does not answer is an error that says what else can be set."""
    with pytest.raises(BuilderError) as caught:
        own_cidr("http://127.0.0.1:1/", None)
    assert "ssm" in caught.value.hint


def test_ssm_has_no_ingress(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under SSM no rule is made, logins go through sessions, and the node's port through a tunnel."""
    program(tmp_path, monkeypatch, SERVES.format(python=sys.executable))
    world.settings = Ec2Settings.model_validate(
        {"region": REGION, "reach": "ssm", "instance_profile": "ssm-core", "public": False}
    )
    profile(world)
    world.bake()
    assert world.calls("authorize_security_group_ingress") == []
    login = world.machines[0].login
    assert login.host.startswith("i-")
    assert login.proxy_command == shell_command(REGION, login.host)
    assert all(
        params["IamInstanceProfile"] == {"Name": "ssm-core"} for params in world.calls("run_instances")
    )


def test_ssm_needs_a_profile() -> None:
    """Without an instance profile no session could be had: refused before anything is made."""
    with pytest.raises(ValidationError, match="instance_profile"):
        Ec2Settings.model_validate({"region": REGION, "reach": "ssm"})


def test_a_tunnel_is_a_port_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tunnel is open when it is made, and its process is gone when it is closed."""
    program(tmp_path, monkeypatch, SERVES.format(python=sys.executable))
    tunnel = Tunnel(REGION, "i-1", 8080)
    with urllib.request.urlopen(f"http://127.0.0.1:{tunnel.local_port}/") as answer:
        assert answer.status == 200
    tunnel.close()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{tunnel.local_port}/")


def test_a_refused_session_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that ends at once is an error that names what may be missing."""
    program(tmp_path, monkeypatch, REFUSES)
    with pytest.raises(BuilderError, match="no session to i-1"):
        Tunnel(REGION, "i-1", 8080)


def test_no_aws_program_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the AWS CLI the error says to install it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuilderError, match="not installed"):
        Tunnel(REGION, "i-1", 8080)


def test_weights_are_signed_and_registries_logged_in(world: World, tmp_path: Path) -> None:
    """Weights at s3:// become signed URLs; a registry's password comes from ECR, and no repr shows it."""
    found = materials(world.aws(), run_of(world, tmp_path, model()))
    host = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
    assert list(found.registry_passwords) == [host]
    assert b":" not in found.registry_passwords[host]
    url = found.weight_urls["weights.bin"]
    assert url.startswith(b"https://bucket.s3.")
    assert b"X-Amz-Signature=" in url or b"Signature=" in url
    assert found.registry_passwords[host].decode() not in repr(found)


def test_public_registries_need_no_password(world: World, tmp_path: Path) -> None:
    """A recipe of public containers asks ECR nothing."""
    assert materials(world.aws(), run_of(world, tmp_path, recipe())).registry_passwords == {}


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A program `aws` before all others on the path."""
    path = folder / "bin" / "aws"
    path.parent.mkdir()
    path.write_text(text)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")


def profile(world: World) -> None:
    import boto3

    iam = boto3.client("iam")
    iam.create_instance_profile(InstanceProfileName="ssm-core")
    assert world.aws().region == REGION


def run_of(world: World, folder: Path, wanted: Recipe) -> Run:
    import random

    return new_run(folder / "runs", wanted, "lab", world.clock, random.Random(3))


def model() -> Recipe:
    host = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
    return parse(
        {
            **json.loads(recipe().model_dump_json(exclude_defaults=True)),
            "role": "model",
            "server": {"container": {"reference": f"{host}/server@sha256:{'0' * 64}", "unpacked_gib": 0.2}},
            "engine": {"kind": "embedded", "model": "goldenfleet-embedded"},
            "weights": {
                "strategy": "baked-root",
                "files": [
                    {"name": "weights.bin", "url": "s3://bucket/weights.bin", "sha256": "1" * 64, "bytes": 10}
                ],
            },
        },
        Path("/nowhere/lab.toml"),
    )


def test_user_data_holds_no_secret_of_the_account(world: World) -> None:
    """User data, which every process can read, holds the temporary host key and nothing else of ours."""
    world.bake()
    for params in world.calls("run_instances"):
        config = json.loads(base64.b64decode(params["UserData"]).decode().split("\n", 1)[1])
        assert set(config) == {"bootcmd", "ssh_deletekeys", "ssh_keys", "ssh_pwauth"}
