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
_LIMIT_S = 600.0
"""What is in use by something else of the run is free once that is gone."""


def discard(regions: Sequence[Aws], run: Run, *, keep_image: bool) -> None:
    """Also waits for what EC2 does not show yet. Raises LeftBehind with what could not be removed."""
    ends = run.clock.now() + _LIMIT_S
    failures = _remove_shown(regions, run, keep_image)
    while unseen(run.ledger, run.clock.now(), keep_image=keep_image) or (failures and run.clock.now() < ends):
        run.clock.sleep(_LOOK_AGAIN_S)
        failures = _remove_shown(regions, run, keep_image)
    if failures:
        lines = "\n".join(str(failure) for failure in failures)
        raise LeftBehind(f"run {run.id} has left behind:\n{lines}", f"try again: images sweep --run {run.id}")
    for resource in run.ledger.standing:
        if not (keep_image and resource.kind in _KEPT):
            run.ledger.gone(resource.kind, resource.name)


def unseen(ledger: Ledger, now: float, *, keep_image: bool) -> tuple[Resource, ...]:
    """What is so new that EC2 may have it and not show it, whether or not its answer was heard."""
    told = {
        (entry.kind, entry.name): entry.at for entry in ledger.entries if entry.event in ("intend", "made")
    }
    return tuple(
        resource
        for resource in ledger.standing
        if now - told[resource.kind, resource.name] < CONSISTENT_AFTER_S
        and not (keep_image and resource.kind in _KEPT)
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
