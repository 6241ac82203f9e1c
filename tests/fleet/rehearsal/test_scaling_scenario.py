"""The story of a rush and a lull: refused where it cannot be, told as it goes, on a small fast cloud."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from fleet.rehearsal.cloud import Cloud, NoMetrics
from fleet.rehearsal.cloud.tracking import Decision
from fleet.rehearsal.errors import ImpossibleError, NotInTimeError
from fleet.rehearsal.plan import Checked, Plan
from fleet.rehearsal.processes import Processes
from fleet.rehearsal.scenarios import Outcome, Stage
from fleet.rehearsal.scenarios.scaling import Scaling, in_words
from fleet.rehearsal.watch import Watch
from fleet.stack.settings import load_settings
from tests.fleet.rehearsal.cloud.conftest import Aws, Nodes

PROJECT = Path(__file__).parents[3]
SCALE = 0.002  # fifteen minutes are 1.8 s
# Quiet is 5 % and a hurry 100 %: what nodes would make of what the load was told.
LOAD = """
import pathlib, signal, sys
cpu = pathlib.Path(sys.argv[1])
signal.signal(signal.SIGUSR1, lambda *_: cpu.write_text("5"))
signal.signal(signal.SIGUSR2, lambda *_: cpu.write_text("100"))
cpu.write_text("60")
while True:
    signal.pause()
"""


def checked(**scaling: Any) -> Checked:
    config = {"goldenfleet:tiers": json.dumps(tiers(**scaling))}
    return Checked(
        Plan(PROJECT, notice_seconds=120 * SCALE),
        load_settings(PROJECT, "rehearsal", config),
        config,
        (),
    )


def tiers(**changes: Any) -> list[dict[str, Any]]:
    found = load_settings(PROJECT, "rehearsal").model_dump(mode="json", by_alias=True)["tiers"]
    found[1] |= changes
    return list(found)


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"scaling": {"cpuTargetPercent": None}}, "Set goldenfleet:tiers.model.scaling.cpuTargetPercent"),
        ({"scaling": {"scaleIn": False}}, "model.scaling.scaleIn to true"),
        ({"capacity": {"min": 1, "desired": 3, "max": 3}}, "Raise goldenfleet:tiers.model.capacity.max"),
    ],
)
def test_a_story_that_cannot_happen_is_refused(changes: dict[str, Any], hint: str) -> None:
    """Before anything starts, with what to set."""
    with pytest.raises(ImpossibleError) as caught:
        Scaling().check(checked(**changes))
    assert hint in caught.value.hint


class ByLoad(NoMetrics):
    """CPU of every node, as the load's process wrote it."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def cpu(self, instance_id: str) -> float | None:
        text = self._file.read_text()
        return float(text) if text else None


@dataclass
class Said:
    lines: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        self.lines.append(line)

    def now(self, line: str) -> None:
        """Nobody looks."""


@dataclass
class Set:
    """A group of two nodes behind a balancer, tracked by CPU, on the emulated cloud."""

    cloud: Cloud
    processes: Processes
    watch: Watch
    folder: Path
    said: Said = field(default_factory=Said)

    def stage(self, *, follows: bool = True) -> Stage:
        metrics = ByLoad(self.folder / "cpu")
        return Stage(
            checked=checked(),
            cloud=self.cloud,
            nodes=None,  # type: ignore[arg-type]  # this story looks at none
            pulumi=None,  # type: ignore[arg-type]
            outputs={"tiers": {"model": {"autoScalingGroup": "group"}}},
            processes=self.processes,
            watch=self.watch,
            progress=self.said,
            run_dir=self.folder,
            endpoint="",
            follow_load=lambda: self.cloud.use_metrics(metrics) if follows else None,
        )


@pytest.fixture
def the_set(tmp_path: Path) -> Iterator[Set]:
    listener = Nodes()
    with (
        Cloud(time_scale=SCALE, seed=1, listener=listener) as cloud,
        Processes() as processes,
        Watch(cloud.instances, processes) as watch,
    ):
        make_group(cloud)
        processes.start("load", [sys.executable, "-c", LOAD, str(tmp_path / "cpu")], env={}, cwd=tmp_path)
        watch.wait_until(lambda: (tmp_path / "cpu").exists() and healthy(cloud) == 2, 60, "two nodes")
        yield Set(cloud, processes, watch, tmp_path)
    for node in listener.running.values():
        node.stop()


def make_group(cloud: Cloud) -> None:
    session = boto3.Session("rehearsal", "rehearsal", region_name="us-east-1")
    aws = Aws(lambda service: session.client(service, endpoint_url=cloud.endpoint_url))  # type: ignore[call-overload]
    aws.make_group(
        MinSize=1,
        MaxSize=4,
        DesiredCapacity=2,
        DefaultInstanceWarmup=60,
        TargetGroupARNs=[aws.make_target_group()],
        Tags=[{"Key": "goldenfleet:tier", "Value": "model", "PropagateAtLaunch": True}],
    )
    aws.asg.put_scaling_policy(
        AutoScalingGroupName="group",
        PolicyName="cpu",
        PolicyType="TargetTrackingScaling",
        TargetTrackingConfiguration={
            "TargetValue": 70.0,
            "PredefinedMetricSpecification": {"PredefinedMetricType": "ASGAverageCPUUtilization"},
        },
    )


def healthy(cloud: Cloud) -> int:
    return sum(instance.target_state == "healthy" for instance in cloud.instances())


def test_a_fleet_that_does_not_follow_its_load_fails(the_set: Set) -> None:
    """The story does not come to its end, and says how far it came."""
    with pytest.raises(NotInTimeError, match="a look at a quiet tier") as caught:
        Scaling(calm_s=0.3).play(the_set.stage(follows=False))
    assert "2 of 2 nodes of model serve" in caught.value.hint


def test_a_rush_is_followed_out_and_in(the_set: Set) -> None:
    """Out after three of AWS's minutes, in after fifteen, each decision told; then clients are as usual."""
    outcome: Outcome = Scaling().play(the_set.stage())
    figures = outcome.figures
    assert (figures["before"], figures["grown"], figures["after"]) == (2, 3, 1)
    out, *_, back = [d for d in figures["decisions"] if d["after"] != d["before"]]
    told = [(d["before"], d["after"], d["why"], d["metric"]) for d in (out, back)]
    assert told == [
        (2, 3, "above its target", "ASGAverageCPUUtilization"),
        (figures["most"], 1, "below its target", "ASGAverageCPUUtilization"),
    ]
    assert out["lasted_s"] >= 180 * SCALE
    assert back["lasted_s"] >= 900 * SCALE
    assert json.loads(json.dumps(figures)) == figures
    assert all(len(line) <= 100 for line in outcome.lines)
    assert any(
        "model 2 -> 3: ASGAverageCPUUtilization 100.0, target 70" in line for line in the_set.said.lines
    )
    assert healthy(the_set.cloud) == 1
    the_set.watch.wait_until(lambda: (the_set.folder / "cpu").read_text() == "100", 5, "the usual pace")


def test_a_decision_in_words() -> None:
    """What was seen, what was wanted, what was done, in less than a line."""
    held = Decision(0.0, 3, 3, "no data", "cpu", "ASGAverageCPUUtilization", None, 70.0)
    assert in_words("model", held) == "model stays 3: ASGAverageCPUUtilization nothing, target 70; no data"
    grown = Decision(0.0, 3, 5, "above its target", "cpu", "RequestsInFlight", 17.25, 16.0, 18.04)
    said = in_words("model", grown)
    assert said == "model 3 -> 5: RequestsInFlight 17.2, target 16; above its target for 18.0 s"
