"""The gateways that are compared: how each is started, as its makers would have it for this work."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal

from bench.configs import envoy_bootstrap, litellm_config, nginx_config
from bench.errors import NothingToCompare
from bench.frames import MODEL
from bench.processes import Address, Child, cpu_seconds, free_port, tree

Kind = Literal["none", "ours", "limit", "peer"]
ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / ".goldenfleet" / "bench-venv" / "bin"
_LOOK_S, _IDLE_SHARE = 0.25, 0.1
_MANY = 1_000_000_000
_VENV_HINT = "run scripts/bench-server, which makes .venv"
_PEERS_HINT = "run scripts/bench-server --install"
# Guards nothing: it is accepted on loopback, by processes that end with the benchmark.
KEY = "sk-bench-0123456789abcdef0123456789abcdef"
HEADERS = {"authorization": f"Bearer {KEY}"}


@dataclass(frozen=True)
class Launch:
    """A command line, with what it needs beside it."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    start_s: float = 30.0


@dataclass(frozen=True)
class Place:
    """Where a gateway listens, whom it sends to, its directory, and what ours is run from and with."""

    address: Address
    engines: Sequence[Address]
    directory: Path
    tree: Path
    python: str = sys.executable

    def write(self, name: str, text: str) -> str:
        path = self.directory / name
        path.touch(mode=0o600)
        path.write_text(text)
        return str(path)


@dataclass(frozen=True)
class Spec:
    """`absent` is why it cannot run here, or None."""

    name: str
    kind: Kind
    launch: Callable[[Place], Launch]
    absent: Callable[[], str | None]


@dataclass(frozen=True)
class Running:
    """A gateway that serves; `child` is None where clients talk to the engine itself."""

    spec: Spec
    address: Address
    child: Child | None

    @property
    def hidden(self) -> int:
        """Retries and resumes of ours so far, of which its clients saw nothing."""
        if self.child is None or self.spec.kind != "ours":
            return 0
        return sum(self.child.logged(f'"event": "request.{what}"') for what in ("retried", "resumed"))

    async def idle(self, within_s: float) -> None:
        """Until it has left what its clients left, so that it takes nothing from the next."""
        ends = time.monotonic() + within_s
        used = self.cpu_seconds
        while time.monotonic() < ends:
            await asyncio.sleep(_LOOK_S)
            before, used = used, self.cpu_seconds
            if used - before < _IDLE_SHARE * _LOOK_S:
                break

    @property
    def cpu_seconds(self) -> float:
        return cpu_seconds(tree(self.child.pid)) if self.child else 0.0


def _ours(place: Place) -> Launch:
    """All features on: keys with limits that are counted and never reached, metrics, resume."""
    limits = {"requests_per_minute": _MANY, "tokens_per_minute": _MANY, "concurrency": _MANY}
    key = {"id": "bench", "tenant": "bench", "sha256": sha256(KEY.encode()).hexdigest(), "limits": limits}
    keys = place.write("keys.json", json.dumps({"keys": [key]}))
    nodes = ",".join(f"{host}:{port}" for host, port in place.engines)
    env = {
        "GOLDENFLEET_NODES": f"static:{nodes}",
        "GOLDENFLEET_AUTH": "on",
        "GOLDENFLEET_KEYS": f"file:{keys}",
        "GOLDENFLEET_ADDRESS": place.address[0],
        "GOLDENFLEET_PORT": str(place.address[1]),
        "GOLDENFLEET_ADMIN_PORT": str(free_port(place.address[0])),
        "GOLDENFLEET_IMDS_ENDPOINT": "off",
        "PYTHONPATH": os.pathsep.join([str(place.tree), sysconfig.get_path("purelib")]),
    }
    return Launch([place.python, "-m", "server", "--role", "gateway"], env)


def _nginx(place: Place) -> Launch:
    config = place.write("nginx.conf", nginx_config(place.address, place.engines, place.directory))
    return Launch(["nginx", "-p", str(place.directory), "-c", config])


def _envoy(place: Place) -> Launch:
    return envoy_launch(place, envoy_bootstrap(place.address, place.engines))


def envoy_launch(place: Place, bootstrap: Mapping[str, object]) -> Launch:
    config = place.write("envoy.json", json.dumps(bootstrap))
    return Launch(
        [_envoy_binary(), "-c", config, "--concurrency", "1", "-l", "warning", "--disable-hot-restart"]
    )


def balancer(place: Place) -> Launch:
    """Envoy before our gateways: it asks whether they are ready, and leaves retries to clients."""
    return envoy_launch(
        place, envoy_bootstrap(place.address, place.engines, health_path="/ready", retries=False)
    )


def _sglang(place: Place) -> Launch:
    return Launch([str(PEERS / "sglang-router"), "launch", *_router_flags(place)])


def _vllm(place: Place) -> Launch:
    return Launch([str(PEERS / "vllm-router"), *_router_flags(place)])


def _router_flags(place: Place) -> list[str]:
    host, port = place.address
    urls = [f"http://{host}:{port}" for host, port in place.engines]
    flags = ["--host", host, "--port", str(port), "--policy", "power_of_two"]
    metrics = ["--prometheus-host", host, "--prometheus-port", str(free_port(host))]
    return [*flags, *metrics, "--worker-urls", *urls]


def _litellm(place: Place) -> Launch:
    config = place.write("litellm.json", json.dumps(litellm_config(place.engines, MODEL)))
    host, port = place.address
    flags = ["--config", config, "--host", host, "--port", str(port), "--num_workers", "1"]
    env = {"LITELLM_MASTER_KEY": KEY, "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return Launch([str(PEERS / "litellm"), *flags], env, start_s=90.0)


def _direct(place: Place) -> Launch:
    raise NothingToCompare(f"nothing is started at {place.address}: clients talk to the engine itself")


def _envoy_binary() -> str:
    return str(Path(sys.executable).parent / "envoy")


def _there(what: str, hint: str) -> str | None:
    return None if shutil.which(what) else f"{Path(what).name} is not installed; {hint}"


BALANCER = Spec("balancer", "limit", balancer, lambda: _there(_envoy_binary(), _VENV_HINT))
SPECS: tuple[Spec, ...] = (
    Spec("direct", "none", _direct, lambda: None),
    Spec("ours", "ours", _ours, lambda: None),
    Spec("nginx", "limit", _nginx, lambda: _there("nginx", "apt-get install nginx-light")),
    Spec("envoy", "limit", _envoy, lambda: _there(_envoy_binary(), _VENV_HINT)),
    Spec("sglang-router", "peer", _sglang, lambda: _there(str(PEERS / "sglang-router"), _PEERS_HINT)),
    Spec("vllm-router", "peer", _vllm, lambda: _there(str(PEERS / "vllm-router"), _PEERS_HINT)),
    Spec("litellm", "peer", _litellm, lambda: _there(str(PEERS / "litellm"), _PEERS_HINT)),
)
