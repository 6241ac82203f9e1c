"""Times that come again, as cron writes them: when is the next one.

AWS: PutScheduledUpdateGroupAction, Recurrence: [Minute] [Hour] [Day_of_Month] [Month_of_Year] [Day_of_Week].
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _DAYS),
)
_PART = re.compile(r"(?P<first>\*|\w+)(-(?P<last>\w+))?(/(?P<step>\d+))?")
_FAR_DAYS = 8 * 366
"""A 29th of February may be eight years away."""


class NotCron(ValueError):
    """The text is no cron expression; the message says which part of it."""


@dataclass(frozen=True)
class Cron:
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday."""
    either_day: bool
    """Both kinds of day are restricted: then one of them is enough."""

    def next_after(self, moment: datetime, zone: tzinfo = UTC) -> datetime | None:
        """The first time after `moment` in `zone`, in UTC; None for a date that never comes."""
        local = moment.astimezone(zone).replace(tzinfo=None)
        for number in range(_FAR_DAYS):
            day = datetime(local.year, local.month, local.day) + timedelta(days=number)
            for at in self._times(day):
                # An hour that summer time leaves out is the one after it.
                found = at.replace(tzinfo=zone).astimezone(UTC)
                if found > moment:
                    return found
        return None

    def _times(self, day: datetime) -> list[datetime]:
        if not self._has(day):
            return []
        return [day.replace(hour=h, minute=m) for h in sorted(self.hours) for m in sorted(self.minutes)]

    def _has(self, day: datetime) -> bool:
        if day.month not in self.months:
            return False
        date, weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return date or weekday if self.either_day else date and weekday


def parse(text: str) -> Cron:
    """Raises NotCron."""
    parts = text.split()
    if len(parts) != len(_FIELDS):
        raise NotCron(f"{text!r} has {len(parts)} fields: minute, hour, day, month and weekday make 5")
    minutes, hours, days, months, weekdays = (
        _field(part, *field) for part, field in zip(parts, _FIELDS, strict=True)
    )
    both = not parts[2].startswith("*") and not parts[4].startswith("*")
    return Cron(minutes, hours, days, months, frozenset(day % 7 for day in weekdays), both)


def _field(text: str, name: str, least: int, most: int, names: tuple[str, ...]) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise NotCron(f"{part!r} is no {name}")
        first, last = match["first"], match["last"]
        step = int(match["step"] or 1)
        begin = least if first == "*" else _number(first, name, least, most, names)
        end = _end(first, last, match["step"], begin, most)
        finish = end if isinstance(end, int) else _number(end, name, least, most, names)
        if finish < begin or step < 1:
            raise NotCron(f"{part!r} is no {name}")
        found.update(range(begin, finish + 1, step))
    return frozenset(found)


def _end(first: str, last: str | None, step: str | None, begin: int, most: int) -> int | str:
    if last is not None:
        return last
    return most if first == "*" or step else begin


def _number(text: str, name: str, least: int, most: int, names: tuple[str, ...]) -> int:
    """Names count from the field's first number."""
    if text.lower() in names:
        return names.index(text.lower()) + least
    if not text.isdecimal() or not least <= int(text) <= most:
        raise NotCron(f"{text!r} is no {name} from {least} to {most}")
    return int(text)
