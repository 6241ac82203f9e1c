import json
import os
from pathlib import Path

import pytest

from bench.configs import envoy_bootstrap, litellm_config, nginx_config
from bench.gateways import BALANCER, HEADERS, SPECS, Place, Spec
from server.auth.keyfile import read_keys

ENGINES = [("127.0.64.1", 8001), ("127.0.64.2", 8002)]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(("127.0.0.1", 18_000), ENGINES, tmp_path, tmp_path)


@pytest.mark.parametrize(
    "spec", [*(spec for spec in SPECS if spec.kind != "none"), BALANCER], ids=lambda s: s.name
)
def test_every_gateway_is_told_of_both_engines(spec: Spec, place: Place) -> None:
    """On its command line, in its environment or in a file, and of no host but the loopback."""
    launch = spec.launch(place)
    files = [path.read_text() for path in place.directory.iterdir()]
    told = " ".join([*launch.argv, *launch.env.values(), *files])

    assert all(str(port) in told for _, port in ENGINES)
    assert "0.0.0.0" not in told


def test_ours_asks_for_the_key_that_clients_send(place: Place) -> None:
    """The measured gateway has authentication on: its keys document knows the clients' key, by its hash."""
    [ours] = [spec for spec in SPECS if spec.kind == "ours"]
    launch = ours.launch(place)
    keys = place.directory / "keys.json"

    assert launch.env["GOLDENFLEET_AUTH"] == "on"
    assert len(read_keys(keys.read_text()).keys) == 1
    assert HEADERS["authorization"].removeprefix("Bearer ") not in keys.read_text()
    assert os.stat(keys).st_mode & 0o077 == 0


def test_configurations_of_others_retry_elsewhere() -> None:
    """They are compared at their best: each is told to try the other engine."""
    assert "proxy_next_upstream error timeout" in nginx_config(("127.0.0.1", 1), ENGINES, Path("/tmp"))
    assert "retry_policy" in json.dumps(envoy_bootstrap(("127.0.0.1", 1), ENGINES))
    assert litellm_config(ENGINES, "m")["router_settings"]["num_retries"] == 2
