from __future__ import annotations

import os

from fleet.rehearsal.usage import Stat, family, group_cpu_seconds, memory_mib, parse_stat, processes


def test_name_with_parentheses() -> None:
    """A command whose name holds spaces and parentheses does not shift the fields."""
    ticks = os.sysconf("SC_CLK_TCK")
    line = f"7 (a) b (c)) S 3 5 6 0 -1 4194560 1 0 0 0 {ticks} {2 * ticks} 0 0 20 0 1 0 9 1 1"
    assert parse_stat(line) == Stat(pid=7, parent=3, group=5, cpu_seconds=3.0)


def test_groups_are_summed() -> None:
    """The CPU time of a group is that of all its processes."""
    stats = [Stat(1, 0, 1, 1.0), Stat(2, 1, 1, 0.5), Stat(3, 1, 3, 4.0)]
    assert group_cpu_seconds(stats) == {1: 1.5, 3: 4.0}


def test_family() -> None:
    """Descendants of descendants belong to a family; siblings do not."""
    stats = [Stat(1, 0, 1, 0), Stat(2, 1, 1, 0), Stat(3, 2, 3, 0), Stat(4, 1, 4, 0)]
    assert family(stats, [2]) == {2, 3}


def test_this_process() -> None:
    """This very process is found, and its memory is more than none; an ended one counts nothing."""
    assert os.getpid() in {stat.pid for stat in processes()}
    assert memory_mib([os.getpid()]) > 1
    assert memory_mib([2**22 + 1]) == 0
