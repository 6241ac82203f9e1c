"""Bakes on this machine, and nodes booted from what they made: what `test_bake_boot_check` leaves out.

Ten minutes and more, so only when asked for; see conftest.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from images.bake import Options, bake
from images.builders.local import LocalBuilder
from images.builders.local_seeds import node_seed
from images.checks import wait_ready
from images.container import ensure
from images.forbidden import contains
from images.keys import KeyPair, make_key_pair
from images.machines import disk
from images.machines.hardware import Forward, Hardware
from images.machines.machine import Machine
from images.machines.network import free_port
from images.machines.seed import Seed, cloud_config, write_seed
from images.manifest import Manifest
from images.recipe import load
from images.remote import SshRemote
from images.run import run_ids
from images.steps import Command
from tests.images.local.vm import (
    CANARY,
    READY_S,
    RECIPE,
    ROOT,
    Planting,
    answers,
    host_key,
    login,
    shared_cache,
    skip_without_machines,
    until,
)

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("vm")]


@dataclass(frozen=True)
class Baked:
    manifest: Manifest
    image: Path
    builder: LocalBuilder


@pytest.fixture(scope="module")
def baked(tmp_path_factory: pytest.TempPathFactory) -> Baked:
    skip_without_machines()
    recipe = load(RECIPE)
    ensure(recipe.path(str(recipe.server.container.archive)))
    state = shared_cache(tmp_path_factory.mktemp("state"))
    builder = Planting(state)
    manifest = bake(recipe, builder, runs=state / "runs", stack="rehearsal", options=Options())
    assert manifest.image is not None
    return Baked(manifest, Path(manifest.image.id), builder)


class Node:
    """A fresh node with a key of the test's, and host keys of its own that its console tells."""

    def __init__(self, baked: Baked, directory: Path) -> None:
        self.directory = directory
        self.key: KeyPair = make_key_pair()
        seed = node_seed(directory.name, "model", "rehearsal")
        vendor = {
            "ssh_authorized_keys": [self.key.public],
            "write_files": [
                {"path": "/etc/goldenfleet/instance.env", "content": "GOLDENFLEET_IMDS_ENDPOINT=off\n"}
            ],
        }
        write_seed(Seed(seed.instance_id, seed.user_data, cloud_config(vendor)), directory / "seed.iso")
        self.serving, self.ssh = free_port(), free_port()
        self.machine = Machine(
            Hardware(
                disk=baked.image,
                directory=directory,
                overlay=True,
                read_only_disks=(directory / "seed.iso",),
                forwards=(Forward(self.serving, 8080), Forward(self.ssh, 22)),
            ),
            baked.builder.accelerator,
        )

    def wait_ready(self) -> float:
        return wait_ready(f"http://127.0.0.1:{self.serving}", deadline_s=READY_S)

    def host_key(self) -> str:
        return host_key(self.machine.hardware.console)

    def login(self) -> SshRemote:
        return login(self.machine.hardware.console, self.ssh, self.key.private)


@pytest.fixture(scope="module")
def nodes(baked: Baked, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    made = [Node(baked, tmp_path_factory.mktemp(f"node{number}")) for number in range(2)]
    with made[0].machine, made[1].machine:
        yield made


def test_the_bake_tells_what_it_made(baked: Baked) -> None:
    """The manifest holds the disk's digest, its checks, and how long a node takes to be ready."""
    image = baked.manifest.image
    assert image is not None
    assert image.digest == disk.digest(baked.image)
    assert {check.name for check in baked.manifest.checks} == {check.name for check in load(RECIPE).checks}
    assert baked.manifest.boot_seconds is not None
    assert baked.manifest.boot_seconds > 0


def test_no_secret_of_the_bake_is_anywhere_on_the_disk(baked: Baked) -> None:
    """Neither in a file nor in a block of a deleted one."""
    assert not contains(baked.image, CANARY)


def test_nodes_share_no_identity(nodes: list[Node]) -> None:
    """Two nodes of one image have machine ids and host keys of their own, and let in no builder."""
    for node in nodes:
        node.wait_ready()
    ask = Command(
        "cat /etc/machine-id; cat /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys", sudo=True
    )
    said = []
    for node in nodes:
        with node.login() as remote:
            machine_id, *keys = remote.run(ask, check=False).stdout.split("\n")
            said.append((machine_id, node.host_key()))
            assert len(machine_id) == 32
            assert all(node.key.public in line for line in keys if line.strip() and "command=" not in line)
    assert len({machine_id for machine_id, _ in said}) == 2
    assert len({key for _, key in said}) == 2


def test_a_node_serves_again_after_a_reboot(nodes: list[Node]) -> None:
    """The same machine id and host key, another boot, and ready without being told anything."""
    node = nodes[0]
    node.wait_ready()
    identity = Command(
        "cat /etc/machine-id /proc/sys/kernel/random/boot_id /etc/ssh/ssh_host_ed25519_key.pub"
    )
    with node.login() as remote:
        before = remote.run(identity).stdout.split("\n")
        remote.run(Command("systemctl --no-block reboot", sudo=True))
    url = f"http://127.0.0.1:{node.serving}/ready"
    until(lambda: not answers(url), "it did not go down")
    node.wait_ready()
    with node.login() as remote:
        after = remote.run(identity).stdout.split("\n")
    assert after[0] == before[0]
    assert after[1] != before[1]
    assert after[2] == before[2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_node_is_a_process_like_any_other(baked: Baked, tmp_path: Path, number: signal.Signals) -> None:
    """It serves on its own address, asks our metadata service, and is gone when it is killed."""
    asked = threading.Event()

    class Metadata(http.server.BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            asked.set()
            self.send_error(404)

        do_GET = do_PUT  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    boot = tmp_path / "boot.sh"
    boot.write_text("#!/bin/sh\nexec goldenfleet-boot --role model --stack rehearsal --standalone\n")
    with http.server.ThreadingHTTPServer(("127.0.77.4", 0), Metadata) as service:
        thread = threading.Thread(target=service.serve_forever)
        thread.start()
        command = [sys.executable, "-m", "images.machines", "run", "--image", str(baked.image)]
        command += ["--address", "127.0.77.4", "--forward", "8080:8080", "--seed-user-data", str(boot)]
        command += ["--metadata", f"127.0.77.4:{service.server_port}", "--directory", str(tmp_path)]
        node = subprocess.Popen(command, cwd=ROOT)
        try:
            wait_ready("http://127.0.77.4:8080", deadline_s=READY_S)
            assert asked.wait(30)
        finally:
            node.send_signal(number)
            node.wait(30)
            service.shutdown()
            thread.join(10)
    until(lambda: not answers("http://127.0.77.4:8080/ready"), "it outlived its process")
    assert node.returncode in (128 + signal.SIGTERM, -signal.SIGKILL)


def test_a_killed_bake_is_resumed_by_the_command_line(tmp_path: Path) -> None:
    """Killed while containers are brought, `--resume` bakes on a fresh disk: one image, with its manifest."""
    skip_without_machines()
    state = shared_cache(tmp_path / "state")
    command = [sys.executable, "-c", "from images.cli import images; images()", "bake", "--state", str(state)]
    killed = subprocess.Popen([*command, str(RECIPE), "--on", "local"], cwd=ROOT)
    try:
        until(lambda: "== bring the containers" in log_of(state), "it did not come so far", 1800)
    finally:
        killed.kill()
        killed.wait()
    (run_id,) = run_ids(state / "runs")
    resumed = subprocess.run(
        [*command, "--resume", run_id, "--json"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert resumed.returncode == 0, resumed.stderr
    manifest = json.loads(resumed.stdout)
    assert manifest["run_id"] == run_id
    assert [str(path) for path in (state / "images").iterdir()] == [manifest["image"]["id"]]
    assert len(manifest["checks"]) == len(load(RECIPE).checks)


def log_of(state: Path) -> str:
    return "".join(log.read_text() for log in (state / "runs").glob("*/steps.log"))


def test_a_killed_bake_leaves_no_base_half_made(tmp_path: Path) -> None:
    """SIGKILL while mmdebstrap works ends it with its mounts; what it had written is swept."""
    skip_without_machines()
    if os.geteuid() != 0:
        pytest.skip("only root's mmdebstrap mounts on the host")
    command = [sys.executable, "-c", "from images.cli import images; images()"]
    state = ["--state", str(tmp_path)]
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    own = {**os.environ, "TMPDIR": str(temporary)}
    baking = subprocess.Popen([*command, "bake", str(RECIPE), "--on", "local", *state], cwd=ROOT, env=own)
    parts = tmp_path / "cache/bases"
    try:
        until(lambda: mounted(temporary), "mmdebstrap mounted nothing")
    finally:
        baking.kill()
        baking.wait()
    until(lambda: not mounted(temporary), "mounts were left")
    assert [path.suffix for path in parts.iterdir() if path.is_dir()] == [".part"]
    subprocess.run([*command, "sweep", "--on", "local", "--apply", "--yes", *state], cwd=ROOT, check=True)
    assert [path for path in parts.iterdir() if path.is_dir()] == []


def mounted(tree: Path) -> bool:
    """In any process's view: mmdebstrap has a namespace of its own."""
    views = Path("/proc").glob("[0-9]*/mounts")
    return any(str(tree) in text_of(view) for view in views)


def text_of(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""
