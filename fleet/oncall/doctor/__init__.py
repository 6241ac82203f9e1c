"""What is wrong with a stack, what that means, and what to do about it."""

from __future__ import annotations

from fleet.oncall.doctor.checks import examine
from fleet.oncall.doctor.facts import Facts, gather
from fleet.oncall.doctor.finding import Finding

__all__ = ["Facts", "Finding", "examine", "gather"]
