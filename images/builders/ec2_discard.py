"""The end of a run: nothing that it made is left, except its image if that is wanted."""

from __future__ import annotations

from collections.abc import Sequence

from images.aws import CONSISTENT_AFTER_S, Aws
from images.builders.ec2_inventory import Found, inventory
from images.builders.ec2_removal import Failure, remove
from images.errors import LeftBehind
from images.ledger import Ledger, Resource
from images.run import Run

_KEPT = ("image", "snapshot")
_LOOK_AGAIN_S = 10.0


def discard(regions: Sequence[Aws], run: Run, *, keep_image: bool) -> None:
    """Also waits for what an interrupted call may have made and EC2 does not show yet. Raises LeftBehind."""
    failures = _remove_shown(regions, run, keep_image)
    while unseen(run.ledger, run.clock.now()):
        run.clock.sleep(_LOOK_AGAIN_S)
        failures = _remove_shown(regions, run, keep_image)
    if failures:
        lines = "\n".join(str(failure) for failure in failures)
        raise LeftBehind(f"run {run.id} has left behind:\n{lines}", f"try again: images sweep --run {run.id}")
    for resource in run.ledger.standing:
        if not (keep_image and resource.kind in _KEPT):
            run.ledger.gone(resource.kind, resource.name)


def unseen(ledger: Ledger, now: float) -> tuple[Resource, ...]:
    """What was asked for so recently that EC2 may have made it and does not show it."""
    asked = {(entry.kind, entry.name): entry.at for entry in ledger.entries if entry.event == "intend"}
    return tuple(
        resource
        for resource in ledger.standing
        if not resource.id and now - asked[resource.kind, resource.name] < CONSISTENT_AFTER_S
    )


def _remove_shown(regions: Sequence[Aws], run: Run, keep_image: bool) -> list[Failure]:
    failures: list[Failure] = []
    for aws in regions:
        shown = [found for found in inventory(aws, run.id) if not (keep_image and found.kind in _KEPT)]
        failures += remove(aws, shown, run.clock, lambda found: note_gone(run.ledger, found))
    return failures


def note_gone(ledger: Ledger, found: Found) -> None:
    if ledger.find(found.kind, found.part) is not None:
        ledger.gone(found.kind, found.part)
