"""The runbook against a fleet: every alarm has its section, every command works, and so does the console."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docs.snippets import Reader, Snippet, read
from tests.docs.standing import DEADLINE_S, Standing, missing_programs, standing, until
from tests.fleet.console.browser import Browser, program

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs/oncall.md"
SNIPPETS = read(PAGE)
RUN = [one for one in SNIPPETS if not one.skipped]
# What cannot be run here: the console, which test_console runs, and what is typed on a node.
SKIPPED = 2
PARTS = ("Means", "Then", "Good again")
needs_programs = pytest.mark.skipif(bool(missing_programs()), reason=f"{missing_programs()} missing")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    with standing(tmp_path_factory.mktemp("standing")) as fleet:
        yield fleet


def sections() -> dict[str, str]:
    """Of the third level: heading -> text."""
    parts = re.split(r"^### (.+)$", PAGE.read_text(), flags=re.MULTILINE)[1:]
    texts = (text.partition("\n## ")[0] for text in parts[1::2])
    return dict(zip(parts[::2], texts, strict=True))


def alarms(fleet: Standing) -> set[str]:
    """The sections that the descriptions of the stack's alarms lead to."""
    cloudwatch = fleet.client("cloudwatch")
    found = cloudwatch.describe_alarms(AlarmTypes=["MetricAlarm", "CompositeAlarm"])
    described = [one["AlarmDescription"] for one in (*found["MetricAlarms"], *found["CompositeAlarms"])]
    return {text.partition("docs/oncall.md#")[2] for text in described}


def test_every_alarm_has_its_section(fleet: Standing) -> None:
    """And no section is of an alarm that there is no more."""
    assert alarms(fleet) == set(sections())


@pytest.mark.parametrize("name", sections())
def test_a_section_has_its_parts(name: str) -> None:
    """What it means, a command that is run, what to do then, and what good looks like; in this order."""
    text = sections()[name]
    places = [text.find(f"**{part}:**") for part in PARTS]
    assert -1 not in places, f"{name} lacks one of {PARTS}"
    command = text.find("```sh\n")
    assert [places[0], command, *places[1:]] == sorted([places[0], command, *places[1:]])


def test_little_is_left_out() -> None:
    """Blocks that are not run are as many as are known, and say why."""
    skipped = [one for one in SNIPPETS if one.skipped]
    assert len(skipped) == SKIPPED, [one.where for one in skipped]


@needs_programs
def test_every_command_works(fleet: Standing, tmp_path: Path) -> None:
    """In the page's order, in one shell, on a spot node of the model tier, as on AWS."""
    node = fleet.of("model", "spot")[0].instance_id
    reader = Reader({**fleet.environment, "NODE": node, "TIER": "model", "SHELL": "/bin/pwd"}, tmp_path)
    written = {one.where: reader.follow(one).stdout for one in RUN}
    by_section = {one.where: one.section for one in RUN}
    found = {section: written[where] for where, section in by_section.items()}
    assert '"no_nodes"' in found["lost"]
    assert "drain.requested" in fleet_log(fleet)
    assert f"/nodes/{node}\n" in "".join(written.values()), "a shell on the node"
    assert "spot-interruption" in fleet_log(fleet)
    assert "0 cut over" not in found["A rehearsal of your own"]


def fleet_log(fleet: Standing) -> str:
    found = fleet.client("logs").filter_log_events(logGroupName="/goldenfleet/rehearsal/control")
    return "\n".join(event["message"] for event in found["events"])


@contextmanager
def console(fleet: Standing, home: Path) -> Iterator[str]:
    """`goldenfleet console --allow-drain`, ended by Ctrl-C; gives its address."""
    command = [Path(sys.executable).with_name("goldenfleet"), "console", "--port", "0"]
    options = ["--allow-drain", "--interval", "0.5", "--json"]
    with subprocess.Popen(
        [*command, *options],
        env=dict(fleet.environment),
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["url"]
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=DEADLINE_S)
            assert (process.returncode, "Traceback" in said) == (130, False), said
        finally:
            if process.poll() is None:
                process.kill()


@pytest.mark.skipif(program() is None, reason="Chromium is missing: see tests/packages.txt")
def test_console(fleet: Standing, tmp_path: Path) -> None:
    """A notice from AWS is on the page within two seconds of control's word; a drain from the page drains."""
    [noticed, drained] = [fleet.of("model", "spot")[0], fleet.of("gateway", "spot")[0]]
    browser = Browser(str(program()), tmp_path)
    try:
        with console(fleet, tmp_path) as url, browser.tab(url) as tab:
            tab.until("document.querySelectorAll('.node.serving').length >= 4")
            fleet.cloud.interrupt(noticed.instance_id)
            told = noticed.instance_id
            tab.until(
                f"[...document.querySelectorAll('.event.notice')].some((e) => e.innerText.includes('{told}'))"
            )
            shown_at = float(tab.js("Date.now() / 1000"))
            until(lambda: noticed_at(fleet, told))
            assert shown_at - noticed_at(fleet, told) < 2
            tab.until(f"document.querySelector('.leaver .id[href=\"#node-{told}\"]')")
            tab.js(f"document.querySelector('#node-{drained.instance_id} button').click()")
            tab.write("from the page")
            tab.press("Enter")
            until(lambda: fleet.nodes.running[drained.instance_id].drain.draining)
            assert fleet.nodes.running[drained.instance_id].drain.reason == "from the page"
            tab.until(f"document.querySelector('#node-{drained.instance_id}')?.matches('.leaving') ?? true")
            assert tab.problems() == []
    finally:
        browser.close()


def noticed_at(fleet: Standing, instance_id: str) -> float:
    """When control wrote that it saw the interruption; 0 before."""
    said = [json.loads(line) for line in fleet_log(fleet).splitlines()]
    seen = [one for one in said if one["event"] == "notice.seen" and one.get("instance_id") == instance_id]
    return float(seen[0]["ts"]) if seen else 0.0


def test_the_page_s_blocks_name_what_there_is() -> None:
    """Every `goldenfleet` command that the page's words name is one that there is."""
    from fleet.cli import main

    named = set(re.findall(r"goldenfleet\s+([a-z]+)", PAGE.read_text()))
    assert named <= set(main.commands), named - set(main.commands)


def test_blocks_are_found() -> None:
    """The page is not read as empty."""
    assert len(RUN) > 15
    assert {one.section for one in RUN if isinstance(one, Snippet)} >= set(sections())
