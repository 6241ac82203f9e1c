"""What the client library shows to its users, and what it brings along."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import goldenfleet_client
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.client import sample

ROOT = Path(__file__).parents[2]
NAMES = {
    *("AsyncClient", "AsyncStream", "Chunk", "Client", "ConfigurationError", "ConnectionFailed"),
    *("DeadlineExceeded", "Event", "EventHook", "GaveUp", "Generation", "GoldenfleetError"),
    *("InvalidRequest", "Message", "Model", "NotAuthorised", "Options", "RateLimited", "RequestRefused"),
    *("Resumed", "Retried", "RetryPolicy", "ServerFailed", "ServiceError", "Stream", "StreamTruncated"),
    *("Timeouts", "Usage"),
}
# Six packages that httpx2 stands on, and httpx2.
BROUGHT = {"anyio", "h11", "httpcore2", "httpx2", "idna", "truststore", "typing-extensions"}


def test_the_public_names() -> None:
    """A name that is added, renamed or taken away is noticed here first."""
    assert set(goldenfleet_client.__all__) == NAMES
    assert all(hasattr(goldenfleet_client, name) for name in NAMES)


def test_the_sample_uses_every_public_name() -> None:
    """Each is imported by the sample, and used after that."""
    tree = ast.parse(Path(sample.__file__).read_text())
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "goldenfleet_client"
        for alias in node.names
    }
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert imported == NAMES
    assert imported <= used


def test_the_sample_is_typed() -> None:
    """mypy, strict, finds nothing in it: the library's types are what its users need."""
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", sample.__file__],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def test_the_sample_runs(service: Any, acts: Any) -> None:
    """Against a service that does what it should, and one that refuses."""
    models, whole, speak = acts.answer(200, {"data": [{"id": "m"}]}), acts.whole, acts.speak()
    service.then(*[models, whole, whole, speak, speak] * 2, acts.refuse(404))
    events: list[goldenfleet_client.Event] = []
    said = ["m", *[acts.text] * 4]
    assert sample.blocking(service.url, events.append) == said
    assert asyncio.run(sample.awaited(service.url, events.append)) == said
    with pytest.raises(goldenfleet_client.InvalidRequest) as refused:
        sample.blocking(service.url, events.append)
    assert sample.explained(refused.value) == "status 404, code busy"
    assert [re.sub(r"^\w+", "id", sample.told(event)) for event in events] == [
        "id: given up after 1 attempts, for HTTP 404: no; asking again would not help"
    ]


def _brings(name: str) -> set[str]:
    """The distributions that an installation of `name` needs, on any system, without its extras."""
    needed = [Requirement(line) for line in distribution(name).requires or ()]
    chosen = {
        canonicalize_name(r.name) for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})
    }
    return chosen.union(*(_brings(child) for child in chosen))


def test_what_the_wheel_brings() -> None:
    """At most eight packages, and none unseen: the whole closure is pinned."""
    assert _brings("goldenfleet-client") == BROUGHT
    assert len(BROUGHT) <= 8


def _modules(code: str) -> set[str]:
    """Top names of the modules that `code` loads in a process of its own."""
    ask = f"import sys; before = set(sys.modules); {code}; import json"
    show = "print(json.dumps(sorted({name.partition('.')[0] for name in set(sys.modules) - before})))"
    ran = subprocess.run([sys.executable, "-c", f"{ask}; {show}"], capture_output=True, text=True, check=True)
    return set(json.loads(ran.stdout))


def test_what_an_import_loads() -> None:
    """Nothing but the client, httpx2 and the standard library; the drop-in's packages wait for it."""
    foreign = {name for name in _modules("import goldenfleet_client") if name not in sys.stdlib_module_names}
    assert foreign == {"goldenfleet_client", "httpx2", "idna", "typing_extensions"}


def test_requests_name_their_sender(service: Any, acts: Any) -> None:
    """Web application firewalls refuse who does not (NoUserAgent_HEADER of AWS's common rules)."""
    service.then(acts.whole)
    with goldenfleet_client.Client(service.url, model="m") as client:
        client.generate("x")
    version = distribution("goldenfleet-client").version
    assert service.seen[0].headers["user-agent"] == f"goldenfleet-client/{version}"


def test_the_drop_in_is_asked_for_by_its_extra() -> None:
    """The extra brings text-generation, whose own needs are what else the drop-in imports."""
    project = tomllib.loads((ROOT / "client" / "pyproject.toml").read_text())["project"]
    assert [Requirement(line).name for line in project["dependencies"]] == ["httpx2"]
    extras = project["optional-dependencies"]
    assert [Requirement(line).name for line in extras.pop("text-generation")] == ["text-generation"]
    assert extras == {}
    needed = {Requirement(line).name for line in distribution("text-generation").requires or ()}
    assert {"aiohttp", "pydantic"} <= needed
