"""Every snippet of docs/clients.md, against two gateways of which one is dead."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from goldenfleet_client import Client

from bench.frames import MODEL
from bench.processes import accepts, free_port
from bench.tokens import read_prompt, text_of
from tests.client.shears import Shears

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "clients.md").read_text()
RECIPES = dict(re.findall(r"<!-- recipe: (.+?) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL))
NEEDS = {"openai": "openai", "anthropic": "openai", "langchain": "langchain_openai"}
PROMPT, TOKENS = "What is a drain?", 64
TEXT = text_of(0, len(read_prompt({"prompt": PROMPT}).ids), TOKENS)
# Longer than a whole answer with its head, shorter than a stream: only streams are cut.
WITHIN_A_STREAM = 6000
UNCUT = 10**9
# Those that stream and can go on, or ask again by themselves, as their snippet has it.
MENDED = ("goldenfleet_client", "goldenfleet_client, async", "text_generation", "openai")


def _spawn(*arguments: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **env},
        text=True,
    )


def _gateway(engine: int) -> tuple[subprocess.Popen[str], int]:
    fields = {"ADDRESS": "127.0.0.1", "PORT": "0", "ADMIN_PORT": "0", "IMDS_ENDPOINT": "off", "AUTH": "off"}
    fields["NODES"] = f"static:127.0.0.1:{engine}"
    env = {f"GOLDENFLEET_{name}": value for name, value in fields.items()}
    process = _spawn("server", "--role", "gateway", "--stack", "test", **env)
    assert process.stdout is not None
    for line in process.stdout:
        said = json.loads(line) if line.startswith("{") else {}
        if said.get("event") == "server.started":
            return process, said["port"]
    raise AssertionError("the gateway did not start")


@pytest.fixture(scope="module")
def ports() -> Iterator[list[int]]:
    """Of a gateway that was killed after it had served, and of one that serves."""
    engine_port = free_port("127.0.0.1")
    processes = [_spawn("bench.engine", "--port", str(engine_port))]
    assert processes[0].stdout is not None
    assert processes[0].stdout.readline() == "ready\n"
    assert accepts(("127.0.0.1", engine_port))
    gateways = [_gateway(engine_port) for _ in range(2)]
    processes += [process for process, _ in gateways]
    dying, dead_port = gateways[0]
    with Client(f"http://127.0.0.1:{dead_port}", model=MODEL) as client:
        assert client.generate(PROMPT, max_tokens=TOKENS).text == TEXT
    dying.send_signal(signal.SIGKILL)
    dying.wait(20)
    yield [port for _, port in gateways]
    for process in processes:
        process.kill()
        process.wait(20)
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def balancer(ports: list[int], request: pytest.FixtureRequest) -> Iterator[Shears]:
    """Where both gateways are behind, the dead one first; connections are cut after so many bytes in turn."""
    made = Shears(ports, request.param)
    yield made
    made.close()


def _run(name: str, url: str) -> subprocess.CompletedProcess[str]:
    code = RECIPES[name].replace("https://llm.example", url).replace("llama-8b", MODEL)
    command = ["bash", "-c", code] if name == "curl" else [sys.executable, "-c", code]
    env = {**os.environ, "GOLDENFLEET_API_KEY": "sk-test", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=False)


def _said(name: str, output: str) -> list[str]:
    """The texts that a recipe printed."""
    if name == "curl":
        return [json.loads(output)["choices"][0]["message"]["content"]]
    return re.findall(r"(?: 0\.\d+)+", output)


@pytest.mark.parametrize("balancer", [[UNCUT]], indirect=True)
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_dead_gateway_costs_no_answer(balancer: Shears, name: str) -> None:
    """Half of all connections lead to a gateway that is dead: whole answers and streams arrive, unharmed."""
    if (needed := NEEDS.get(name)) and find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    ended = _run(name, balancer.url)
    assert ended.returncode == 0, ended.stderr
    said = _said(name, ended.stdout)
    assert said
    assert set(said) == {TEXT}


@pytest.mark.parametrize("balancer", [[UNCUT, *[WITHIN_A_STREAM] * 3, UNCUT]], indirect=True)
@pytest.mark.parametrize("name", MENDED)
def test_a_gateway_that_dies_in_a_stream_costs_no_answer(balancer: Shears, name: str) -> None:
    """Those that promise it have the whole text although the stream's connection was reset in its middle."""
    ended = _run(name, balancer.url)
    assert ended.returncode == 0, ended.stderr
    # Of the streams that broke off, pieces were printed only where the rest followed.
    assert set(_said(name, ended.stdout)) == {TEXT}
    assert balancer.cuts >= 1


def test_every_client_has_a_recipe() -> None:
    """The table at the top of the page names the sections that there are."""
    wanted = {"goldenfleet_client", "text_generation", "openai", "langchain", "huggingface_hub", "curl"}
    assert wanted | {"anthropic", "goldenfleet_client, async"} == RECIPES.keys()
    assert len(RECIPES) == len(re.findall(r"^```(?:python|sh)\ncurl|^```python", PAGE, re.MULTILINE))
    anchors = set(re.findall(r"\]\(#([^)]+)\)", PAGE))
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", PAGE, re.MULTILINE)}
    assert anchors <= headings


def test_the_benchmark_uses_the_settings_of_the_page() -> None:
    """What the table calls 'set as below' is what is below."""
    from bench.clients.subjects import SDK_CONNECT_S, SDK_READ_S, SDK_RETRIES

    recipe: Any = RECIPES["openai"]
    assert f"max_retries={SDK_RETRIES}," in recipe
    assert f"connect={SDK_CONNECT_S}, read={SDK_READ_S}" in recipe
