"""What is counted as lost, and where it is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bench.clients.cli import unmet
from bench.clients.run import Crowd, Row, Verdict, ask_all
from bench.clients.scene import Losses
from bench.clients.table import BEGIN, END, put_into, table
from bench.errors import NothingToCompare
from bench.tokens import read_prompt, text_of

CROWD = Crowd(requests=12, at_once=3, tokens=4)


class Failing:
    """Says what it should but for some requests, counted from 0: whole answers are even, streams odd."""

    resumed = 0

    async def whole(self, prompt: str, tokens: int) -> str:
        if prompt.startswith("2 "):
            raise OSError("gone")
        return (
            "" if prompt.startswith("4 ") else "other" if prompt.startswith("6 ") else _text(prompt, tokens)
        )

    async def stream(self, prompt: str, tokens: int) -> AsyncIterator[str]:
        if prompt.startswith("3 "):
            raise OSError("gone")
        yield ""
        if prompt.startswith("5 "):
            raise OSError("gone")
        text = _text(prompt, tokens)
        yield text[:5]
        if prompt.startswith("7 "):
            raise OSError("gone")
        if not prompt.startswith("9 "):
            yield text[5:]

    async def aclose(self) -> None: ...


def _text(prompt: str, tokens: int) -> str:
    return text_of(int(prompt.split()[0]), len(read_prompt({"prompt": prompt}).ids), tokens)


async def test_every_kind_of_loss_is_counted_as_what_it_is() -> None:
    """A failure before and after a stream began, an early end without an error, and another's text."""
    counted = await ask_all(Failing(), CROWD)
    assert counted.counts == {"ok": 5, "lost": 1, "unbegun": 1, "cut": 2, "short": 2, "wrong": 1}
    assert counted.errors == {"OSError: gone": 4}
    assert len(counted.seconds) == 5


def _row(name: str, in_flight: int, **counts: int) -> Row:
    counted: Counter[Verdict] = Counter()
    counted.update(counts)  # type: ignore[arg-type]
    return Row(name, counted, Losses(kills=3, in_flight=in_flight), 0, [0.5, 2.0], Counter())


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (_row("goldenfleet_client", 9, ok=10), True),
        (_row("goldenfleet_client", 9, ok=10, cut=1), False),
        (_row("goldenfleet_client.text_generation", 9, ok=10, wrong=1), False),
        (_row("OpenAI SDK, set as below", 9, ok=10, cut=9), True),
        (_row("OpenAI SDK, set as below", 9, ok=10, cut=10), False),
        (_row("OpenAI SDK, set as below", 9, ok=10, unbegun=1), False),
        (_row("text_generation", 9, lost=10), True),
    ],
)
def test_bars(row: Row, met: bool) -> None:
    """Ours loses nothing; an SDK that retries loses streams in flight and nothing else."""
    assert (unmet([row]) == []) is met


def test_the_table_has_a_place_in_the_page() -> None:
    """It replaces what was there, and a page without a place is not touched."""
    text = table([_row("a", 9, ok=1000, cut=2)])
    assert "| a | 1,002 | 3 | 9 | 0 | 0 | 2 | 0 | 0 | 2.00 | 2.0 |" in text
    page = put_into(f"x\n{BEGIN}\nold\n{END}\ny", text)
    assert "old" not in page
    assert page.startswith(f"x\n{BEGIN}\n\n| client |")
    assert page.endswith(f"{END}\ny")
    with pytest.raises(NothingToCompare):
        put_into("x", text)


def test_the_page_holds_what_the_script_writes() -> None:
    """The published table has its columns, and a row for each client."""
    from bench.clients.subjects import KINDS

    published = (Path(__file__).parents[3] / "docs" / "clients.md").read_text().partition(BEGIN)[2]
    head = table([]).splitlines()[0]
    assert head in published
    assert all(f"| {kind.name} | 2,000 |" in published for kind in KINDS)
