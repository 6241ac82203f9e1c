"""Whole processes, started as an instance starts them: from SSM to SIGTERM."""

import asyncio
import hashlib
import itertools
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import boto3
import pytest
from aiohttp import web
from click.testing import CliRunner
from moto.server import ThreadedMotoServer

from server import __main__, boot

PATIENCE_S = 40.0
EXAMPLE = json.dumps({"keys": [{"id": "a", "tenant": "t", "sha256": hashlib.sha256(b"sk-1234").hexdigest()}]})
BIN = Path(sys.executable).parent
_addresses = itertools.count(4)


def free_address() -> str:
    """A loopback address that no other test process uses: every port on it is free."""
    return f"127.{100 + os.getpid() % 100}.{os.getpid() // 100 % 250}.{next(_addresses)}"


@pytest.fixture(scope="module")
def aws() -> Iterator[dict[str, str]]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }
    server.stop()


def put_config(aws: dict[str, str], name: str, value: str) -> None:
    client = boto3.client(
        "ssm",
        endpoint_url=aws["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.put_parameter(Name=name, Value=value, Type="String", Overwrite=True)
    client.close()


@dataclass
class Booted:
    process: asyncio.subprocess.Process
    address: str

    async def line(self, event: str) -> dict[str, object]:
        """The next log line with this event."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while text := await self.process.stdout.readline():
                if text.startswith(b"{") and (line := json.loads(text))["event"] == event:
                    return line
        raise AssertionError(f"the process ended without {event}")

    async def ended(self) -> tuple[int, str]:
        """Exit code and what it said on stderr."""
        async with asyncio.timeout(PATIENCE_S):
            _, errors = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, errors.decode()

    async def get(self, path: str, port: int = 8080) -> tuple[int, dict[str, object]]:
        url = f"http://{self.address}:{port}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status, await response.json()


@pytest.fixture
async def start() -> AsyncIterator:
    started: list[asyncio.subprocess.Process] = []

    async def run(*command: str, address: str = "", **env: str) -> Booted:
        address = address or free_address()
        process = await asyncio.create_subprocess_exec(
            *command,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            env={
                "PATH": f"{BIN}:/usr/bin:/bin",
                "OPENBLAS_NUM_THREADS": "1",
                "GOLDENFLEET_ADDRESS": address,
                "GOLDENFLEET_SHUTDOWN_GRACE_SECONDS": "0.5",
                **env,
            },
        )
        started.append(process)
        return Booted(process, address)

    yield run
    for process in started:
        # The group holds the engine too.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_free(address: str, port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((address, port))
        except OSError:
            return False
    return True


@pytest.mark.parametrize("command", [boot.main, __main__.main])
def test_help_shows_an_example(command):
    """--help explains what is read and gives a line to copy."""
    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0
    assert "Example: " in result.output
    assert "--role" in result.output


@pytest.mark.parametrize("arguments", [[], ["--role", "client", "--stack", "dev"], ["--role", "model"]])
def test_bad_usage_is_exit_code_2(arguments):
    """Missing or unknown arguments start nothing."""
    assert CliRunner().invoke(boot.main, arguments).exit_code == 2


async def test_without_its_parameter_nothing_starts(start, aws):
    """A stack that does not exist: exit code 2 and one line that names the parameter."""
    booted = await start("goldenfleet-boot", "--role", "model", "--stack", "nowhere", **aws)
    code, errors = await booted.ended()
    assert code == 2
    assert errors.count("\n") == 1
    assert "/goldenfleet/nowhere/tier/model/config" in errors


async def test_off_ec2_the_region_must_be_told(start, aws):
    """Neither the environment nor IMDS names a region: one line that says what to set."""
    environ = {**aws, "GOLDENFLEET_IMDS_ENDPOINT": "http://127.0.0.1:1"}
    del environ["AWS_REGION"]
    booted = await start("goldenfleet-boot", "--role", "model", "--stack", "dev", **environ)
    code, errors = await booted.ended()
    assert code == 2
    assert errors.startswith("goldenfleet-boot: setting region: ")
    assert errors.endswith("set AWS_REGION\n")


async def test_an_unknown_key_in_the_tier_config_starts_nothing(start, aws):
    """The tier's config is checked like any other source."""
    put_config(aws, "/goldenfleet/typo/tier/model/config", '{"enigne": "embedded"}')
    booted = await start("goldenfleet-boot", "--role", "model", "--stack", "typo", **aws)
    code, errors = await booted.ended()
    assert (code, errors) == (
        2,
        "goldenfleet-boot: setting enigne: there is no such setting; check its spelling\n",
    )


@pytest.mark.parametrize("taken", [("port", 8080), ("admin_port", 9090)])
async def test_a_taken_port_starts_nothing(start, taken):
    """Exit code 2 and the setting's name, and no engine is left behind."""
    address = free_address()
    with socket.create_server((address, taken[1])):
        booted = await start(
            sys.executable,
            "-m",
            "server",
            "--role",
            "model",
            address=address,
            GOLDENFLEET_IMDS_ENDPOINT="off",
        )
        code, errors = await booted.ended()
    assert code == 2
    assert f"setting {taken[0]}: cannot listen on {address}:{taken[1]}" in errors
    assert is_free(address, 8000)


async def test_a_gateway_boots_from_its_tier_config_and_ends_on_sigterm(start, aws):
    """SSM -> settings -> ports; SIGTERM -> exit code 0 with both ports free."""
    put_config(
        aws, "/goldenfleet/rehearsal/tier/gateway/config", '{"nodes": "static:127.0.0.1:1", "auth": "off"}'
    )
    booted = await start(
        "goldenfleet-boot",
        "--role",
        "gateway",
        "--stack",
        "rehearsal",
        GOLDENFLEET_IMDS_ENDPOINT="off",
        **aws,
    )
    started = await booted.line("server.started")
    assert (started["role"], started["port"], started["admin_port"]) == ("gateway", 8080, 9090)
    assert (await booted.get("/health"))[0] == 200
    assert (await booted.get("/state", 9090))[1]["phase"] == "serving"
    booted.process.send_signal(signal.SIGTERM)
    assert (await booted.ended())[0] == 0
    assert is_free(booted.address, 8080)
    assert is_free(booted.address, 9090)


async def test_sigterm_hands_over_what_runs(start):
    """A request that is held when the process is told to stop is refused in words, not by a reset."""
    nodes = {"GOLDENFLEET_NODES": "static:127.0.0.1:1", "GOLDENFLEET_IMDS_ENDPOINT": "off"}
    booted = await start(sys.executable, "-m", "server", "--role", "gateway", GOLDENFLEET_AUTH="off", **nodes)
    await booted.line("server.started")
    async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession() as session:
        url = f"http://{booted.address}:8080/v1/completions"
        held = asyncio.create_task(session.post(url, json={"prompt": "x"}))
        while (await booted.get("/state", 9090))[1]["in_flight"] == 0:
            continue
        booted.process.send_signal(signal.SIGTERM)
        refusal = await held
        assert (refusal.status, (await refusal.json())["error"]["code"]) == (503, "node_draining")
    assert (await booted.ended())[0] == 0


async def test_a_model_node_is_ready_with_its_engine_and_ends_with_it(start):
    """Ready after the engine's first token; when the engine dies, so does the node, with exit code 1."""
    booted = await start(sys.executable, "-m", "server", "--role", "model", GOLDENFLEET_IMDS_ENDPOINT="off")
    await booted.line("server.ready")
    assert await booted.get("/ready") == (200, {"status": "ready"})
    (engine,) = children(booted.process.pid)
    os.kill(engine, signal.SIGKILL)
    assert (await booted.line("engine.failed"))["problem"] == "the engine ended with exit code -9"
    assert (await booted.ended())[0] == 1


async def test_sigterm_takes_the_engine_along(start):
    """A node that is told to stop leaves no engine behind."""
    booted = await start(sys.executable, "-m", "server", "--role", "model", GOLDENFLEET_IMDS_ENDPOINT="off")
    await booted.line("server.ready")
    booted.process.send_signal(signal.SIGINT)
    assert (await booted.ended())[0] == 0
    assert is_free(booted.address, 8000)


async def test_a_spot_notice_in_imds_drains_the_node(start):
    """The instance's own metadata names it and then takes it: the drain starts by itself."""
    noticed = False
    bodies = {"instance-id": "i-0123", "local-ipv4": "127.0.16.4"}

    async def data(request: web.Request) -> web.Response:
        path = request.match_info["path"]
        if path == "spot/instance-action" and noticed:
            return web.Response(text='{"action":"terminate","time":"2099-01-01T00:00:00Z"}')
        return web.Response(text=bodies[path]) if path in bodies else web.Response(status=404)

    async def token(_: web.Request) -> web.Response:
        return web.Response(text="t")

    app = web.Application()
    app.router.add_put("/latest/api/token", token)
    app.router.add_get("/latest/meta-data/{path:.+}", data)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    booted = await start(
        sys.executable,
        "-m",
        "server",
        "--role",
        "gateway",
        GOLDENFLEET_NODES="static:127.0.0.1:1",
        GOLDENFLEET_AUTH="off",
        GOLDENFLEET_IMDS_POLL_SECONDS="0.05",
        AWS_EC2_METADATA_SERVICE_ENDPOINT=f"http://127.0.0.1:{runner.addresses[0][1]}",
    )
    assert (await booted.line("server.started"))["instance_id"] == "i-0123"
    noticed = True
    assert (await booted.line("notice.seen"))["kind"] == "spot"
    assert (await booted.line("drain.started"))["deadline"] == 4070908800.0
    status, refusal = await booted.get("/ready")
    assert (status, refusal["error"]["code"]) == (503, "node_draining")
    state = (await booted.get("/state", 9090))[1]
    assert (state["instance_id"], state["phase"], state["source"]) == ("i-0123", "accepting", "imds")
    await runner.cleanup()


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (None, "No such file"),
        ("", "it is not JSON"),
        ('{"keys": []}', "it holds no key"),
        (EXAMPLE, "an example that everybody knows"),
    ],
)
async def test_a_gateway_without_real_keys_starts_nothing(start, tmp_path, document, said):
    """No file, an empty one, no key in it, or one from a tutorial: exit code 2, and what to do."""
    path = tmp_path / "keys.json"
    if document is not None:
        path.write_text(document)
        path.chmod(0o600)
    env = {"GOLDENFLEET_NODES": "static:127.0.0.1:1", "GOLDENFLEET_IMDS_ENDPOINT": "off"}
    booted = await start(
        sys.executable, "-m", "server", "--role", "gateway", GOLDENFLEET_KEYS=f"file:{path}", **env
    )
    code, errors = await booted.ended()
    assert code == 2
    assert errors.startswith("goldenfleet-boot: setting keys: ")
    assert said in errors
    assert errors.count("\n") == 1


async def test_keys_change_while_a_gateway_serves(start, tmp_path):
    """A new file is in force within seconds and without a restart; a bad one changes nothing."""
    path, keys = tmp_path / "keys.json", ["gf_the-first-key-of-this-test", "gf_the-second-key-of-this-test"]

    def write(text):
        # As an editor does: whole, or not at all.
        new = path.with_suffix(".new")
        new.write_text(text)
        new.chmod(0o600)
        new.rename(path)

    def document(key):
        digest = hashlib.sha256(key.encode()).hexdigest()
        return json.dumps({"keys": [{"id": "a", "tenant": "t", "sha256": digest}]})

    async def statuses():
        url = f"http://{booted.address}:8080/v1/completions"
        async with aiohttp.ClientSession() as session:
            found = []
            for key in keys:
                headers = {"authorization": f"Bearer {key}"}
                async with session.post(url, data=b"{", headers=headers) as response:
                    found.append(response.status)
            return found

    write(document(keys[0]))
    env = {"GOLDENFLEET_NODES": "static:127.0.0.1:1", "GOLDENFLEET_IMDS_ENDPOINT": "off"}
    booted = await start(
        sys.executable, "-m", "server", "--role", "gateway", GOLDENFLEET_KEYS=f"file:{path}", **env
    )
    await booted.line("server.started")
    assert await statuses() == [400, 401]
    write(document(keys[1]))
    await booted.line("keys.loaded")
    assert await statuses() == [401, 400]
    write("{")
    assert (await booted.line("keys.unusable"))["kept"] == 1
    assert await statuses() == [401, 400]
    booted.process.send_signal(signal.SIGTERM)
    assert (await booted.ended())[0] == 0
