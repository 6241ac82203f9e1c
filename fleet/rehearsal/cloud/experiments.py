"""Experiments of the Fault Injection Service that really interrupt spot instances; moto's only take notes.

What the action does: "AWS FIS actions reference", aws:ec2:send-spot-instance-interruptions. Targets without
any resource make an experiment fail ("Experiment options", emptyTargetResolutionMode).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moto.fis.exceptions import FISException
from moto.fis.models import Experiment, FISBackend

from fleet.rehearsal.cloud import instances
from fleet.rehearsal.cloud.patches import Patches
from fleet.rehearsal.cloud.records import Machine
from fleet.rehearsal.cloud.world import World

_ACTION = "aws:ec2:send-spot-instance-interruptions"
_AT_ONCE = "PT2M"
_EMPTY = "Target resolution returned empty set"


def install(world: World, patches: Patches) -> None:
    def make_create(original: Any) -> Any:
        def create_experiment_template(self: FISBackend, **arguments: Any) -> Any:
            for action in arguments["actions"].values():
                _require_emulated(action)
            return original(self, **arguments)

        return create_experiment_template

    def make_start(original: Any) -> Any:
        def start_experiment(self: FISBackend, **arguments: Any) -> Any:
            known = set(self.experiments)
            told = original(self, **arguments)
            if told["id"] in known:
                return told  # the same client token: it was started before
            experiment = self.experiments[told["id"]]
            _run(world, experiment)
            return experiment.to_dict(tags=told["tags"])

        return start_experiment

    patches.wrap(FISBackend, "create_experiment_template", make_create)
    patches.wrap(FISBackend, "start_experiment", make_start)


def _require_emulated(action: Mapping[str, Any]) -> None:
    """Refused rather than ignored: nothing here would play it."""
    if action.get("actionId") != _ACTION:
        raise _invalid(f"the emulated cloud has the action {_ACTION} only, not {action.get('actionId')}")
    duration = action.get("parameters", {}).get("durationBeforeInterruption")
    if duration != _AT_ONCE:
        raise _invalid(f"the emulated cloud has durationBeforeInterruption {_AT_ONCE} only, not {duration}")


def _invalid(message: str) -> FISException:
    return FISException("ValidationException", message)


def _run(world: World, experiment: Experiment) -> None:
    named = [target.resource_arn for target in experiment.resolved_targets()]
    found = [machine for arn in named if (machine := _spot(world, arn)) is not None]
    if not found:
        experiment.status = "failed"
        experiment.STATUS_REASONS = {**Experiment.STATUS_REASONS, "failed": _EMPTY}  # type: ignore[misc]
        return
    for machine in found:
        instances.recommend_rebalance(world, machine)
        instances.give_notice(world, machine)


def _spot(world: World, arn: str) -> Machine | None:
    machine = world.machines.get(arn.rpartition("/")[2])
    if machine is None or machine.option != "spot":
        return None
    return machine if machine.running_at is not None and machine.terminated_at is None else None
