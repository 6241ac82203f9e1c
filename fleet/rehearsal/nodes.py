"""Emulated instances as real processes: each runs its template's user data on its own loopback address."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fleet.rehearsal.cloud import InstanceView
from fleet.rehearsal.processes import Processes
from fleet.rehearsal.usage import busy_seconds, processes

REGION = "us-east-1"
_IMDS_POLL_SECONDS = 2.0  # a node's watch on AWS (reference: aws-node-termination-handler)
_NODES_POLL_SECONDS = 2.0
_SCALING_METRIC_SECONDS = 60.0  # of AWS's time, in which a policy looks at a minute
_LOG = "log.jsonl"
_PORTS = (8080, 9090)
_FILES = ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")
# Where a machine of `images.machines` reaches this host's 127.0.0.1.
_HOST_IN_GUEST = "169.254.0.2"
# Threads of numpy would fight for the cores that all nodes share, and a fixed number keeps sums in one order.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class LogEvent:
    """One line of a node's log. `at` is in unix seconds."""

    at: float
    event: str
    instance_id: str
    role: str
    fields: Mapping[str, Any] = field(default_factory=dict)


def aws_environment(endpoint_url: str) -> dict[str, str]:
    """How any AWS SDK finds the emulated cloud; nothing of the user's own AWS settings gets through."""
    return {
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "rehearsal",
        "AWS_SECRET_ACCESS_KEY": "rehearsal",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }


def base_environment() -> dict[str, str]:
    """PATH with this environment's programs first, and UTF-8."""
    programs = Path(sys.executable).parent
    return {"PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}


def node_environment(instance: InstanceView, endpoint_url: str, time_scale: float) -> dict[str, str]:
    """What stands for the image's files and the instance's network."""
    return {
        **base_environment(),
        **aws_environment(endpoint_url),
        **_ONE_THREAD,
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": instance.metadata_endpoint,
        "GOLDENFLEET_ADDRESS": instance.address,
        "GOLDENFLEET_IMDS_POLL_SECONDS": f"{max(_IMDS_POLL_SECONDS * time_scale, 0.2):g}",
        "GOLDENFLEET_NODES_POLL_SECONDS": f"{max(_NODES_POLL_SECONDS * time_scale, 0.2):g}",
        "GOLDENFLEET_SCALING_METRIC_SECONDS": f"{_SCALING_METRIC_SECONDS * time_scale:g}",
    }


class Nodes:
    """The processes of all instances: the cloud's InstanceListener.

    With a disk `image`, the first spot node of a model tier is a virtual machine booted from it; `virtual`
    is its instance id.
    """

    def __init__(
        self,
        running: Processes,
        run_dir: Path,
        *,
        endpoint_url: Callable[[], str],
        time_scale: float,
        extra: Mapping[str, str] = {},
        image: Path | None = None,
    ) -> None:
        self._processes = running
        self._image = image
        self.virtual: str | None = None
        self._dir = run_dir / "nodes"
        self._dir.mkdir()
        self._endpoint_url = endpoint_url
        self._time_scale = time_scale
        self._extra = extra
        self._flaws: dict[str, Mapping[str, str]] = {}

    def spoil(self, image_id: str, settings: Mapping[str, str]) -> None:
        """From now on nodes of this image have such settings, as if they were in its files."""
        self._flaws[image_id] = settings

    def launched(self, instance: InstanceView) -> None:
        """Run the instance's user data, which must be a script, as its own process group."""
        home = self._dir / instance.instance_id
        again = home.exists()  # it was stopped, and finds its volumes as they were
        home.mkdir(exist_ok=True)
        script = home / "user-data"
        script.write_text(instance.user_data)
        script.chmod(0o700)
        own = self._flaws.get(instance.image_id, {})
        env = {**node_environment(instance, self._endpoint_url(), self._time_scale), **self._extra, **own}
        command = [str(script)]
        if self._image is not None and self.virtual is None and _may_be_virtual(instance):
            self.virtual = instance.instance_id
            settings = home / "instance.env"
            settings.write_text(guest_settings(env))
            command = machine_command(self._image, instance, script, settings, home)
        self._processes.start(instance.instance_id, command, env=env, cwd=home, log=home / _LOG, again=again)

    def killed(self, instance_id: str) -> None:
        self._processes.signal(instance_id)

    def living(self, instances: Sequence[InstanceView]) -> list[InstanceView]:
        """Those that start or run. The cloud itself learns of a sudden death only by health checks."""
        return [i for i in instances if self._processes.ended(i.instance_id) is None]

    def busy_seconds(self) -> dict[str, float]:
        """Instance id -> seconds in which it had work for a CPU so far, if its process runs."""
        running = {name: pid for name, pid in self._processes.running().items() if self._owns(name)}
        busy = busy_seconds(processes(), set(running.values()))
        return {name: busy.get(pid, 0.0) for name, pid in running.items()}

    def _owns(self, name: str) -> bool:
        return (self._dir / name).is_dir()

    def events(self) -> list[LogEvent]:
        """What every node logged so far, in order of time."""
        found = [event for log in self._dir.glob(f"*/{_LOG}") for event in read_log(log)]
        return sorted(found, key=lambda event: event.at)

    def last_words(self, instance_id: str, lines: int = 5) -> str:
        """The end of what a node wrote to stderr, for an error message."""
        path = self._dir / instance_id / _LOG
        text = path.with_suffix(".err").read_text(errors="replace") if path.exists() else ""
        return "\n".join(text.strip().splitlines()[-lines:])


def _may_be_virtual(instance: InstanceView) -> bool:
    return " --role model " in instance.user_data and instance.purchase_option == "spot"


def machine_command(
    image: Path, instance: InstanceView, user_data: Path, settings: Path, directory: Path
) -> list[str]:
    """Boots an overlay of `image` as the instance; it lives as long as this command."""
    metadata = urlsplit(instance.metadata_endpoint)
    command = [sys.executable, "-m", "images.machines", "run", "--image", str(image)]
    command += ["--directory", str(directory / "machine"), "--address", instance.address]
    command += ["--metadata", f"{metadata.hostname}:{metadata.port}", "--instance-id", instance.instance_id]
    command += ["--seed-user-data", str(user_data), "--environment-file", str(settings)]
    return [*command, *(part for port in _PORTS for part in ("--forward", f"{port}:{port}"))]


def guest_settings(env: Mapping[str, str]) -> str:
    """What a virtual machine is told of its node's environment: the rest the image and metadata know."""
    told = {key: value for key, value in env.items() if key.startswith(("AWS_", "GOLDENFLEET_"))}
    for own in ("GOLDENFLEET_ADDRESS", "AWS_EC2_METADATA_SERVICE_ENDPOINT", *_FILES):
        told.pop(own, None)
    told["AWS_ENDPOINT_URL"] = told["AWS_ENDPOINT_URL"].replace("127.0.0.1", _HOST_IN_GUEST)
    return "".join(f"{key}={value}\n" for key, value in sorted(told.items()))


def read_log(path: Path) -> Iterator[LogEvent]:
    """The events of a JSON-lines log; a last line that was cut by a kill, and foreign output, are skipped."""
    with path.open(errors="replace") as lines:
        for line in lines:
            event = parse_event(line)
            if event is not None:
                yield event


def parse_event(line: str) -> LogEvent | None:
    try:
        said = json.loads(line)
    except ValueError:
        return None
    if not isinstance(said, dict) or "event" not in said or "ts" not in said:
        return None
    known = {"event", "ts", "instance_id", "role"}
    return LogEvent(
        at=float(said["ts"]),
        event=str(said["event"]),
        instance_id=str(said.get("instance_id", "")),
        role=str(said.get("role", "")),
        fields={key: value for key, value in said.items() if key not in known},
    )
