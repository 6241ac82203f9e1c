"""A whole rehearsal: cloud, Pulumi program, nodes, balancer, load, interruptions, and nothing left."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import goldenfleet_client

from fleet.policy.evaluate import Evaluation
from fleet.rehearsal import interruptions, policies
from fleet.rehearsal.answers import AnswerLog, questions
from fleet.rehearsal.balancer import Balancer, public_listeners
from fleet.rehearsal.cloud import Cloud, InstanceView, NoMetrics
from fleet.rehearsal.engine import PulumiEngine, Result, WarmHost
from fleet.rehearsal.errors import LeftBehindError, NotInTimeError, ProcessFailedError, RehearsalError
from fleet.rehearsal.load import undisturbed
from fleet.rehearsal.metrics import FleetMetrics
from fleet.rehearsal.nodes import REGION, Nodes, aws_environment, base_environment
from fleet.rehearsal.plan import VM_BOOT_SECONDS, Checked
from fleet.rehearsal.play import Play
from fleet.rehearsal.ports import check_free, free_port, listens
from fleet.rehearsal.processes import Processes
from fleet.rehearsal.progress import Progress
from fleet.rehearsal.report import Facts
from fleet.rehearsal.scenarios import Outcome, Stage
from fleet.rehearsal.watch import Watch
from fleet.stack.imports import AHEAD
from fleet.stack.naming import log_group

_LIFECYCLE_DRAIN_SECONDS = 110.0  # of AWS's time, from the drain budget of 120 s
_BOOT_SECONDS = 90.0
_FINISH_SECONDS = 120.0
_END_SECONDS = 20.0
_SHOW_SECONDS = 0.5
_NEVER_SECONDS = 86_400.0
_REFERENCE_ADDRESS = "127.0.0.1"


class Rehearsal:
    """One rehearsal in `run_dir`. Use as a context manager: leaving it stops everything that it started.

    `began` is when the command was given, on the monotonic clock.
    """

    def __init__(self, checked: Checked, run_dir: Path, progress: Progress, began: float) -> None:
        self._checked = checked
        self._plan = checked.plan
        self._dir = run_dir
        self._progress = progress
        self._stack = ExitStack()
        self._steps: dict[str, float] = {}
        self._began = began
        self._answers = AnswerLog(run_dir / "answers.jsonl")
        self._outputs: Mapping[str, Any] = {}
        self._shown = 0.0
        self._policies: Evaluation | None = None
        self._outcomes: list[Outcome] = []

    def __enter__(self) -> Rehearsal:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def endpoint(self) -> str:
        return self._balancer.url

    @property
    def aws_endpoint(self) -> str:
        """Of the emulated cloud."""
        return self._cloud.endpoint_url

    @property
    def nodes(self) -> list[InstanceView]:
        """Instances that live, in the order of their addresses."""
        return sorted(self._living(), key=lambda instance: (instance.tier or "", instance.address))

    def run(self) -> Facts:
        """From nothing to the last answer. Raises GoldenfleetError."""
        self._start_cloud()
        expected = self._ask_reference()
        self._apply()
        self._start_nodes()
        texts = self._timed("reference", expected.result)
        began = time.time()
        with self._load():
            play = self._interrupt()
            self._watch.wait_until(
                lambda: time.time() >= began + self._plan.duration_s, self._plan.duration_s + 1, "the load"
            )
        return Facts(
            answers=self._answers.answers,
            expected=texts,
            log=self._nodes.events(),
            interruptions=play.done,
            lives=self._watch.lives,
            load_began=began,
            load_ended=time.time(),
            memory_peak_mib=self._watch.memory_peak_mib,
            seconds=time.monotonic() - self._began,
            steps=self._steps,
            settings=self._checked.told(),
            policies=self._policies,
            outcomes=self._outcomes,
        )

    def destroy(self, facts: Facts) -> Facts:
        """Destroy the stack as `pulumi destroy` would, stop everything, and say how long all of it took.

        Raises LeftBehindError if anything is left.
        """
        self._watch.not_vital("control")
        if self._plan.watchers != "imds":
            self._processes.signal("control", signal.SIGTERM)
        self._watch.also_measure(lambda: None)
        self._cloud.use_metrics(NoMetrics())
        self._balancer.close()
        with self._step("destroy"):
            self._pulumi.destroy()
            try:
                self._watch.wait_until(lambda: not self._left(), _END_SECONDS, "the end of every node")
            except NotInTimeError as error:
                raise LeftBehindError(f"destroying the stack left {self._left()}") from error
        self._stack.close()
        check_free("127.0.0.1", self._plan.port, "The balancer was told to end, but it still listens.")
        return replace(facts, seconds=time.monotonic() - self._began, steps=dict(self._steps))

    def _left(self) -> str:
        """What still is there after destroying the stack, in words; empty when nothing is."""
        groups = [group.name for group in self._cloud.groups()]
        instances = [i.instance_id for i in self._cloud.instances()]
        nodes = [name for name in self._processes.running() if name.startswith("i-")]
        return ", ".join([*groups, *instances, *nodes])

    def _start_cloud(self) -> None:
        plan = self._plan
        with self._step("cloud"):
            # The program runs three times at least; what it imports is imported once, while moto is.
            self._warm = self._stack.enter_context(WarmHost(AHEAD))
            self._processes = self._stack.enter_context(Processes())
            self._nodes = Nodes(
                self._processes,
                self._dir,
                endpoint_url=lambda: self._cloud.endpoint_url,
                time_scale=plan.time_scale,
                extra=self._node_settings(),
                image=plan.image,
            )
            self._cloud = self._stack.enter_context(
                Cloud(time_scale=plan.time_scale, seed=plan.seed, listener=self._nodes)
            )
            for recipe, channel in {(t.recipe, t.channel) for t in self._checked.tiers.values()}:
                self._cloud.register_image(recipe, plan.stack, channel)
            self._watch = self._stack.enter_context(Watch(self._living, self._processes, self._show))

    def _node_settings(self) -> dict[str, str]:
        drain_s = _LIFECYCLE_DRAIN_SECONDS * self._plan.time_scale
        told = {"GOLDENFLEET_LIFECYCLE_DRAIN_SECONDS": f"{drain_s:g}"}
        # A look as it starts, when there is no notice yet, and none after it.
        blind = {"GOLDENFLEET_IMDS_POLL_SECONDS": f"{_NEVER_SECONDS:g}"}
        return told | (blind if self._plan.watchers == "control" else {})

    def _ask_reference(self) -> Future[Mapping[str, str]]:
        """Every answer as an engine gives it that nothing disturbs, worked out while the stack is applied."""
        port = free_port(_REFERENCE_ADDRESS)
        command = [sys.executable, "-m", "server.engine", "--host", _REFERENCE_ADDRESS, "--port", str(port)]
        env = {**base_environment(), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._processes.start("reference", command, env=env, cwd=self._dir)
        pool = self._stack.enter_context(ThreadPoolExecutor(1, "reference"))
        # Leaving waits for the pool's thread, which has nobody left to ask then.
        self._stack.callback(self._processes.signal, "reference")
        return pool.submit(self._reference, port)

    def _reference(self, port: int) -> Mapping[str, str]:
        try:
            self._watch.wait_until(lambda: self._reference_is_up(port), _BOOT_SECONDS, "the reference engine")
            return asyncio.run(undisturbed(f"http://{_REFERENCE_ADDRESS}:{port}", questions()))
        except goldenfleet_client.GoldenfleetError as error:
            raise ProcessFailedError(f"the reference engine gave no answer: {error}") from error
        finally:
            self._processes.signal("reference")

    def _reference_is_up(self, port: int) -> bool:
        return self._processes.ended("reference") is not None or listens(_REFERENCE_ADDRESS, port)

    def _apply(self) -> None:
        """Preview, up, and up again: the second must find nothing to do."""
        plan = self._plan
        self._pulumi = PulumiEngine(
            plan.project,
            plan.stack,
            endpoint_url=self._cloud.endpoint_url,
            state_file=self._dir / "state.json",
            region=REGION,
            config=self._checked.config,
            warm=self._warm,
        )
        with self._step("preview"):
            preview = self._pulumi.preview()
        self._progress.say(f"pulumi preview: {_counts(preview.summary())}")
        self._judge(preview)
        with self._step("up"):
            up = self._pulumi.up()
        self._progress.say(f"pulumi up: {_counts(up.summary())}")
        with self._step("second up"):
            again = self._pulumi.up()
        self._progress.say(f"pulumi up again: {_counts(again.summary())}")
        changed = [step.urn for step in again.steps if step.op != "same"]
        if changed:
            raise RehearsalError(
                f"a second up changed {', '.join(changed)}", "An update must change nothing twice."
            )
        self._judge(again)
        self._outputs = again.outputs

    def _judge(self, result: Result) -> None:
        """By the rules of fleet/policy: before anything is made, and once all is known."""
        production = self._checked.settings.production
        self._policies = policies.judge(result.declared, production=production)
        self._progress.say(policies.told(self._policies))

    def _start_nodes(self) -> None:
        if self._plan.watchers != "imds":
            self._start_control()
        with self._step("boot"):
            self._watch.wait_until(
                self._all_serve, self._boot_s, "the start of every node", self._not_serving
            )
        self._progress.say(f"{len(self._cloud.instances())} nodes serve")
        with self._step("balancer"):
            self._balancer = Balancer(
                self._processes,
                self._dir,
                self._listeners(),
                self._cloud.targets,
                port=self._plan.port,
            )
            self._stack.callback(self._balancer.close)
            self._balancer.start()
            self._watch.vital("balancer")
        self._progress.say(f"balancer at {self.endpoint}")

    @property
    def _boot_s(self) -> float:
        return VM_BOOT_SECONDS if self._plan.image else _BOOT_SECONDS

    def _listeners(self) -> list[Any]:
        environment = aws_environment(self._cloud.endpoint_url)
        elbv2 = boto3.client(
            "elbv2",
            endpoint_url=self._cloud.endpoint_url,
            region_name=REGION,
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        )
        return list(public_listeners(elbv2, self._outputs["loadBalancerArn"]))

    def _start_control(self) -> None:
        command = [sys.executable, "-m", "fleet.control", "--queue-url", self._outputs["noticeQueueUrl"]]
        env = {**base_environment(), **aws_environment(self._cloud.endpoint_url)}
        command += ["--stack", self._plan.stack, "--time-scale", f"{self._plan.time_scale:g}"]
        command += ["--log-group", log_group(self._plan.stack, "control"), "--recheck-seconds", "1"]
        self._processes.start("control", command, env=env, cwd=self._dir)
        self._watch.vital("control")

    def _living(self) -> list[InstanceView]:
        return self._nodes.living(self._cloud.instances())

    def _all_serve(self) -> bool:
        instances = self._cloud.instances()
        return all(
            sum(i.tier == name and interruptions.serving(i) for i in instances) >= tier.capacity.desired
            for name, tier in self._checked.tiers.items()
        )

    def _not_serving(self) -> str:
        return "\n".join(
            f"{i.tier} {i.instance_id}: {i.state}, {i.target_state}; {self._nodes.last_words(i.instance_id)}"
            for i in self._cloud.instances()
            if not interruptions.serving(i)
        )

    @contextmanager
    def _load(self) -> Iterator[None]:
        plan = self._plan
        out = self._dir / "answers.jsonl"
        command = [sys.executable, "-m", "fleet.rehearsal.load", "--url", self.endpoint, "--out", str(out)]
        command += ["--clients", str(plan.clients), "--seed", str(plan.seed)]
        command += [part for model in self._checked.models for part in ("--model", model)]
        self._processes.start("load", command, env=base_environment(), cwd=self._dir)
        self._watch.vital("load")
        with self._step("load"):
            self._watch.wait_until(lambda: self._answers.read_on() >= plan.clients, 60, "the first answers")
            self._progress.say(f"{plan.clients} clients ask and read")
            yield
            self._watch.not_vital("load")
            self._processes.signal("load", signal.SIGTERM)
            ended = self._processes.wait("load", _FINISH_SECONDS)
            if ended.code != 0:
                raise ProcessFailedError(
                    f"the load ended with code {ended.code}; see {self._dir / 'load.err'}"
                )
            self._answers.read_on()
            self._watch.measure_memory()

    def _interrupt(self) -> Play:
        groups = {name: tier["autoScalingGroup"] for name, tier in self._outputs["tiers"].items()}
        play = Play(
            self._cloud,
            self._nodes,
            groups,
            self._watch,
            self._progress,
            notice_seconds=self._plan.notice_seconds,
            seed=self._plan.seed,
        )
        play.run(self._checked.steps)
        for name, scenario in zip(self._plan.scenarios, self._checked.scenarios, strict=True):
            with self._step(name):
                self._outcomes.append(scenario.play(self._stage()))
        if not self._plan.keep:
            # Not before: a group that scales on its own would blur which node replaces which. A kept fleet
            # stays as it was reported.
            self._follow_load()
        return play

    def _follow_load(self) -> None:
        metrics = FleetMetrics(self._cloud, self._nodes, self._balancer, self._plan.time_scale)
        self._watch.also_measure(metrics.measure)
        self._cloud.use_metrics(metrics)

    def _stage(self) -> Stage:
        return Stage(
            checked=self._checked,
            cloud=self._cloud,
            nodes=self._nodes,
            pulumi=self._pulumi,
            outputs=self._outputs,
            processes=self._processes,
            watch=self._watch,
            progress=self._progress,
            run_dir=self._dir,
            endpoint=self.endpoint,
            follow_load=self._follow_load,
        )

    def _show(self) -> None:
        moment = time.monotonic()
        if moment - self._shown < _SHOW_SECONDS:
            return
        self._shown = moment
        count = self._answers.read_on()
        wrong = sum(answer.error is not None for answer in self._answers.answers)
        nodes = sum(interruptions.serving(i) for i in self._cloud.instances())
        self._progress.now(f"{nodes} nodes serve, {count} requests answered, {wrong} failed")

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        self._progress.now(f"{name} ...")
        try:
            yield
        finally:
            self._steps[name] = time.monotonic() - began

    def _timed(self, name: str, work: Callable[[], Mapping[str, str]]) -> Mapping[str, str]:
        with self._step(name):
            return work()


def _counts(summary: Mapping[Any, int]) -> str:
    return ", ".join(f"{count} {operation}" for operation, count in sorted(summary.items())) or "no resources"
