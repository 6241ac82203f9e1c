"""Every error that `bench` raises on purpose.

BenchError
+-- ProcessFailed     a process of the benchmark did not start, or ended by itself
+-- OutOfTime         the run passed its limit
+-- NotAllowed        the system refuses what was asked for
+-- NothingToCompare  what was asked for leaves nothing to measure
"""

from __future__ import annotations


class BenchError(Exception):
    """What failed, then what to do about it."""


class ProcessFailed(BenchError):
    """Names the process and quotes the end of its log."""


class OutOfTime(BenchError):
    """Says which limit."""


class NotAllowed(BenchError):
    """Says what to leave out, or who may."""


class NothingToCompare(BenchError):
    """Says what is missing."""
