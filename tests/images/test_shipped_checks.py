"""The golden checks of shipped recipes, put to our own server as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from images.checks import refuse_failures, run_checks, wait_ready
from images.errors import CheckFailed
from images.recipe import Recipe

PID = os.getpid()


@contextmanager
def serving(role: str, host: str, **settings: str) -> Iterator[str]:
    env = {
        "PATH": os.environ["PATH"],
        "GOLDENFLEET_ADDRESS": host,
        "GOLDENFLEET_IMDS_ENDPOINT": "off",
        **{f"GOLDENFLEET_{name.upper()}": value for name, value in settings.items()},
    }
    command = [sys.executable, "-m", "server", "--role", role]
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://{host}:8080"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def host() -> str:
    """A loopback address of this process's own."""
    return f"127.{1 + PID // 65536 % 254}.{PID // 256 % 256}.{PID % 256 or 1}"


def test_model(make_recipe: Callable[..., Recipe], host: str) -> None:
    """The embedded engine answers the rehearsal's golden checks, and a wrong expectation is found out."""
    recipe = make_recipe("rehearsal")
    assert recipe.engine is not None
    with serving("model", host) as url:
        wait_ready(url, deadline_s=45)
        refuse_failures(run_checks(url, recipe.checks, model=recipe.engine.model))
        wrong = make_recipe(
            "rehearsal", checks=[{"name": "wrong", "prompt": "What?", "expect": {"exact": "nonsense"}}]
        )
        with pytest.raises(CheckFailed, match="check wrong: the answer is"):
            refuse_failures(run_checks(url, wrong.checks, model=recipe.engine.model))


def test_gateway(make_recipe: Callable[..., Recipe], host: str) -> None:
    """A gateway answers its image's golden checks with no node behind it."""
    recipe = make_recipe("gateway-cpu")
    with serving("gateway", host, nodes=f"static:{host}:9", auth="off") as url:
        wait_ready(url, deadline_s=45)
        refuse_failures(run_checks(url, recipe.checks, model=None))
