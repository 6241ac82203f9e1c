"""The embedded engine as a node's child: it ends when the node does, however that comes."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

PATIENCE_S = 40.0


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A model node that is ready, serving on every address of this machine; ports are the system's choice."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        engine_port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", "--role", "model"),
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
        env={
            "PATH": "/usr/bin:/bin",
            "OPENBLAS_NUM_THREADS": "1",
            "GOLDENFLEET_PORT": "0",
            "GOLDENFLEET_ADMIN_PORT": "0",
            "GOLDENFLEET_ENGINE_URL": f"http://127.0.0.1:{engine_port}",
            "GOLDENFLEET_ENGINE_PORT": "1",
            "GOLDENFLEET_IMDS_ENDPOINT": "off",
        },
    )
    try:
        await said(process, "server.ready")
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


async def said(process: asyncio.subprocess.Process, event: str) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        async for line in process.stdout:
            if line.startswith(b"{") and json.loads(line)["event"] == event:
                return
    raise AssertionError(f"the process ended without {event}")


def child_of(pid: int) -> int:
    [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def arguments_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


async def ended(pidfd: int) -> None:
    """Returns when the process of this descriptor has ended."""
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(pidfd, gone.set)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await gone.wait()
    finally:
        loop.remove_reader(pidfd)


async def test_a_killed_node_leaves_no_engine_behind(node):
    """SIGKILL of the node alone, which can tell nobody: the kernel ends its engine."""
    engine = os.pidfd_open(child_of(node.pid))
    try:
        os.kill(node.pid, signal.SIGKILL)
        await ended(engine)
    finally:
        os.close(engine)


async def test_the_engine_is_where_its_url_says(node):
    """With engine_url the engine binds that address and port, on an image loopback alone."""
    arguments = arguments_of(child_of(node.pid))
    assert arguments[arguments.index("--host") + 1] == "127.0.0.1"
    assert arguments[arguments.index("--port") + 1] != "1"


async def test_without_its_parent_an_engine_does_not_start():
    """A parent that has ended before the engine could ask to end with it is found out at once."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server.engine", "--port", "0", "--ends-with", "1"),
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_S):
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert b"the parent process 1 has ended" in errors
