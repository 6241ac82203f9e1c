"""A storm of spot notices on a large emulated fleet: how long the control plane takes, and what it asks AWS.

The cloud runs in this process and stands still but for what it is asked: no health checks, no replacements.
The control handler is the real one, as a process; nodes are their admin ports, in another.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import click

from fleet.rehearsal.cloud import Cloud, InstanceView
from fleet.rehearsal.cloud.traffic import Limit

STACK, GROUP = "storm", "gf-storm-model"
LIMIT_S = 60.0
"""In which all notices are to be handled: half of what a spot notice gives."""

THROTTLED = Limit(burst=3, per_second=2)
"""Of each operation of EC2, Auto Scaling and the load balancers; AWS gives more to such an account."""

_OPERATIONS = (
    "DescribeInstances",
    "DescribeAutoScalingInstances",
    "DescribeAutoScalingGroups",
    "DeregisterTargets",
    "DetachInstances",
)
_RULES = {
    "interruption": {"source": ["aws.ec2"], "detail-type": ["EC2 Spot Instance Interruption Warning"]},
    "rebalance": {"source": ["aws.ec2"], "detail-type": ["EC2 Instance Rebalance Recommendation"]},
}
# Deep enough together for a thousand spot nodes: a pool of the emulated market gives 8 to 40.
_FAMILIES = ("c7i", "c7a", "m7i", "m6i", "c6i")
_SIZES = ("large", "xlarge", "2xlarge", "4xlarge")
_TYPES = tuple(f"{family}.{size}" for family in _FAMILIES for size in _SIZES)
_ZONES = ("a", "b", "c")
_FIRST_BLOCK = 160  # nodes listen at 127.0.160.4 and on: apart from those of rehearsals
_PROJECT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Storm:
    instances: int
    notices: int
    throttled: bool = False


class _NoListener:
    def launched(self, _instance: InstanceView) -> None:
        return None

    def killed(self, _instance_id: str) -> None:
        return None


class _Clock:
    """Unix seconds; begins in the past, so that instances boot in no time."""

    def __init__(self) -> None:
        self.behind_s = 600.0

    def __call__(self) -> float:
        return time.time() - self.behind_s


def run(storm: Storm, log: Callable[[str], None] = lambda _text: None) -> dict[str, Any]:
    """The figures. Raises TimeoutError when notices are not handled within twice the limit."""
    clock = _Clock()
    with ExitStack() as stack:
        cloud = stack.enter_context(
            Cloud(time_scale=1.0, seed=1, clock=clock, listener=_NoListener(), ticking=False)
        )
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="goldenfleet-storm-")))
        environment = _environment(cloud)
        queue = _build(cloud, environment, storm.instances, clock)
        log(f"{storm.instances} spot instances in service")
        nodes = stack.enter_context(_nodes([one.address for one in cloud.instances()]))
        victims = [one.instance_id for one in cloud.instances()][: storm.notices]
        for victim in victims:
            cloud.interrupt(victim)
        log(f"{storm.notices} notices are in the queue")
        cloud.traffic.forget()
        if storm.throttled:
            cloud.traffic.limit(dict.fromkeys(_OPERATIONS, THROTTLED))
        control = stack.enter_context(_control(queue, environment, directory))
        control.wait_for("drain.requested", set(victims))
        figures = _figures(cloud, control, storm) | {"control_cpu_s": round(control.cpu_s(), 2)}
        orders = nodes.orders()
        return figures | {"nodes_told": len(orders), "most_orders_of_a_node": max(orders.values(), default=0)}


def _figures(cloud: Cloud, control: _Control, storm: Storm) -> dict[str, Any]:
    """Seconds are from the moment at which the handler began, with all notices in its queue."""
    lines = control.lines()
    began = next(line["ts"] for line in lines if line["event"] == "control.started")
    told = _first(lines, "drain.requested")
    detached = _first(lines, "instance.detached")
    calls = {name: n for name, n in cloud.traffic.calls.items() if not name.startswith(("GET ", "POST "))}
    of_aws = sum(calls.values())
    group = cloud.groups()[0]
    return {
        "instances": storm.instances,
        "notices": storm.notices,
        "throttled": storm.throttled,
        "handled_s": round(max(told.values()) - began, 2),
        "seen_s": _spread([at - began for at in _first(lines, "notice.seen").values()]),
        "detached_s": _spread([at - began for at in detached.values()]),
        "told_s": _spread([at - began for at in told.values()]),
        "calls": dict(sorted(calls.items())),
        "calls_per_notice": round(of_aws / storm.notices, 2),
        "calls_throttled": sum(cloud.traffic.throttled.values()),
        "put_back": sum(line["event"] == "notice.failed" for line in lines),
        "queue_failures": [line["error"] for line in lines if line["event"] == "queue.failed"],
        "detached": len(detached),
        "detached_twice": len([1 for line in lines if line["event"] == "instance.detached"]) - len(detached),
        "desired": group.desired,
        "members": len(group.instance_ids),
    }


def _first(lines: Sequence[Mapping[str, Any]], event: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for line in lines:
        if line["event"] == event:
            found.setdefault(line["instance_id"], line["ts"])
    return found


def _spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "p50": round(statistics.median(ordered), 2),
        "p99": round(ordered[int(len(ordered) * 0.99)], 2),
        "max": round(ordered[-1], 2),
    }


def _environment(cloud: Cloud) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": cloud.endpoint_url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "storm",
        "AWS_SECRET_ACCESS_KEY": "storm",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }


def _build(cloud: Cloud, environment: Mapping[str, str], instances: int, clock: _Clock) -> str:
    """The fleet, in service, and the URL of the queue of its notices."""
    session = boto3.Session(
        environment["AWS_ACCESS_KEY_ID"],
        environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_DEFAULT_REGION"],
    )

    def client(service: str) -> Any:
        return session.client(service, endpoint_url=cloud.endpoint_url)  # type: ignore[call-overload]

    _group(cloud, client, instances)
    for _ in range(3):
        clock.behind_s -= 100
        cloud.tick()
    clock.behind_s = 0.0
    serving = [one for one in cloud.instances() if one.lifecycle_state == "InService"]
    if len(serving) != instances:
        raise RuntimeError(f"only {len(serving)} of {instances} instances came into service")
    return _queue(client)


def _group(cloud: Cloud, client: Callable[[str], Any], instances: int) -> None:
    ec2 = client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(
            VpcId=vpc, CidrBlock=f"10.0.{_FIRST_BLOCK + 16 * n}.0/20", AvailabilityZone=f"us-east-1{zone}"
        )
        for n, zone in enumerate(_ZONES)
    ]
    target_group = client("elbv2").create_target_group(
        Name=GROUP, Protocol="HTTP", Port=8080, VpcId=vpc, HealthCheckPath="/ready"
    )["TargetGroups"][0]["TargetGroupArn"]
    data = {"ImageId": cloud.register_image("model", STACK, "dev"), "InstanceType": _TYPES[0]}
    template = ec2.create_launch_template(LaunchTemplateName=GROUP, LaunchTemplateData=data)["LaunchTemplate"]
    specification = {"LaunchTemplateId": template["LaunchTemplateId"], "Version": "1"}
    tag = {"ResourceId": GROUP, "ResourceType": "auto-scaling-group", "Key": "goldenfleet:stack"}
    client("autoscaling").create_auto_scaling_group(
        AutoScalingGroupName=GROUP,
        MinSize=1,
        MaxSize=2 * instances,
        DesiredCapacity=instances,
        VPCZoneIdentifier=",".join(one["Subnet"]["SubnetId"] for one in subnets),
        TargetGroupARNs=[target_group],
        MixedInstancesPolicy={
            "LaunchTemplate": {
                "LaunchTemplateSpecification": specification,
                "Overrides": [{"InstanceType": kind} for kind in _TYPES],
            },
            "InstancesDistribution": {
                "OnDemandBaseCapacity": 0,
                "OnDemandPercentageAboveBaseCapacity": 0,
                "SpotAllocationStrategy": "price-capacity-optimized",
            },
        },
        Tags=[{**tag, "Value": STACK, "PropagateAtLaunch": True}],
    )


def _queue(client: Callable[[str], Any]) -> str:
    sqs, events = client("sqs"), client("events")
    url = str(sqs.create_queue(QueueName=f"gf-{STACK}-notices")["QueueUrl"])
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    for name, pattern in _RULES.items():
        events.put_rule(Name=name, EventPattern=json.dumps(pattern))
        events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])
    return url


class _Nodes:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def orders(self) -> dict[str, int]:
        """Address -> orders to drain; the nodes end."""
        told, _ = self._process.communicate()
        orders: dict[str, int] = json.loads(told)
        return orders


@contextmanager
def _nodes(addresses: Sequence[str]) -> Iterator[_Nodes]:
    command = [sys.executable, "-m", "bench.control_nodes"]
    with subprocess.Popen(
        command, cwd=_PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{json.dumps(list(addresses))}\n")
            process.stdin.flush()
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("the nodes did not come up")
            yield _Nodes(process)
        finally:
            process.kill()


class _Control:
    def __init__(self, process: subprocess.Popen[bytes], out: Path) -> None:
        self._process, self._out = process, out
        self._pause = threading.Event()

    def lines(self) -> list[dict[str, Any]]:
        whole = [line for line in self._out.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [json.loads(line) for line in whole]

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wait_for(self, event: str, instances: set[str]) -> None:
        """Until every one of `instances` has had this event."""
        deadline = time.monotonic() + 2 * LIMIT_S
        while instances and not instances <= set(_first(self.lines(), event)):
            self._check(deadline, event)

    def started(self) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not any(line["event"] == "control.started" for line in self.lines()):
            self._check(deadline, "control.started")

    def _check(self, deadline: float, what: str) -> None:
        if self._process.poll() is not None or time.monotonic() > deadline:
            raise TimeoutError(f"no {what} in time; control wrote: {self._out.read_text()[-2000:]}")
        self._pause.wait(0.1)


@contextmanager
def _control(queue_url: str, environment: Mapping[str, str], directory: Path) -> Iterator[_Control]:
    out = directory / "control.jsonl"
    command = [sys.executable, "-m", "fleet.control", "--queue-url", queue_url, "--stack", STACK]
    with (
        out.open("wb") as stdout,
        subprocess.Popen(command, cwd=_PROJECT, stdout=stdout, env={**os.environ, **environment}) as process,
    ):
        try:
            control = _Control(process, out)
            control.started()
            yield control
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  scripts/bench-control                             500 notices on 1,000 instances, then throttled
  scripts/bench-control --instances 100 --notices 50
  scripts/bench-control --json figures.json
\b
Exit codes: 0 all handled in time, 1 error, 2 usage, 4 not in time.""",
)
@click.option("--instances", type=click.IntRange(1, 1500), default=1000, show_default=True)
@click.option("--notices", type=click.IntRange(1, 1500), default=500, show_default=True)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures."
)
def main(instances: int, notices: int, json_file: Path | None) -> None:
    """A storm of spot notices on an emulated fleet: how long control takes, and what it asks AWS for."""
    if notices > instances:
        raise click.UsageError("--notices is above --instances: each instance gets one notice")
    runs = [run(Storm(instances, notices, throttled), _say) for throttled in (False, True)]
    for figures in runs:
        click.echo(told(figures))
    if json_file is not None:
        json_file.write_text(f"{json.dumps(runs, indent=2)}\n")
    sys.exit(0 if all(figures["handled_s"] < LIMIT_S for figures in runs) else 4)


def told(figures: Mapping[str, Any]) -> str:
    """In words, for people."""
    calls = ", ".join(f"{count} {name}" for name, count in figures["calls"].items())
    how = (
        f"throttled ({figures['calls_throttled']} calls refused)" if figures["throttled"] else "not throttled"
    )
    detached, node = figures["detached_s"], figures["told_s"]
    return f"""{figures["notices"]} notices on {figures["instances"]} instances, {how}:
  all handled after {figures["handled_s"]} s of {LIMIT_S:g} s; CPU of control {figures["control_cpu_s"]} s
  out of the group: p50 {detached["p50"]} s, p99 {detached["p99"]} s
  node told: p50 {node["p50"]} s, p99 {node["p99"]} s
  {figures["calls_per_notice"]} API calls a notice: {calls}
  {figures["detached"]} detached, {figures["detached_twice"]} of them twice
  {figures["nodes_told"]} nodes told, each at most {figures["most_orders_of_a_node"]} times"""


def _say(text: str) -> None:
    click.echo(text, err=True)


if __name__ == "__main__":
    main(prog_name="scripts/bench-control")
