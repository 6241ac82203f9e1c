from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fleet.rehearsal.answers import Answer, AnswerLog, judge, questions

GOOD = Answer(3, "chat_stream", "k", 10.0, 12.5, 0.4, "one two", "stop", 1, 0, True)
EXPECTED = {"k": "one two"}


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, "ok"),
        ({"finish_reason": "length"}, "ok"),
        ({"attempts": 3, "resumes": 2, "exact": False}, "ok"),
        ({"error": "ServerFailed: 503", "finish_reason": None, "text": ""}, "lost"),
        ({"error": "ServerFailed: 503"}, "lost"),
        ({"error": "StreamTruncated: cut", "cut": True, "text": "one"}, "truncated"),
        ({"text": "one"}, "truncated"),
        ({"text": ""}, "truncated"),
        ({"finish_reason": ""}, "truncated"),
        ({"finish_reason": None}, "truncated"),
        ({"text": "one three"}, "diverged"),
        ({"text": "one two two"}, "diverged"),
    ],
)
def test_judge(changes: dict[str, object], outcome: str) -> None:
    """An answer is good only if it finished and says what the undisturbed engine says, to the letter."""
    assert judge(replace(GOOD, **changes), EXPECTED) == outcome  # type: ignore[arg-type]


def test_log_is_followed(tmp_path: Path) -> None:
    """Answers are read as they come; one that is half written is read when it is whole."""
    path = tmp_path / "answers.jsonl"
    log = AnswerLog(path)
    assert log.read_on() == 0
    line = GOOD.line()
    path.write_text(line + line[:20])
    assert log.read_on() == 1
    path.write_text(line + line)
    assert log.read_on() == 2
    assert log.answers == [GOOD, GOOD]


def test_questions_differ() -> None:
    """There are sixteen questions, half of them chats, and each has an expected text of its own."""
    asked = questions()
    assert len({question.key for question in asked}) == 16
    assert sum(question.chat for question in asked) == 8
