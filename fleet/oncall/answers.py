"""What the control handler answered to a person's request: found in its history."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from fleet.oncall.aws import Aws
from fleet.oncall.history import NoticeEvent, read_history
from fleet.oncall.terminal import LookingOn

_EVERY_S: Final = 0.5
_WAIT_S: Final = 20.0
_CLOCKS_S: Final = 5.0  # by which this machine's clock and AWS's may differ
UNDRAINED: Final = "serves again"
SILENCE: Final = "the control handler has not answered; goldenfleet doctor says whether it works"
_KIND: Final = "undrain-request"


def undrained(events: Iterable[NoticeEvent], instance_id: str) -> str | None:
    """UNDRAINED, or why not; None while there is no answer."""
    for event in events:
        if event.instance_id != instance_id:
            continue
        if event.event in ("node.undrained", "instance.returned"):
            return UNDRAINED
        if event.event == "undrain.refused" or (
            event.event == "notice.dropped" and event.fields.get("kind") == _KIND
        ):
            return str(event.fields.get("reason", "refused"))
    return None


def await_undrained(
    aws: Aws,
    instance_ids: Sequence[str],
    asked_at: float,
    clock: Callable[[], float] = time.time,
    pause: Callable[[float], object] = time.sleep,
) -> dict[str, str]:
    """Instance id -> UNDRAINED, or why not. Raises OnCallError."""
    until, looking = clock() + _WAIT_S, LookingOn()
    answers: dict[str, str] = {}
    while True:
        with looking.on():
            events = read_history(aws, asked_at - _CLOCKS_S)
            mine = [event for event in events if event.at >= asked_at - _CLOCKS_S]
            found = {one: undrained(mine, one) for one in instance_ids}
            answers = {one: answer for one, answer in found.items() if answer is not None} | answers
        if len(answers) == len(instance_ids) or clock() >= until:
            return {one: answers.get(one, SILENCE) for one in instance_ids}
        pause(_EVERY_S)
