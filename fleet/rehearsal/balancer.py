"""The balancer of a rehearsal: Envoy in the place of the public ALB, fed from the cloud's target health."""

from __future__ import annotations

import http.client
import json
import os
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fleet.rehearsal.envoy import HOST, Listener, Target, assignment, bootstrap, cluster_name, endpoints
from fleet.rehearsal.errors import NotInTimeError, ProcessFailedError, RehearsalError
from fleet.rehearsal.ports import check_free
from fleet.rehearsal.processes import Processes

if TYPE_CHECKING:
    from mypy_boto3_elbv2 import ElasticLoadBalancingv2Client

_NAME = "balancer"
_ENVOY = str(Path(sys.executable).parent / "envoy")
_START_SECONDS = 30.0
_REFRESH_SECONDS = 0.1


def public_listeners(elbv2: ElasticLoadBalancingv2Client, load_balancer: str) -> list[Listener]:
    """The listeners of a load balancer that forward to a target group, as Envoy must stand in for them."""
    attributes = elbv2.describe_load_balancer_attributes(LoadBalancerArn=load_balancer)["Attributes"]
    idle = int(_attribute(attributes, "idle_timeout.timeout_seconds", "60"))
    found = []
    for listener in elbv2.describe_listeners(LoadBalancerArn=load_balancer)["Listeners"]:
        for action in listener["DefaultActions"]:
            if action["Type"] == "forward":
                group = action["TargetGroupArn"]
                of_group = elbv2.describe_target_group_attributes(TargetGroupArn=group)["Attributes"]
                algorithm = _attribute(of_group, "load_balancing.algorithm.type", "round_robin")
                found.append(Listener(listener["Port"], group, algorithm, idle))
    if not found:
        raise RehearsalError(f"no listener of {load_balancer} forwards to a target group")
    return found


def _attribute(attributes: Iterable[Mapping[str, Any]], key: str, default: str) -> str:
    return next((str(a["Value"]) for a in attributes if a["Key"] == key), default)


class Balancer:
    """Envoy on `127.0.0.1:port` (further listeners on the ports after it), until it is closed."""

    def __init__(
        self,
        processes: Processes,
        run_dir: Path,
        listeners: Sequence[Listener],
        targets: Callable[[str], Sequence[Target]],
        *,
        port: int,
    ) -> None:
        self._processes = processes
        self._dir = run_dir / _NAME
        self._listeners = listeners
        self._targets = targets
        self._written: dict[int, Mapping[tuple[str, int], str]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=_NAME, daemon=True)
        self.ports = [port + i for i in range(len(listeners))]

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.ports[0]}"

    def start(self) -> None:
        """Raises PortInUseError or ProcessFailedError; returns when Envoy accepts connections."""
        for port in self.ports:
            check_free(HOST, port)
        self._dir.mkdir()
        self.refresh()
        config = self._dir / "envoy.json"
        config.write_text(json.dumps(bootstrap(self._listeners, self.ports, str(self._dir)), indent=1))
        self._processes.start(_NAME, self._command(config), env={"PATH": os.defpath}, cwd=self._dir)
        self._wait_until_live()
        self._thread.start()

    def _command(self, config: Path) -> list[str]:
        return [
            *(_ENVOY, "--config-path", str(config)),
            *("--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"),
            *("--admin-address-path", str(self._dir / "admin"), "--log-path", str(self._dir / "envoy.log")),
        ]

    def _wait_until_live(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._live():
            if self._processes.ended(_NAME) is not None:
                raise ProcessFailedError("the balancer (Envoy) did not start", self._last_words())
            if time.monotonic() > deadline:
                raise NotInTimeError(f"the balancer (Envoy) was not ready within {_START_SECONDS:g} s")
            self._stop.wait(0.05)

    def _live(self) -> bool:
        try:
            return self._admin("/ready").strip() == "LIVE"
        except (OSError, http.client.HTTPException):
            return False

    def _last_words(self) -> str:
        written = [p.read_text() for p in (self._dir / "envoy.log", self._dir / "balancer.err") if p.exists()]
        return "\n".join("".join(written).strip().splitlines()[-5:])

    def _admin(self, path: str) -> str:
        address = (self._dir / "admin").read_text().strip()
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as response:
            text: str = response.read().decode()
        return text

    def requests(self) -> dict[str, int]:
        """Target group -> requests sent to it so far; nothing when Envoy does not answer."""
        try:
            counters = json.loads(self._admin("/stats?format=json&filter=upstream_rq_total$"))["stats"]
        except (OSError, http.client.HTTPException):
            return {}
        values = {counter["name"]: counter["value"] for counter in counters if "name" in counter}
        return {
            listener.target_group: values.get(f"cluster.{cluster_name(index)}.upstream_rq_total", 0)
            for index, listener in enumerate(self._listeners)
        }

    def refresh(self) -> None:
        """Tell Envoy about targets that came, went, or changed their state."""
        for index, listener in enumerate(self._listeners):
            statuses = endpoints(self._targets(listener.target_group))
            if self._written.get(index) != statuses:
                self._write(index, statuses)
                self._written[index] = statuses

    def _write(self, index: int, statuses: Mapping[tuple[str, int], str]) -> None:
        name = cluster_name(index)
        fresh = self._dir / f".{name}.json"
        fresh.write_text(json.dumps(assignment(name, statuses)))
        # Envoy watches for files that are moved into the directory, and reads no half-written one so.
        fresh.replace(self._dir / f"{name}.json")

    def _follow(self) -> None:
        while not self._stop.wait(_REFRESH_SECONDS):
            self.refresh()

    def close(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._processes.signal(_NAME)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
