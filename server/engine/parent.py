"""A process that does not outlive the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal

from server.engine.errors import EngineError

# linux/prctl.h
_PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """SIGKILL for this process as soon as `parent` ends, were it by SIGKILL. Linux only.

    The kernel sends it when the thread that started us ends: a server starts its engine from its main thread.
    Raises EngineError when the parent has ended already.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # It may have ended before the line above, and then no signal comes.
    if os.getppid() != parent:
        raise EngineError(f"the parent process {parent} has ended; start the engine anew")
