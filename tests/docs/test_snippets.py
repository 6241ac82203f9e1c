"""The runner of pages' blocks itself: what it runs, what it finds wrong, and what it leaves alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.docs.snippets import PageError, Reader, Snippet, matches, read

PAGE = """\
# Noun

```sh
NAME=world
greet() { echo "hello $1"; }
```

## Deeper

    ```sh
    indented by four is text
    ```

```sh
echo "hello $NAME"
```

```output
hello ...
```

~~~sh exit="3"
exit 3
~~~

```sh skip="needs AWS"
aws sts get-caller-identity
```

```json
{"sh": "```"}
```

```python
print(6 * 7)
```
"""


def written(tmp_path: Path, text: str) -> Path:
    page = tmp_path / "page.md"
    page.write_text(text)
    return page


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader({"PATH": os.environ["PATH"]}, tmp_path, timeout_s=60)


def block(tmp_path: Path, text: str, info: str = "sh", expected: str | None = None) -> Snippet:
    after = f"```output\n{expected}\n```\n" if expected is not None else ""
    [snippet] = read(written(tmp_path, f"```{info}\n{text}\n```\n{after}"))
    return snippet


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("```sh\nls\n", "page.md:1: the block has no end"),
        ("```sh retry=2\n```\n", "retry is no mark"),
        ('```sh skip=""\n```\n', "skip is no mark with a value"),
        ("```sh skip\n```\n", "skip is no mark with a value"),
        ('```sh skip="x\n```\n', "No closing quotation"),
        ("```output\nx\n```\n", "output of no block"),
        ("```sh\n```\n```output\n```\n```output\n```\n", "page.md:5: output of no block"),
    ],
)
def test_a_page_that_cannot_be_read_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """With the line: a mark that is misspelt must not run what should be skipped."""
    with pytest.raises(PageError, match=said):
        read(written(tmp_path, text))


def test_blocks_are_found_with_their_sections(tmp_path: Path) -> None:
    """Each with its line and heading; text that is no fence, and other languages, are left alone."""
    found = read(written(tmp_path, PAGE))
    assert [(one.line, one.section, one.language) for one in found] == [
        (3, "Noun", "sh"),
        (14, "Deeper", "sh"),
        (22, "Deeper", "sh"),
        (26, "Deeper", "sh"),
        (34, "Deeper", "python"),
    ]
    assert [one.skipped for one in found] == [None, None, None, "needs AWS", None]
    assert found[1].expected == "hello ...\n"


def test_a_page_is_followed(tmp_path: Path, reader: Reader) -> None:
    """What a block assigns is there for the next; the code and the output are as the page says."""
    results = [reader.follow(one) for one in read(written(tmp_path, PAGE)) if not one.skipped]
    assert [one.stdout for one in results] == ["", "hello world\n", "", "42\n"]


@pytest.mark.parametrize(
    ("text", "info", "expected", "said"),
    [
        ("false; echo on", "sh", None, "ended with 1"),
        ("false | cat", "sh", None, "ended with 1"),
        ('echo "$UNKNOWN"', "sh", None, "UNKNOWN: unbound"),
        ("true", 'sh exit="4"', None, "ended with 0 after 0 s, not with 4"),
        ("echo other", "sh", "this", "something else"),
        ("echo this; echo more", "sh", "this", "something else"),
        ("raise SystemExit(5)", "python", None, "ended with 5"),
    ],
)
def test_what_does_not_end_as_the_page_says_fails(
    tmp_path: Path, reader: Reader, text: str, info: str, expected: str | None, said: str
) -> None:
    """With the page's line, the block, and all that it wrote."""
    with pytest.raises(AssertionError, match=said) as caught:
        reader.follow(block(tmp_path, text, info, expected))
    assert str(caught.value).startswith("page.md:1: ")
    assert text in str(caught.value)


def test_a_block_that_hangs_is_ended(tmp_path: Path) -> None:
    """With all that it started, which may hold its pipes."""
    reader = Reader({"PATH": os.environ["PATH"]}, tmp_path, timeout_s=0.3)
    result = reader.run(block(tmp_path, "sleep 600 & sleep 600"))
    assert result.code == -9
    assert result.seconds < 30


def test_nothing_asks_a_person(tmp_path: Path, reader: Reader) -> None:
    """There is nobody at the keyboard: a question ends at once."""
    assert reader.run(block(tmp_path, "read answer")).code == 1


@pytest.mark.parametrize(
    ("expected", "output", "same"),
    [
        ("a", "a\n", True),
        ("a...c", "abc", True),
        ("a...c", "a\nc", False),
        ("a\n...\nc", "a\nc", True),
        ("a\n...\nc", "a\nb\nb\nc", True),
        ("...\nc", "a\nc", True),
        ("a.c", "abc", False),
        ("a", "a  \n", True),
        ("a", "", False),
    ],
)
def test_expected_output(expected: str, output: str, same: bool) -> None:
    """Dots of three are anything, all other characters are themselves."""
    assert matches(expected, output) is same
