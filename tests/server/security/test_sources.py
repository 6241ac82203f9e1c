"""What no module, pin or option of ours holds."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from fleet.cli import main as fleet_cli
from server.__main__ import main as server_cli
from server.engine.cli import engine as engine_cli

ROOT = Path(__file__).parents[3]
PACKAGES = ("server", "fleet", "images", "client")
# multiprocessing and shelve pickle what they pass on.
PICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "multiprocessing", "joblib"}
SECRETS = re.compile(r"(^|[-_])(password|passwd|secret|token|api[-_]?key|key|credentials?)($|[-_])")


def _modules() -> Iterator[Path]:
    for package in PACKAGES:
        yield from (ROOT / package).rglob("*.py")


def _imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def test_nothing_is_pickled() -> None:
    """Neither between processes nor in files: weights are read with pickles switched off."""
    found = {str(file): _imported(file) & PICKLERS for file in _modules()}
    assert {file: names for file, names in found.items() if names} == {}
    loads = [call for file in _modules() for call in re.findall(r"np\.load\((.*)\)", file.read_text())]
    assert loads
    assert all("allow_pickle=False" in call for call in loads)


@pytest.mark.parametrize("file", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda file: file.name)
def test_every_dependency_is_locked_by_hash(file: Path) -> None:
    """One version, and the hash of each of its files."""
    text = file.read_text().replace("\\\n", " ")
    pins = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", "--"))]
    assert pins
    for pin in pins:
        assert re.match(r"[A-Za-z0-9._-]+(\[[^]]+\])?==[^ ;]+", pin), pin
        assert "--hash=sha256:" in pin, pin


def _options(command: click.Command, path: str) -> Iterator[tuple[str, click.Parameter]]:
    yield from ((path, parameter) for parameter in command.params)
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from _options(child, f"{path} {name}")


def test_no_option_takes_a_secret() -> None:
    """What is on a command line is in every process list and shell history."""
    commands = [("goldenfleet", fleet_cli), ("server", server_cli), ("engine", engine_cli)]
    found = [option for name, command in commands for option in _options(command, name)]
    assert len(found) > 20
    # A key's id is its name in logs.
    named = [(path, option.name or "") for path, option in found if option.name != "key_id"]
    assert [(path, name) for path, name in named if SECRETS.search(name)] == []
