"""Runs the fenced blocks of a page as its reader would: in their order, in one environment.

    ```sh                         run by bash, which stops at the first command that fails
    ```sh exit="4"                ends with that code
    ```sh skip="needs AWS"        is not run, and why; a test counts these
    ```python                     run by this Python
    ```output                     follows a block: what it must have written; `...` stands for anything

What a `sh` block assigns is there for the later ones of its page. Blocks of any other language are not run.
"""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import killpg
from pathlib import Path
from typing import Final

RUN: Final = ("sh", "python")
MARKS: Final = frozenset({"skip", "exit"})
TIMEOUT_S: Final = 120.0
_FENCE = re.compile(r"(?P<indent> {0,3})(?P<fence>`{3,}|~{3,})(?P<info>.*)")
_HEADING = re.compile(r"#{1,6} (?P<words>.+?)(?: #+)?")
# Each block begins with what those before it assigned, and ends by writing down what is assigned now.
_AROUND = """\
set -a
[ ! -e "$SNIPPETS" ] || . "$SNIPPETS"
trap 'declare -x >"$SNIPPETS"' EXIT
set -euo pipefail
"""


@dataclass(frozen=True)
class Snippet:
    page: Path
    line: int
    """Of its fence, from 1."""
    section: str
    """The heading that it stands under."""
    language: str
    marks: Mapping[str, str]
    text: str
    expected: str | None = None
    """Of the output block that follows."""

    @property
    def where(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def skipped(self) -> str | None:
        """Why it is not run."""
        return self.marks.get("skip")


@dataclass(frozen=True)
class Result:
    code: int
    stdout: str
    stderr: str
    seconds: float


class PageError(Exception):
    """A page whose blocks cannot be read, with the line."""


def read(page: Path) -> list[Snippet]:
    """Blocks to run, or to skip, in their order. Raises PageError."""
    found: list[Snippet] = []
    for block in _blocks(page):
        if block.language == "output":
            if not found or found[-1].expected is not None:
                raise PageError(f"{block.where}: output of no block")
            found[-1] = Snippet(**{**vars(found[-1]), "expected": block.text})
        elif block.language in RUN:
            found.append(block)
    return found


def _blocks(page: Path) -> Iterator[Snippet]:
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(), 1))
    section = ""
    for number, line in lines:
        if heading := _HEADING.fullmatch(line):
            section = heading["words"]
        elif opening := _FENCE.fullmatch(line):
            language, marks = _info(f"{page.name}:{number}", opening["info"])
            text = "".join(_inside(lines, opening, f"{page.name}:{number}"))
            yield Snippet(page, number, section, language, marks, text)


def _inside(lines: Iterator[tuple[int, str]], opening: re.Match[str], where: str) -> Iterator[str]:
    closing = re.compile(rf" {{0,3}}{re.escape(opening['fence'])}{opening['fence'][0]}*\s*")
    for _, line in lines:
        if closing.fullmatch(line):
            return
        yield line.removeprefix(opening["indent"]) + "\n"
    raise PageError(f"{where}: the block has no end")


def _info(where: str, info: str) -> tuple[str, dict[str, str]]:
    try:
        language, *words = shlex.split(info) or [""]
    except ValueError as exc:
        raise PageError(f"{where}: {info!r}: {exc}") from exc
    if language not in RUN:
        return language, {}
    marks = dict(word.partition("=")[::2] for word in words)
    if wrong := {name for name, value in marks.items() if name not in MARKS or not value}:
        raise PageError(
            f"{where}: {', '.join(sorted(wrong))} is no mark with a value; there are {sorted(MARKS)}"
        )
    return language, marks


class Reader:
    """Somebody who does what a page says, in `home`. Programs get nothing but `environment`."""

    def __init__(self, environment: Mapping[str, str], home: Path, timeout_s: float = TIMEOUT_S) -> None:
        self._home, self._timeout_s = home, timeout_s
        self._environment = {**environment, "SNIPPETS": str(home / ".snippets")}

    def follow(self, snippet: Snippet) -> Result:
        """Runs it. Raises AssertionError where it does not end as the page says."""
        result = self.run(snippet)
        if problem := verdict(snippet, result):
            raise AssertionError(
                f"{snippet.where}: {problem}\n--- block\n{snippet.text}--- stdout\n{result.stdout}"
                f"--- stderr\n{result.stderr}"
            )
        return result

    def run(self, snippet: Snippet) -> Result:
        shell = ["bash", "--noprofile", "--norc", "-c", _AROUND + snippet.text]
        argv = shell if snippet.language == "sh" else [sys.executable, "-c", snippet.text]
        began = time.monotonic()
        with subprocess.Popen(
            argv,
            cwd=self._home,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                stdout, stderr = process.communicate(timeout=self._timeout_s)
            except subprocess.TimeoutExpired:
                # The whole group: a shell's children hold its pipes.
                killpg(process.pid, signal.SIGKILL)
                stdout, stderr = process.communicate()
        return Result(process.returncode, stdout, stderr, time.monotonic() - began)


def verdict(snippet: Snippet, result: Result) -> str | None:
    """What is wrong, or None."""
    wanted = int(snippet.marks.get("exit", "0"))
    if result.code != wanted:
        return f"it ended with {result.code} after {result.seconds:.0f} s, not with {wanted}"
    if snippet.expected is not None and not matches(snippet.expected, result.stdout):
        return f"it wrote something else than\n{snippet.expected}"
    return None


def matches(expected: str, written: str) -> bool:
    """`...` stands for anything, a line of its own for any lines, none included."""
    pattern = ""
    for line in expected.strip("\n").split("\n"):
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*?".join(re.escape(part) for part in line.rstrip().split("...")) + r"[ \t]*\n"
    return re.fullmatch(pattern, written.strip("\n") + "\n") is not None
