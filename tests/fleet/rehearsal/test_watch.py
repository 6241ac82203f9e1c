from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.rehearsal.cloud import InstanceView
from fleet.rehearsal.errors import NotInTimeError, ProcessFailedError
from fleet.rehearsal.processes import Processes
from fleet.rehearsal.watch import Watch

ENV = {"PATH": os.environ["PATH"]}


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes() as running:
        yield running


def test_not_in_time(processes: Processes) -> None:
    """Waiting in vain ends with what was waited for, and how things stand."""
    watch = Watch(list, processes)
    with pytest.raises(NotInTimeError, match="the moon did not happen within 0 s") as caught:
        watch.wait_until(lambda: False, 0.0, "the moon", lambda: "it is day")
    assert caught.value.hint == "it is day"


def test_vital_process_ends(processes: Processes, tmp_path: Path) -> None:
    """A vital process that ends cuts every wait short; one that is no longer vital does not."""
    watch = Watch(list, processes)
    processes.start("balancer", ["sh", "-c", "exit 3"], env=ENV, cwd=tmp_path)
    processes.wait("balancer", 20)
    watch.vital("balancer")
    with pytest.raises(ProcessFailedError, match=r"the balancer ended .* code 3"):
        watch.wait_until(lambda: False, 60, "nothing")
    watch.not_vital("balancer")
    watch.check()


def test_waiting_shows(processes: Processes) -> None:
    """Whoever waits is shown how things stand at every look."""
    looks: list[int] = []
    watch = Watch(list, processes, lambda: looks.append(1))
    watch.wait_until(lambda: len(looks) >= 2, 20, "two looks")
    assert len(looks) == 2


def test_background(processes: Processes) -> None:
    """In the background memory and whatever else is measured; leaving ends that."""
    measured = threading.Event()
    watch = Watch(list, processes)
    watch.also_measure(measured.set)
    with watch:
        assert measured.wait(20)
    assert watch.memory_peak_mib > 1
    assert watch.lives == ()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_watch_breaks(processes: Processes) -> None:
    """A watch that broke is noticed by whoever waits, and not taken for a fleet in which nothing happens."""

    def broken() -> list[InstanceView]:
        raise OSError("no view")

    with Watch(broken, processes) as watch, pytest.raises(ProcessFailedError, match="the watch"):
        watch.wait_until(lambda: False, 20, "nothing")
