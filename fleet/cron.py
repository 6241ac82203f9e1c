"""Times that come again, as cron writes them: by cronsim, which does as Debian's cron does, DST included.

AWS: PutScheduledUpdateGroupAction, Recurrence: five fields, "[Minute] [Hour] [Day_of_Month] [Month_of_Year]
[Day_of_Week]", in "traditional cron syntax" (Application Auto Scaling guide, which has another). What cronsim
knows beyond it is refused here: seconds, L, LW and #.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from cronsim import CronSim, CronSimError

_FIELDS = {
    "minute": "from 0 to 59",
    "hour": "from 0 to 23",
    "day-of-month": "from 1 to 31, in a month that has it",
    "month": "from 1 to 12, or jan to dec",
    "day-of-week": "from 0 to 7, or sun to sat",
}
_BEYOND = re.compile(r"#|(?<![A-Z])\d*LW?(?![A-Z])", re.IGNORECASE)
_SOME_DAY = datetime(2026, 1, 1, tzinfo=UTC)


class NotCron(ValueError):
    """The text is no cron expression; the message says which part of it."""


@dataclass(frozen=True)
class Cron:
    text: str

    def next_after(self, moment: datetime, zone: tzinfo = UTC) -> datetime | None:
        """The first time after `moment` in `zone`, in UTC; None where none comes for fifty years."""
        times = (at.astimezone(UTC) for at in CronSim(self.text, moment.astimezone(zone)))
        # In the hour that summer time's end repeats, its first pass would come again.
        return next((at for at in times if at > moment), None)


def parse(text: str) -> Cron:
    """Raises NotCron."""
    if len(fields := text.split()) != len(_FIELDS):
        raise NotCron(f"{text!r} has {len(fields)} fields: minute, hour, day, month and weekday make 5")
    if beyond := _BEYOND.search(text):
        raise NotCron(f"{text!r} has {beyond[0]!r}, which AWS does not know: name days by numbers")
    try:
        CronSim(text, _SOME_DAY)
    except CronSimError as exc:
        name = str(exc).removeprefix("Bad ")
        raise NotCron(f"{text!r} has a bad {name}: it is {_FIELDS[name]}") from exc
    return Cron(text)
