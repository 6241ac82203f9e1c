"""docs/security.md and the tests that it names."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "security.md").read_text()
ROWS = re.findall(r"^\| (\d+) [^|]+\|([^|]+)\|([^|]+)\|$", PAGE, re.MULTILINE)
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)


def test_each_line_of_the_list_is_on_the_page() -> None:
    """Lines 1 to 24, each with what is done and a test at least."""
    assert [int(number) for number, _, _ in ROWS] == list(range(1, 25))
    assert all("::test_" in tests for _, _, tests in ROWS)


def test_each_test_that_is_named_exists() -> None:
    """A test that is renamed or lost does not stay a promise."""
    assert len(NAMED) == PAGE.count("::")
    missing = [f"{path}::{name}" for path, name in NAMED if name not in _tests_of(path)]
    assert missing == []


def _tests_of(path: str) -> set[str]:
    file = ROOT / path
    if not file.exists():
        return set()
    tree = ast.parse(file.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
