"""What the control plane is asked while a fleet lives, each call timed."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any

from fleet.rehearsal.resources import Aws

_PAUSE_SECONDS = 0.1


@dataclass
class Timings:
    """Operation -> seconds of each call."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def timed(self, operation: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        try:
            return call()
        finally:
            self.seconds.setdefault(operation, []).append(time.perf_counter() - start)

    def figures(self) -> dict[str, Any]:
        every = sorted(value for values in self.seconds.values() for value in values)
        return {
            "calls": len(every),
            "p50": round(statistics.median(every), 4),
            "p99": round(every[int(len(every) * 0.99)], 4),
            "max": round(every[-1], 4),
            "max_by_operation": {name: round(max(of), 4) for name, of in sorted(self.seconds.items())},
        }


class Askers:
    """Two threads that ask as gateways, control and a person's dashboard do, some ten times a second each."""

    def __init__(self, aws: Aws, timings: Timings, outputs: Mapping[str, Any]) -> None:
        self._aws, self._timings = aws, timings
        self._stop = threading.Event()
        rounds = (self._discovery(outputs), self._status(outputs))
        self._threads = [threading.Thread(target=self._ask, args=(each,)) for each in rounds]

    def __enter__(self) -> Askers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        while not self._stop.is_set():
            for operation, request in calls:
                self._timings.timed(operation, partial(self._aws.call, operation, **request))
                self._stop.wait(_PAUSE_SECONDS)

    def _discovery(self, outputs: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
        groups = [tier["targetGroupArn"] for tier in outputs["tiers"].values()]
        health = [("elbv2.DescribeTargetHealth", {"TargetGroupArn": arn}) for arn in groups]
        return [*health, ("ec2.DescribeInstances", {})]

    def _status(self, outputs: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
        names = [tier["autoScalingGroup"] for tier in outputs["tiers"].values()]
        activities = [("autoscaling.DescribeScalingActivities", {"AutoScalingGroupName": n}) for n in names]
        queue = {"QueueUrl": outputs["noticeQueueUrl"], "MaxNumberOfMessages": 10, "WaitTimeSeconds": 0}
        return [
            ("autoscaling.DescribeAutoScalingGroups", {}),
            *activities,
            ("sqs.ReceiveMessage", queue),
        ]
