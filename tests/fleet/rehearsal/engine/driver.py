"""Runs one act of the engine in a process of its own, which a test may kill. Its globals say what."""

import signal
from pathlib import Path

from fleet.rehearsal.engine import PulumiEngine

# A shell that runs the tests in its background has them ignore Ctrl-C, and their children too.
signal.signal(signal.SIGINT, signal.default_int_handler)
engine = PulumiEngine(
    Path(FOLDER),  # type: ignore[name-defined]  # noqa: F821 - given by the test
    "test",
    endpoint_url=URL,  # type: ignore[name-defined]  # noqa: F821
    state_file=Path(STATE),  # type: ignore[name-defined]  # noqa: F821
)
getattr(engine, ACT)()  # type: ignore[name-defined]  # noqa: F821
