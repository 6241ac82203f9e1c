"""Cron expressions: refused when they are none, and their next time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.cron import NotCron, parse

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)  # a Saturday
ZURICH = ZoneInfo("Europe/Zurich")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has 0 fields"),
        ("0 8 * *", "has 4 fields"),
        ("60 8 * * *", "bad minute: it is from 0 to 59"),
        ("0 25 * * *", "bad hour: it is from 0 to 23"),
        ("0 8 0 * *", "bad day-of-month: it is from 1 to 31"),
        ("0 8 * 13 *", "bad month: it is from 1 to 12"),
        ("0 8 * * 8", "bad day-of-week: it is from 0 to 7"),
        ("0 8 * * fun", "bad day-of-week"),
        ("5-1 * * * *", "bad minute"),
        ("*/0 * * * *", "bad minute"),
        ("1,,2 * * * *", "bad minute"),
        ("0 0 31 2 *", "bad day-of-month: it is from 1 to 31, in a month that has it"),
        ("0 0 L * *", "'L', which AWS does not know"),
        ("0 0 LW * *", "'LW', which AWS does not know"),
        ("0 0 * * 5l", "'5l', which AWS does not know"),
        ("0 0 * * 1#2", "'#', which AWS does not know"),
        ("0 0 8 * * *", "has 6 fields"),
        ("@daily", "has 1 fields"),
    ],
)
def test_what_is_no_cron_is_refused(text: str, says: str) -> None:
    """With the part that is wrong, and what it may be."""
    with pytest.raises(NotCron) as caught:
        parse(text)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "comes"),
    [
        ("* * * * *", datetime(2026, 11, 21, 9, 31, tzinfo=UTC)),
        ("30 9 * * *", datetime(2026, 11, 22, 9, 30, tzinfo=UTC)),
        ("*/20 * * * *", datetime(2026, 11, 21, 9, 40, tzinfo=UTC)),
        ("0 8 * * 1-5", datetime(2026, 11, 23, 8, 0, tzinfo=UTC)),
        ("0 8 * * mon,WED", datetime(2026, 11, 23, 8, 0, tzinfo=UTC)),
        ("0 0 * * 7", datetime(2026, 11, 22, 0, 0, tzinfo=UTC)),
        ("30 0 1 1,6,12 *", datetime(2026, 12, 1, 0, 30, tzinfo=UTC)),
        ("0 0 29 2 *", datetime(2028, 2, 29, 0, 0, tzinfo=UTC)),
        # Both days are given: either will do.
        ("0 0 13 * 5", datetime(2026, 11, 27, 0, 0, tzinfo=UTC)),
        ("0 0 1 jul *", datetime(2027, 7, 1, 0, 0, tzinfo=UTC)),
    ],
)
def test_the_next_time(text: str, comes: datetime) -> None:
    """The first after now, never now itself."""
    assert parse(text).next_after(NOW) == comes


def test_summer_time_moves_the_day() -> None:
    """8:00 stays 8:00 on the wall; a time of the hour that is skipped comes right after it."""
    at_eight = parse("0 8 * * *")
    for day, hour in ((datetime(2026, 1, 5, tzinfo=UTC), 7), (datetime(2026, 7, 5, tzinfo=UTC), 6)):
        found = at_eight.next_after(day, ZURICH)
        assert found is not None
        assert found.hour == hour
    for text, wall in (("30 2 29 3 *", "2027-03-29 02:30"), ("30 2 28 3 *", "2027-03-28 03:00")):
        comes = parse(text).next_after(NOW, ZURICH)
        assert comes is not None
        assert comes.astimezone(ZURICH).strftime("%Y-%m-%d %H:%M") == wall


def test_summer_times_end_repeats_an_hour_and_no_time() -> None:
    """What comes every ten minutes goes on through both hours; what comes once a day comes once."""
    often, once = parse("*/10 * * * *"), parse("30 2 * * *")
    # 2:50 for the first time, then 2:10 for the second.
    first, second = datetime(2026, 10, 25, 0, 50, tzinfo=UTC), datetime(2026, 10, 25, 1, 10, tzinfo=UTC)
    assert often.next_after(first, ZURICH) == datetime(2026, 10, 25, 1, 0, tzinfo=UTC)
    assert once.next_after(second, ZURICH) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


@given(st.datetimes(datetime(2026, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)), st.integers(0, 59))
def test_times_go_on(moment: datetime, minute: int) -> None:
    """Each is later than the one before, by an hour at most for a minute of every hour."""
    found = parse(f"{minute} * * * *").next_after(moment)
    assert found is not None
    assert timedelta() < found - moment <= timedelta(hours=1)
    assert found.minute == minute
