"""Pages that are made from the code say what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.reference.__main__ import pages
from fleet.reference.events import events
from fleet.reference.meanings import MEANINGS

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", sorted(pages()))
def test_a_page_is_as_the_code_is(name) -> None:
    """What `scripts/reference` would write is what lies there."""
    assert (CHECKOUT / "docs" / name).read_text() == pages()[name], "run: scripts/reference"


def test_every_event_has_a_meaning_and_every_meaning_an_event() -> None:
    """A log line that nobody explained, or one that is gone, is noticed."""
    assert {event.name for event in events(CHECKOUT)} == MEANINGS.keys()


def test_a_new_event_is_seen(tmp_path) -> None:
    """Names are found where a value chooses between two, or completes one."""
    for folder in ("server", "fleet/control"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "server" / "a.py").write_text(
        """log.info("a.up" if up else "a.down", why=1)\nself._log.warning(f"b.{name}")\nlog.info(name)\n"""
    )
    (tmp_path / "fleet" / "control" / "b.py").write_text("""self._log("a.up", who=2)\n""")
    assert [(event.name, event.part, event.fields) for event in events(tmp_path)] == [
        ("a.down", "server", {"why"}),
        ("a.up", "fleet", {"who"}),
        ("a.up", "server", {"why"}),
        ("b.*", "server", frozenset()),
    ]
