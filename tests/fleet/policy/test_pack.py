"""The pack as Pulumi's CLI runs it: the same command, the same folder, the same wire protocol."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from google.protobuf import empty_pb2, json_format, struct_pb2
from pulumi.runtime.proto import analyzer_pb2, analyzer_pb2_grpc
from pulumi_policy import proxy

from fleet.policy.evaluate import evaluate
from fleet.policy.model import UNKNOWN, Resource
from fleet.policy.pack import is_production
from fleet.policy.rules import RULES
from tests.fleet.policy.examples import EXAMPLES

PACK = Path(__file__).parents[3] / "fleet" / "policy"
LEVELS = {"advisory": analyzer_pb2.ADVISORY, "mandatory": analyzer_pb2.MANDATORY}
DEADLINE_SECONDS = 60


@contextmanager
def served(**config: str) -> Iterator[Any]:
    """A stub of the pack, started as pulumi-analyzer-policy-python starts it."""
    command = [sys.executable, "-u", "-m", "pulumi.policy", "127.0.0.1:1", "."]
    env = {**os.environ, "PULUMI_CONFIG": json.dumps(config)}
    with subprocess.Popen(command, cwd=PACK, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                grpc.channel_ready_future(channel).result(DEADLINE_SECONDS)
                yield analyzer_pb2_grpc.AnalyzerStub(channel)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def pack() -> Iterator[Any]:
    with served(**{"goldenfleet:production": "true"}) as stub:
        yield stub


def struct(props: Any) -> struct_pb2.Struct:
    return json_format.ParseDict(wired(props), struct_pb2.Struct())


def wired(value: Any) -> Any:
    """As Pulumi writes what it does not know yet."""
    if value is UNKNOWN:
        return proxy.UNKNOWN_STRING_VALUE
    if isinstance(value, dict):
        return {key: wired(item) for key, item in value.items()}
    return [wired(item) for item in value] if isinstance(value, list) else value


def asked(stub: Any, resources: list[Resource]) -> list[tuple[str, str]]:
    """(rule, resource) of each violation, by both questions that the CLI asks."""
    found: list[Any] = []
    for resource in resources:
        request = analyzer_pb2.AnalyzeRequest(
            urn=resource.urn, type=resource.type, name=resource.name, properties=struct(dict(resource.props))
        )
        found += [(item.policyName, resource.urn) for item in stub.Analyze(request).diagnostics]
    shown = [in_stack(resource) for resource in resources]
    answer = stub.AnalyzeStack(analyzer_pb2.AnalyzeStackRequest(resources=shown))
    return sorted([*found, *((item.policyName, item.urn) for item in answer.diagnostics)])


def in_stack(of: Resource) -> Any:
    refs = {
        argument: analyzer_pb2.AnalyzerPropertyDependencies(urns=urns) for argument, urns in of.refs.items()
    }
    return analyzer_pb2.AnalyzerResource(
        urn=of.urn,
        type=of.type,
        name=of.name,
        properties=struct(dict(of.props)),
        propertyDependencies=refs,
    )


def in_process(resources: list[Resource]) -> list[tuple[str, str]]:
    return sorted((v.rule, v.urn) for v in evaluate(resources, production=True).violations)


def test_the_pack_tells_its_rules(pack: Any) -> None:
    """Name, description, level and remedy of each, as the CLI and Pulumi's console show them."""
    info = pack.GetAnalyzerInfo(empty_pb2.Empty())
    assert info.name == "goldenfleet"
    told = {p.name: (p.description, p.enforcementLevel, p.remediation_steps) for p in info.policies}
    assert told == {rule.name: (rule.description, LEVELS[rule.level], rule.remedy) for rule in RULES}


@pytest.mark.parametrize("which", ["bad", "good"])
def test_the_pack_judges_as_we_do_in_process(pack: Any, which: str) -> None:
    """On every example, with every rule."""
    for name, example in EXAMPLES.items():
        resources = getattr(example, which)
        assert asked(pack, resources) == in_process(resources), name


def test_the_pack_passes_over_what_is_not_known_yet(pack: Any) -> None:
    """Values unknown in a preview neither violate a rule nor hide the others' words."""
    for name, example in EXAMPLES.items():
        hidden = [
            Resource(r.type, r.name, r.urn, dict.fromkeys(r.props, UNKNOWN), r.refs) for r in example.bad
        ]
        assert asked(pack, hidden) == in_process(hidden), name


def test_outside_production_its_rules_are_left_out() -> None:
    """The stack's own configuration says which it is."""
    with served() as stub:
        info = stub.GetAnalyzerInfo(empty_pb2.Empty())
    assert {p.name for p in info.policies} == {rule.name for rule in RULES if not rule.production}


@pytest.mark.parametrize(
    ("config", "production"),
    [
        ('{"goldenfleet:production": "true"}', True),
        ('{"goldenfleet:production": "false"}', False),
        ("{}", False),
    ],
)
def test_the_configuration_says_whether_it_is_production(config: str, production: bool) -> None:
    """As Pulumi writes a boolean: as text."""
    assert is_production({"PULUMI_CONFIG": config}) is production
    assert is_production({}) is False


def test_the_packs_file_is_what_the_cli_reads() -> None:
    """PulumiPolicy.yaml beside __main__.py; its virtual environment is found from the pack's own folder."""
    described = yaml.safe_load((PACK / "PulumiPolicy.yaml").read_text())
    assert described["runtime"]["name"] == "python"
    environment = PACK / described["runtime"]["options"]["virtualenv"]
    assert environment.resolve() == PACK.parents[1] / ".venv"
    assert (PACK / "__main__.py").is_file()


def test_no_module_of_the_pack_hides_another() -> None:
    """Pulumi puts the pack's folder first on the path, where a `secrets.py` would stand for Python's own."""
    own = {path.stem for path in PACK.glob("*.py")} - {"__init__", "__main__"}
    assert not own & (
        set(sys.stdlib_module_names) | {"fleet", "google", "grpc", "pulumi", "pulumi_policy", "yaml"}
    )
