"""Log streams by their names: moto leaves `logStreamNamePrefix` unread, and takes a stream that is not there
for an empty one.

What AWS does: `FilterLogEvents` in the CloudWatch Logs API reference; of a stream that is not there it says
"The specified log stream does not exist" (percona/rds_exporter#81).
"""

from __future__ import annotations

import json
from typing import Any

from moto.logs.exceptions import InvalidParameterException, ResourceNotFoundException
from moto.logs.responses import LogsResponse

from fleet.rehearsal.cloud.patches import Patches

_PREFIX, _NAMES = "logStreamNamePrefix", "logStreamNames"


def install(patches: Patches) -> None:
    patches.wrap(LogsResponse, "filter_log_events", _filtered)


def _filtered(original: Any) -> Any:
    def filter_log_events(self: LogsResponse) -> str:
        asked = json.loads(self.body)
        group = self.logs_backend.groups.get(asked.get("logGroupName"))
        prefix, names = asked.get(_PREFIX), asked.get(_NAMES)
        if prefix is not None and names is not None:
            raise InvalidParameterException(f"Must not be given with {_NAMES}", _PREFIX, prefix)
        if group is not None and prefix is not None:
            asked[_NAMES] = [name for name in group.streams if name.startswith(prefix)]
            self.body = json.dumps(asked)
            if not asked[_NAMES]:
                return json.dumps({"events": [], "searchedLogStreams": []})
        elif group is not None and names and not set(names) <= set(group.streams):
            raise ResourceNotFoundException("The specified log stream does not exist.")
        return str(original(self))

    return filter_log_events
