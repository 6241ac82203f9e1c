from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet.rehearsal.cloud import InstanceView
from fleet.rehearsal.errors import ProcessFailedError
from fleet.rehearsal.nodes import (
    Nodes,
    aws_environment,
    guest_settings,
    node_environment,
    parse_event,
    read_log,
)
from fleet.rehearsal.processes import Processes


def instance(user_data: str, instance_id: str = "i-0001") -> InstanceView:
    return InstanceView(
        instance_id=instance_id,
        tier="model",
        address="127.0.16.4",
        availability_zone="us-east-1a",
        instance_type="c7i.large",
        purchase_option="spot",
        state="running",
        lifecycle_state="InService",
        target_state="initial",
        launched_at=0.0,
        running_at=0.0,
        terminated_at=None,
        image_id="ami-1",
        user_data=user_data,
        group="models",
        subnet_id="subnet-1",
        tags={},
        metadata_endpoint="http://127.0.16.4:1338",
        hourly_price=0.1,
        noticed_at=None,
        taken_at=None,
    )


def until(condition: Callable[[], bool], deadline_s: float = 20.0) -> None:
    limit = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < limit, "did not happen in time"
        os.sched_yield()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes() as running:
        yield running


@pytest.fixture
def nodes(processes: Processes, tmp_path: Path) -> Nodes:
    return Nodes(processes, tmp_path, endpoint_url=lambda: "http://127.0.0.1:1", time_scale=0.1)


def test_user_data_is_no_script(nodes: Nodes) -> None:
    """User data without an interpreter line cannot be run, and the error names the instance."""
    with pytest.raises(ProcessFailedError, match="i-0001"):
        nodes.launched(instance("\x7fnot a script"))


def test_killed_before_launched(nodes: Nodes) -> None:
    """Word of the end of an instance that never ran is harmless."""
    nodes.killed("i-0002")
    assert nodes.events() == []


def test_runs_user_data(nodes: Nodes, processes: Processes, tmp_path: Path) -> None:
    """The user data runs as it is, in its own directory, with what stands for the image around it."""
    nodes.launched(instance("#!/bin/sh\npwd\nenv\n"))
    assert processes.wait("i-0001", 20).code == 0
    here, *env = (tmp_path / "nodes/i-0001/log.jsonl").read_text().splitlines()
    assert here == str(tmp_path / "nodes/i-0001")
    assert "GOLDENFLEET_ADDRESS=127.0.16.4" in env
    assert "AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.16.4:1338" in env
    assert "AWS_ENDPOINT_URL=http://127.0.0.1:1" in env


@pytest.mark.parametrize(("image", "port"), [("ami-1", "8079"), ("ami-2", "")])
def test_a_spoiled_image_has_its_settings(
    image: str, port: str, nodes: Nodes, processes: Processes, tmp_path: Path
) -> None:
    """And other images do not."""
    nodes.spoil(image, {"GOLDENFLEET_PORT": "8079"})
    nodes.launched(instance("#!/bin/sh\necho port=$GOLDENFLEET_PORT\n"))
    assert processes.wait("i-0001", 20).code == 0
    assert (tmp_path / "nodes/i-0001/log.jsonl").read_text() == f"port={port}\n"


def test_finds_the_boot_program(nodes: Nodes, processes: Processes) -> None:
    """The program that launch templates name is on the PATH of an instance."""
    nodes.launched(instance("#!/bin/sh\ncommand -v goldenfleet-boot && command -v python\n"))
    assert processes.wait("i-0001", 20).code == 0


def test_users_aws_settings_stay_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """No AWS setting of the user's own shell reaches a node."""
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "real")
    env = node_environment(instance(""), "http://127.0.0.1:1", 0.1)
    assert "production" not in env.values()
    assert "real" not in env.values()
    assert aws_environment("http://127.0.0.1:1").items() <= env.items()


@pytest.mark.parametrize(("scale", "seconds"), [(1.0, "2"), (0.1, "0.2"), (0.01, "0.2")])
def test_watches_are_scaled(scale: float, seconds: str) -> None:
    """A node looks for notices as often as its scaled clock asks, but never in a busy loop."""
    env = node_environment(instance(""), "http://127.0.0.1:1", scale)
    assert env["GOLDENFLEET_IMDS_POLL_SECONDS"] == seconds


def test_killed(nodes: Nodes, processes: Processes, tmp_path: Path) -> None:
    """An instance that is gone takes its engine with it, by SIGKILL."""
    nodes.launched(instance("#!/bin/sh\ntrap '' TERM\nsleep 600 &\necho $!\nwait\n"))
    log = tmp_path / "nodes/i-0001/log.jsonl"
    until(lambda: log.read_text().endswith("\n"))
    nodes.killed("i-0001")
    assert processes.wait("i-0001", 20).code == -signal.SIGKILL
    until(lambda: not alive(int(log.read_text())))


def test_events_in_order(nodes: Nodes, processes: Processes) -> None:
    """Events of all nodes come in order of time, and what is no event is left out."""
    line = json.dumps(
        {"event": "server.ready", "ts": 20.5, "instance_id": "i-1", "role": "model", "port": 8080}
    )
    other = json.dumps({"event": "server.started", "ts": 10, "instance_id": "i-2", "role": "gateway"})
    nodes.launched(instance(f"#!/bin/sh\necho hello\necho '{line}'\n", "i-1"))
    nodes.launched(instance(f"#!/bin/sh\necho '{other}'\n", "i-2"))
    processes.wait("i-1", 20)
    processes.wait("i-2", 20)
    first, second = nodes.events()
    assert (first.event, first.at, first.role) == ("server.started", 10.0, "gateway")
    assert (second.instance_id, second.fields) == ("i-1", {"port": 8080})


@pytest.mark.parametrize("line", ["", "text", "[1]", "7", '{"event":"x"}', '{"ts":1}', '{"event":"x","ts":1'])
def test_not_an_event(line: str) -> None:
    """A line that is not a whole event is no event."""
    assert parse_event(line) is None


def test_cut_log(tmp_path: Path) -> None:
    """A log whose last line was cut by a kill, even inside a character, gives what came before."""
    (tmp_path / "log").write_bytes(b'{"event":"a","ts":1}\n{"event":"\xc3')
    assert [event.event for event in read_log(tmp_path / "log")] == ["a"]


def test_cpu(nodes: Nodes, processes: Processes) -> None:
    """The CPU time of a node counts its children, and that of ended nodes is no longer reported."""
    nodes.launched(instance("#!/bin/sh\nsh -c 'while :; do :; done' &\nwait\n"))
    until(lambda: nodes.busy_seconds()["i-0001"] > 0.05)
    nodes.killed("i-0001")
    processes.wait("i-0001", 20)
    assert nodes.busy_seconds() == {}


PARENT = """
import sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from fleet.rehearsal.nodes import Nodes
from fleet.rehearsal.processes import Processes
from test_nodes import instance
nodes = Nodes(Processes(), Path(sys.argv[1]), endpoint_url=lambda: "http://127.0.0.1:1", time_scale=0.1)
nodes.launched(instance("#!/bin/sh\\nsleep 600 &\\necho $$ $!\\nwait\\n"))
print("launched", flush=True)
threading.Event().wait()
"""


def test_rehearsal_killed(tmp_path: Path) -> None:
    """SIGKILL of the rehearsal's own process leaves no node and no engine."""
    argv = [sys.executable, "-c", PARENT, str(tmp_path), str(Path(__file__).parent)]
    log = tmp_path / "nodes/i-0001/log.jsonl"
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"launched\n"
        until(lambda: log.read_text().endswith("\n"))
        parent.kill()
    until(lambda: not any(alive(int(pid)) for pid in log.read_text().split()))


def test_a_guest_is_told_where_the_cloud_is() -> None:
    """A virtual machine reaches the emulated AWS by the host's alias; address and metadata it knows."""
    env = node_environment(instance(""), "http://127.0.0.1:5000", 0.1)
    told = dict(line.split("=", 1) for line in guest_settings(env).splitlines())
    assert told["AWS_ENDPOINT_URL"] == "http://169.254.0.2:5000"
    assert told["GOLDENFLEET_IMDS_POLL_SECONDS"] == "0.2"
    assert not {"GOLDENFLEET_ADDRESS", "AWS_EC2_METADATA_SERVICE_ENDPOINT", "PATH", "AWS_CONFIG_FILE"} & set(
        told
    )
