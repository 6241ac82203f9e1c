from __future__ import annotations

import os
import time

from fleet.rehearsal.usage import Stat, busy_seconds, family, memory_mib, parse_stat, processes


def test_name_with_parentheses() -> None:
    """A command whose name holds spaces and parentheses does not shift the fields."""
    ticks = os.sysconf("SC_CLK_TCK")
    line = f"7 (a) b (c)) S 3 5 6 0 -1 4194560 1 0 0 0 {ticks} {2 * ticks} 0 0 20 0 1 0 9 1 1"
    assert parse_stat(line) == Stat(pid=7, parent=3, group=5, cpu_seconds=3.0)


def test_groups_are_summed() -> None:
    """The busy time of a group is that of all its processes; where only CPU time is known, it is that."""
    nobody = 2**22 + 1
    stats = [Stat(nobody + n, 0, group, cpu) for n, (group, cpu) in enumerate([(1, 1.0), (1, 0.5), (3, 4.0)])]
    assert busy_seconds(stats, {1}) == {1: 1.5}


def test_waiting_for_a_cpu_is_being_busy() -> None:
    """This process has had work for at least as long as it computed."""
    own = next(stat for stat in processes() if stat.pid == os.getpid())
    before = busy_seconds([own], {own.group})[own.group]
    ended = time.process_time() + 0.05
    while time.process_time() < ended:
        pass
    assert busy_seconds([own], {own.group})[own.group] - before >= 0.04


def test_family() -> None:
    """Descendants of descendants belong to a family; siblings do not."""
    stats = [Stat(1, 0, 1, 0), Stat(2, 1, 1, 0), Stat(3, 2, 3, 0), Stat(4, 1, 4, 0)]
    assert family(stats, [2]) == {2, 3}


def test_this_process() -> None:
    """This very process is found, and its memory is more than none; an ended one counts nothing."""
    assert os.getpid() in {stat.pid for stat in processes()}
    assert memory_mib([os.getpid()]) > 1
    assert memory_mib([2**22 + 1]) == 0
