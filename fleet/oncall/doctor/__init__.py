"""What is wrong with a stack, what that means, and what to do about it."""

from __future__ import annotations

import time

from fleet.oncall.aws import Aws
from fleet.oncall.doctor.checks import examine, examine_unseen
from fleet.oncall.doctor.facts import Facts, gather
from fleet.oncall.doctor.finding import Finding
from fleet.oncall.errors import OnCallError
from fleet.oncall.snapshot import Snapshot, load_snapshot

__all__ = ["Facts", "Finding", "diagnose", "examine"]


def diagnose(aws: Aws) -> list[Finding]:
    """What may not be looked at, or fails, is a finding itself, and the rest is looked at all the same."""
    try:
        snapshot = load_snapshot(aws)
    except OnCallError as error:
        nobody = Snapshot(time.time(), aws.stack, (), ())
        return examine_unseen(gather(aws, nobody), nobody, error)
    return examine(gather(aws, snapshot), snapshot)
