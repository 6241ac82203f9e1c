"""Every on-call command against a fleet of real nodes in an emulated AWS, as against AWS itself."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner, Result

import fleet
from fleet.cli import main
from fleet.oncall import kept
from fleet.oncall.nodes import ask
from fleet.rehearsal.cloud import Cloud, InstanceView
from fleet.rehearsal.engine import PulumiEngine
from fleet.rehearsal.interruptions import serving
from fleet.rehearsal.nodes import REGION, Nodes, aws_environment, base_environment
from fleet.rehearsal.plan import Plan, check
from fleet.rehearsal.processes import Processes
from tests.fleet.oncall.held_engine import HeldEngine

PROJECT = Path(fleet.__file__).parent.parent
COMMAND = str(Path(sys.executable).with_name("goldenfleet"))
MODELS = 2
_CHAT = {"messages": [{"role": "user", "content": "What is a notice?"}], "stream": True, "max_tokens": 64}
# The engine here gives tokens when it is told to: nobody is to take that for a hang.
_PATIENT = {f"GOLDENFLEET_{what}_SECONDS": "60" for what in ("SUSPECT", "STALL", "PROBE")}


def until(met: Callable[[], bool], what: str, seconds: float = 90.0) -> None:
    ends, gone = time.monotonic() + seconds, threading.Event()
    while not met():
        assert time.monotonic() < ends, f"not in {seconds:g} s: {what}"
        gone.wait(0.05)


@dataclass
class Streams:
    """Clients that read at once, each its own stream, through one gateway."""

    url: str
    ends: list[str] = field(default_factory=list)
    begun: int = 0

    def __post_init__(self) -> None:
        self._thread: threading.Thread | None = None

    def begin(self, count: int) -> None:
        self.ends, self.begun = [], 0
        self._thread = threading.Thread(target=asyncio.run, args=(self._all(count),), daemon=True)
        self._thread.start()
        until(lambda: self.begun == count, f"{count} streams")

    def finish(self) -> list[str]:
        assert self._thread is not None
        self._thread.join(120)
        return self.ends

    async def _all(self, count: int) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            self.ends = await asyncio.gather(*(self._one(session) for _ in range(count)))

    async def _one(self, session: aiohttp.ClientSession) -> str:
        """How it ended: done, or the error that the client saw."""
        end = "cut"
        with suppress(aiohttp.ClientError):
            end = await self._read(session)
        return end

    async def _read(self, session: aiohttp.ClientSession) -> str:
        end = "cut"
        async with session.post(self.url, json=_CHAT) as response:
            first = True
            async for line in response.content:
                if line.startswith(b"data: "):
                    self.begun += first
                    first = False
                    end = "done" if b"[DONE]" in line else end
                    end = line.decode() if b'"error"' in line else end
        return end


@dataclass
class Fleet:
    cloud: Cloud
    run_dir: Path
    engine: HeldEngine
    streams: Streams

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, [*arguments, "--rehearsal"])

    def json(self, *arguments: str, code: int = 0) -> Any:
        result = self.run(*arguments, "--json")
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)

    def serving(self, tier: str, option: str | None = None) -> list[InstanceView]:
        found = [one for one in self.cloud.instances() if one.tier == tier and serving(one)]
        return [one for one in found if option in (None, one.purchase_option)]

    def says(self, node: InstanceView, **wanted: object) -> None:
        """Waits until the node says so itself."""

        def said() -> bool:
            state = ask(node.address).state
            return all(state.get(key) == value for key, value in wanted.items())

        until(said, f"{node.instance_id}: {wanted}")

    def busiest(self) -> tuple[InstanceView, int]:
        """The model node with most in flight, and how much that is."""
        models = self.serving("model")
        flights = {one.instance_id: int(ask(one.address).state["in_flight"]) for one in models}
        one = max(models, key=lambda one: flights[one.instance_id])
        return one, flights[one.instance_id]

    def all_serve(self) -> None:
        until(lambda: len(self.serving("model")) >= MODELS, "two model nodes that serve")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The stack applied, its nodes running, its control loop at work; kept, as commands find it."""
    run_dir = tmp_path_factory.mktemp("run")
    checked = check(Plan(PROJECT, gateways=1, models=MODELS, port=free_port(), interrupt="none"))
    scale = checked.plan.time_scale
    with ExitStack() as stack:
        engine = HeldEngine()
        stack.callback(engine.close)
        processes = stack.enter_context(Processes())
        found: dict[str, str] = {}
        env = {**_PATIENT, "GOLDENFLEET_ENGINE": "vllm", "GOLDENFLEET_ENGINE_URL": engine.url}
        nodes = Nodes(processes, run_dir, endpoint_url=lambda: found["endpoint"], time_scale=scale, extra=env)
        cloud = stack.enter_context(Cloud(time_scale=scale, seed=1, listener=nodes))
        found["endpoint"] = cloud.endpoint_url
        for recipe, channel in {(tier.recipe, tier.channel) for tier in checked.tiers.values()}:
            cloud.register_image(recipe, checked.plan.stack, channel)
        pulumi = PulumiEngine(
            PROJECT,
            checked.plan.stack,
            endpoint_url=cloud.endpoint_url,
            state_file=run_dir / "state.json",
            region=REGION,
            config=checked.config,
        )
        outputs = pulumi.up().outputs
        _control(processes, run_dir, cloud.endpoint_url, outputs["noticeQueueUrl"], scale)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("XDG_STATE_HOME", str(run_dir / "state"))
        stack.enter_context(kept.told(_kept(cloud.endpoint_url, run_dir, scale)))
        fleet_ = Fleet(cloud, run_dir, engine, Streams(""))
        until(lambda: len(fleet_.serving("gateway")) == 1, "a gateway that serves")
        fleet_.all_serve()
        [gateway] = fleet_.serving("gateway")
        fleet_.streams.url = f"http://{gateway.address}:8080/v1/chat/completions"
        yield fleet_


def _control(processes: Processes, run_dir: Path, endpoint: str, queue: str, scale: float) -> None:
    command = [sys.executable, "-m", "fleet.control", "--queue-url", queue, "--stack", "rehearsal"]
    command += ["--time-scale", f"{scale:g}", "--log-group", "/goldenfleet/rehearsal/control"]
    env = {**base_environment(), **aws_environment(endpoint)}
    processes.start("control", [*command, "--recheck-seconds", "1"], env=env, cwd=run_dir)


def _kept(endpoint: str, run_dir: Path, scale: float) -> kept.Kept:
    own = kept.born(os.getpid()) or ""
    return kept.Kept(os.getpid(), own, "rehearsal", REGION, endpoint, endpoint, str(run_dir), scale)


def test_status_shows_the_whole_fleet(rehearsed: Fleet) -> None:
    """Every node with its own word, by tier, gateways first; as a table and as JSON."""
    told = rehearsed.json("status")
    assert [tier["name"] for tier in told["tiers"]] == ["gateway", "model"]
    assert [node["state"] for node in told["nodes"]] == ["serving"] * (1 + MODELS)
    assert {node["role"] for node in told["nodes"]} == {"gateway", "model"}
    assert not any(node["stale"] for node in told["nodes"])
    assert all(node["hourly_price"] > 0 and node["in_flight"] == 0 for node in told["nodes"])
    table = rehearsed.run("status").stdout
    assert all(node["instance_id"] in table for node in told["nodes"])


def test_a_doctor_finds_a_rehearsed_fleet_well(rehearsed: Fleet) -> None:
    """All that it looks at is there: rules, queues, alarms, images and nodes."""
    told = rehearsed.json("doctor")
    assert [one for one in told["findings"] if one["level"] != "ok"] == []
    assert len(told["findings"]) >= 14


def test_nobody_is_drained_unasked(rehearsed: Fleet) -> None:
    """Without a terminal and --yes nothing is done (2), nor for nobody (6), nor in a dry run (0)."""
    node = rehearsed.serving("model")[0].instance_id
    refused = rehearsed.run("drain", node, "-m", "test")
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert rehearsed.run("drain", "i-nobody", "-m", "test", "--yes").exit_code == 6
    assert rehearsed.run("drain", "gf-rehearsal-model", "-m", "test", "--yes").exit_code == 2
    assert rehearsed.json("drain", node, "-m", "test", "--dry-run")["plan"][0]["state"] == "serving"
    assert ask(rehearsed.serving("model")[0].address).phase == "serving"


def test_who_answers_no_is_not_drained(rehearsed: Fleet) -> None:
    """On a terminal the plan comes first, then the question; any answer but yes is exit code 8."""
    one = rehearsed.serving("model")[0]
    argv = [COMMAND, "drain", one.address, "-m", "test", "--rehearsal"]
    terminal, other = os.openpty()
    with subprocess.Popen(argv, stdin=other, stderr=subprocess.PIPE, text=True) as asking:
        os.write(terminal, b"n\n")
        _, said = asking.communicate(timeout=60)
    os.close(terminal)
    os.close(other)
    assert asking.returncode == 8
    assert said.index("drains within 12 s") < said.index("Drain 1 node? [y/N]")
    assert ask(one.address).phase == "serving"


def test_a_drain_that_is_taken_back(rehearsed: Fleet) -> None:
    """The node serves on, and history has who asked, why, and what came of it."""
    one = rehearsed.serving("model")[0]
    node = one.instance_id
    asked = rehearsed.json("drain", node, "-m", "a try", "--deadline", "600", "--yes")
    rehearsed.says(one, phase="accepting", reason="a try")
    assert rehearsed.json("undrain", node, "-m", "no", "--yes")["ok"]
    rehearsed.says(one, phase="serving", reason=None)
    lines = [json.loads(line) for line in rehearsed.run("notices", "--json").stdout.splitlines()]
    seen = [one for one in lines if one["event"] == "notice.seen" and one["instance_id"] == node]
    assert seen[0]["fields"]["request"] == asked["requests"][node]
    assert seen[0]["fields"]["reason"] == "a try"


def test_a_drain_that_is_waited_for(rehearsed: Fleet) -> None:
    """With 50 streams on the node: some finish there, the others go on elsewhere: exit code 0."""
    rehearsed.all_serve()
    streams = 50 * len(rehearsed.serving("model"))
    rehearsed.streams.begin(streams)
    one, busy = rehearsed.busiest()

    def finish_some() -> None:
        rehearsed.says(one, phase="refusing")
        rehearsed.engine.let_go(40)

    helper = threading.Thread(target=finish_some, daemon=True)
    helper.start()
    told = rehearsed.json("drain", one.instance_id, "-m", "test", "--wait", "--yes")
    helper.join(30)
    [drained] = told["nodes"]
    assert told["ok"]
    assert (drained["ended"], drained["in_flight_at_first"]) == ("empty", busy)
    assert busy >= 50
    assert 0 < drained["handed_over"] == drained["resumed"] < busy
    rehearsed.engine.let_go()
    assert rehearsed.streams.finish() == ["done"] * streams


def test_an_impossible_deadline(rehearsed: Fleet) -> None:
    """Exit code 4 and the list of what was cut over, though gateways lose none of it."""
    rehearsed.engine.hold()
    rehearsed.all_serve()
    streams = 50 * len(rehearsed.serving("model"))
    rehearsed.streams.begin(streams)
    one, busy = rehearsed.busiest()
    told = rehearsed.json(
        *("drain", one.instance_id, "-m", "test", "--deadline", "0.5", "--wait", "--yes"), code=4
    )
    [drained] = told["nodes"]
    assert not told["ok"]
    assert len(drained["cut_over"]) == drained["handed_over"] == busy >= 50
    assert {cut["became"] for cut in drained["cut_over"]} == {"running"}
    rehearsed.engine.let_go()
    assert rehearsed.streams.finish() == ["done"] * streams


def test_an_interruption_cannot_be_undone(rehearsed: Fleet) -> None:
    """AWS's notice arrives by the Fault Injection Service; an undrain says why it cannot be (4)."""
    rehearsed.all_serve()
    [bought] = rehearsed.serving("gateway", "on-demand")
    assert rehearsed.run("interrupt", bought.address, "--yes").exit_code == 2
    one = rehearsed.serving("model", "spot")[0]
    node = one.instance_id
    assert rehearsed.json("interrupt", node, "--yes")["nodes"] == [node]
    rehearsed.says(one, binding=True)
    refused = rehearsed.json("undrain", node, "--yes", code=4)
    assert "AWS takes it away" in refused["nodes"][0]["answer"]
    [watched] = json.loads(rehearsed.run("watch", node, "--json").stdout)["nodes"]
    # Here the two minutes are 12 s, after which nobody is there to say how it went.
    assert watched["ended"] in ("empty", "gone")


def test_logs_and_a_shell_of_a_node(rehearsed: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its log by any of its names; a shell in the folder of its process."""
    rehearsed.all_serve()
    node = rehearsed.serving("model")[0]
    lines = [json.loads(line) for line in rehearsed.run("logs", node.address, "--json").stdout.splitlines()]
    assert "server.ready" in {one["line"].get("event") for one in lines}
    shell = [COMMAND, "connect", node.instance_id, "--rehearsal"]
    env = {**os.environ, "SHELL": "/bin/pwd"}
    opened = subprocess.run(shell, env=env, capture_output=True, text=True, timeout=60, check=True)
    assert opened.stdout.strip() == str(rehearsed.run_dir / "nodes" / node.instance_id)


def test_watching_ends_by_detaching(rehearsed: Fleet) -> None:
    """Off a terminal it is lines of JSON; Ctrl-C ends only the looking: 130, and how to go on."""
    argv = [COMMAND, "watch", "--rehearsal", "--json", "--every", "0.2"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        assert (first["before"], first["tier"]) == (None, "gateway")
        watching.send_signal(signal.SIGINT)
        _, said = watching.communicate(timeout=30)
    assert watching.returncode == 130
    assert "goldenfleet watch --stack rehearsal --rehearsal" in said


def test_a_doctor_finds_a_rule_that_was_disabled(rehearsed: Fleet) -> None:
    """And says by which command it is enabled again (1)."""
    from fleet.oncall.aws import connect

    aws = connect(rehearsal=True)
    rule = aws.pages("events.list_rules", "Rules", NamePrefix="gf-rehearsal-notices-rebalance")[0]["Name"]
    aws.call("events.disable_rule", Name=rule)
    told = rehearsed.json("doctor", code=1)
    assert f"aws events enable-rule --name {rule}" in [one["do"] for one in told["findings"]]
    aws.call("events.enable_rule", Name=rule)
