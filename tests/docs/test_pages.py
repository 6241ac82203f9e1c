"""Commands and snippets of the pages do what the pages say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.docs.snippets import Reader, read

CHECKOUT = Path(__file__).parents[2]
PAGES = sorted([CHECKOUT / "README.md", *(CHECKOUT / "docs").glob("*.md")])
# Run by tests of their own, for they need a fleet or a service.
ELSEWHERE = ("clients.md", "oncall.md", "tutorial.md")
# Why a block may be left out.
REASONS = frozenset(
    {
        "needs AWS",
        "needs Pulumi's command line",
        "needs Langfuse",
        "minutes long: each is a rehearsal or a bake of its own",
        "CI runs it",
        "docs/tutorial.md has it, and is run",
        "docs/oncall.md has it, and is run",
    }
)


def blocks(page: Path) -> list:
    return read(page) if page.exists() else []


@pytest.fixture
def reader(tmp_path) -> Reader:
    """Somebody in a folder that looks like this checkout; what they write does not come here."""
    for each in CHECKOUT.iterdir():
        if not each.name.startswith("."):
            (tmp_path / each.name).symlink_to(each)
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    return Reader(
        {"PATH": path, "HOME": str(tmp_path / "home"), "AWS_EC2_METADATA_DISABLED": "true"}, tmp_path
    )


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name not in ELSEWHERE and blocks(page)],
    ids=lambda page: page.name,
)
def test_a_page_does_what_it_says(page, reader) -> None:
    """Every block that is not left out ends as the page says, with no account and no fleet."""
    for block in blocks(page):
        if block.skipped is None:
            reader.follow(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_block_is_left_out_for_a_known_reason(page) -> None:
    """Nobody leaves a command out because it fails."""
    reasons = {block.where: block.skipped for block in blocks(page) if block.skipped is not None}
    if page.name in ELSEWHERE:
        assert all(reasons.values())
    else:
        assert {where: reason for where, reason in reasons.items() if reason not in REASONS} == {}
