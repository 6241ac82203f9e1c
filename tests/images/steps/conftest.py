"""Machines and materials for tables of commands."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from images.steps.command import Action, Command, Facts, Materials


@pytest.fixture
def debian() -> Facts:
    return Facts("debian", "12", "bookworm", "x86_64", "admin")


@pytest.fixture
def ubuntu() -> Facts:
    return Facts("ubuntu", "24.04", "noble", "x86_64", "ubuntu", docker_present=True)


@pytest.fixture
def amazon() -> Facts:
    return Facts("amzn", "2023", "", "x86_64", "ec2-user")


@pytest.fixture
def materials() -> Materials:
    return Materials(
        run_id="run", strategy="baked-root", archive_sha256={"../../build/goldenfleet-server.tar": "f" * 64}
    )


Lines = Callable[[Iterable[Action]], list[str]]


@pytest.fixture
def lines() -> Lines:
    """What a person reads of actions: the command, or the upload's target."""

    def read(actions: Iterable[Action]) -> list[str]:
        return [
            action.line if isinstance(action, Command) else f"upload {action.target}" for action in actions
        ]

    return read
