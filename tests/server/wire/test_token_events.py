"""Recognising token events, on every Python that may run it."""

import re
from collections.abc import Iterator
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import pytest

from server.wire.token_events import _IDS_FIELD, _TEXT_FIELD, TokenEvents, _shape

_ONE_CHARACTER = {"LITERAL", "NOT_LITERAL", "ANY", "IN"}
_PATTERNS = [*_TEXT_FIELD.values(), _IDS_FIELD, *_shape(b'","token_ids":['), *_shape(None)]
_SHORTEST = 'data: {"text":"%s","finish_reason":null,"token_ids":[%s]}\n\n'


def _repeated_possessively(parsed: Any) -> Iterator[Any]:
    for operator, argument in parsed:
        if str(operator) == "POSSESSIVE_REPEAT":
            yield argument[2]
        for part in argument if isinstance(argument, tuple | list) else [argument]:
            for inner in part if isinstance(part, list) else [part]:
                if isinstance(inner, parser.SubPattern):
                    yield from _repeated_possessively(inner)


@pytest.mark.parametrize("pattern", _PATTERNS, ids=range(len(_PATTERNS)))
def test_only_single_characters_are_repeated_possessively(pattern: re.Pattern[bytes]) -> None:
    """Python before 3.11.5 loses its place where a group so repeated fails half-way (cpython 106052)."""
    for repeated in _repeated_possessively(parser.parse(pattern.pattern)):
        assert next(str(operator) for operator, _ in repeated) in _ONE_CHARACTER
        assert len(repeated) == 1


def test_an_event_with_the_text_of_a_token_and_another_end_is_left_whole() -> None:
    """Of a last event that begins as all others did, not a byte is taken."""
    middle = '","finish_reason":null,"token_ids":['
    head, tail = b'data: {"text":"', b"]}\n\n"
    events = TokenEvents((head, middle.encode(), tail), (head, None, b'"}\n\n'))
    last = (_SHORTEST % ("end", "7")).replace("null", '"stop"').encode()
    assert events.take(last + b"data: [DONE]\n\n") is None
    taken = events.take((_SHORTEST % ("one", "1, 2")).encode() + last + b"data: [DONE]\n\n")
    kept = b"one" + middle.encode() + b"1, 2\x1e"
    assert taken == (b'data: {"text":"one"}\n\n', kept, last + b"data: [DONE]\n\n", 1)
