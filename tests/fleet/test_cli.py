from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fleet.cli import main
from fleet.rehearsal.scenarios import SCENARIOS

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("Pulumi.yaml", "Pulumi.rehearsal.yaml"):
        shutil.copy(CHECKOUT / name, folder)
    return folder


Rehearse = Callable[..., Result]


@pytest.fixture
def rehearse(project: Path) -> Rehearse:
    def run(*arguments: str) -> Result:
        before = children()
        result = CliRunner().invoke(main, ["rehearse", "--project", str(project), *arguments])
        assert children() == before, "a process was started"
        return result

    return run


def children() -> str:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text()


def edit(project: Path, old: str, new: str) -> None:
    path = project / "Pulumi.rehearsal.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def refused(result: Result, *words: str) -> None:
    """Exit 2, the words on stderr, and nothing on stdout."""
    assert result.exit_code == 2
    assert result.stdout == ""
    for word in words:
        assert word in result.stderr
    assert "Traceback" not in result.stderr


def test_help_names_every_scenario(rehearse: Rehearse) -> None:
    """Whoever asks for help sees what may be asked for."""
    said = rehearse("--help").stdout
    assert all(name in said for name in SCENARIOS)


def test_unknown_setting(rehearse: Rehearse, project: Path) -> None:
    """A key of the stack's file that does not exist is named."""
    edit(project, "desired: 3", "desired: 3, desried: 3")
    refused(
        rehearse(), "goldenfleet:tiers.model.capacity.desried", "no such setting", "Pulumi.rehearsal.yaml"
    )


def test_impossible_capacity(rehearse: Rehearse, project: Path) -> None:
    """Capacity numbers that contradict each other are named, with a way out."""
    edit(project, "{min: 1, desired: 3, max: 6}", "{min: 7, desired: 3, max: 6}")
    refused(rehearse(), "goldenfleet:tiers.model.capacity", "min 7 is above max 6")


def test_stack_name_too_long(rehearse: Rehearse) -> None:
    """A stack whose name leaves no room in an ALB's name is refused."""
    refused(rehearse("--stack", "rehearsal-of-spring"), "19 characters", "load balancer")


def test_no_such_stack(rehearse: Rehearse) -> None:
    """A stack without a file is refused."""
    refused(rehearse("--stack", "nowhere"), "Pulumi.nowhere.yaml")


def test_no_image(rehearse: Rehearse, project: Path) -> None:
    """A recipe that no image was made of is named, with those that there are."""
    edit(project, "recipe: rehearsal", "recipe: llama-8b")
    refused(rehearse(), "'llama-8b'", "has no image", "rehearsal")


def test_port_in_use(rehearse: Rehearse) -> None:
    """A port that someone has is refused, and how to choose another is said."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused(rehearse("--port", port), f"port {port} on 127.0.0.1 is in use", "--port")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--interrupt", ""), "''"),
        (("--config", "nonsense=1"), "nonsense"),
        (("--models", "500"), "500"),
        (("--interrupt", "spot:engine"), "'spot:engine'"),
        (("--models", "2"), "scale-in:model would leave 1"),
        (("--gateways", "1"), "spot:gateway needs a spot node"),
        (("--config", "goldenfleet:tires={}"), "goldenfleet:tires"),
        (("--config", "goldenfleet:tiers"), "KEY=JSON"),
        (("--clients", "0"), "--clients"),
        (("--notice-seconds", "1"), "--notice-seconds"),
        (("--notice-seconds", "nan"), "--notice-seconds"),
        (("--duration", "inf"), "--duration"),
        (("--png", "/nowhere/fleet.png"), "/nowhere/fleet.png"),
        (("--run-dir", "/proc/nowhere"), "/proc/nowhere"),
        (("--run-dir", "/tmp"), "/tmp"),
        (("--no-such-option",), "--no-such-option"),
    ],
)
def test_refused(rehearse: Rehearse, arguments: tuple[str, ...], words: str) -> None:
    """What cannot be done as asked is refused before anything starts."""
    refused(rehearse("--port", "1024", *arguments), words)


def test_help() -> None:
    """Help shows examples and exit codes, without importing what a rehearsal needs."""
    result = CliRunner().invoke(main, ["rehearse", "--help"])
    assert result.exit_code == 0
    assert "--interrupt storm" in result.stdout
    assert "130" in result.stdout
