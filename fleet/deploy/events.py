"""What `pulumi` writes to its event log, one JSON object a line.

Form: pulumi/pulumi, sdk/go/common/apitype/events.go. The Automation API reads the same log by the same
option: it is the one machine-readable account that preview, up and destroy share.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet.deploy.errors import PulumiFailedError
from fleet.policy.evaluate import Violation
from fleet.rehearsal.engine import Step
from fleet.rehearsal.engine.diff import Op
from fleet.rehearsal.engine.urns import STACK_TYPE
from fleet.rehearsal.engine.values import UNKNOWN_ON_WIRE

_COLOUR = re.compile(r"<\{%.*?%\}>")

# Pulumi's operations -> ours. Those missing here are parts of one of these, and carry no `logical`, or
# compare state with AWS.
_OPS: Mapping[str, Op] = {
    "create": "create",
    "delete": "delete",
    "discard": "delete",
    "import": "create",
    "read": "read",
    "read-replacement": "read",
    "replace": "replace",
    "same": "same",
    "update": "update",
}


@dataclass
class Account:
    """Of one run, as its events come in."""

    planning: bool
    """A preview's steps are told before, and others' after they were taken."""
    steps: list[Step] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)

    def take(self, line: str, elapsed: float) -> Step | None:
        """One line of the log; the step that it tells of. Raises PulumiFailedError for what is no event."""
        event = _parsed(line)
        if told := event.get("diagnosticEvent"):
            self._diagnosed(told)
        if told := event.get("policyEvent"):
            self._violated(told)
        before, after = event.get("resourcePreEvent"), event.get("resOutputsEvent")
        told = after or before
        if told is None:
            return None
        if after is not None:
            self._note_outputs(after["metadata"])
        return self._stepped(told["metadata"], elapsed) if (before if self.planning else after) else None

    def _stepped(self, metadata: Mapping[str, Any], elapsed: float) -> Step | None:
        op = _OPS.get(metadata["op"])
        # One replacement is three steps to Pulumi: only the logical one is the program's.
        if op is None or not metadata.get("logical", False):
            return None
        urn = metadata["urn"]
        changed = tuple(sorted({*(metadata.get("diffs") or ()), *(metadata.get("keys") or ())}))
        step = Step(op, urn, metadata["type"], urn.rpartition("::")[2], changed, elapsed)
        self.steps.append(step)
        return step

    def _note_outputs(self, metadata: Mapping[str, Any]) -> None:
        if metadata["type"] == STACK_TYPE and metadata.get("new"):
            told = metadata["new"].get("outputs") or {}
            # A preview has this text in the place of what it cannot know.
            self.outputs = {k: v for k, v in told.items() if UNKNOWN_ON_WIRE not in json.dumps(v)}

    def _diagnosed(self, told: Mapping[str, Any]) -> None:
        if told.get("severity") == "error":
            name = told.get("urn", "").rpartition("::")[2]
            self.errors.append(f"{name}: {_plain(told['message'])}" if name else _plain(told["message"]))

    def _violated(self, told: Mapping[str, Any]) -> None:
        level = told.get("enforcementLevel")
        if level not in ("mandatory", "advisory"):  # remediated, or switched off
            return
        urn = told.get("resourceUrn", "")
        message = _plain(told["message"])
        self.violations.append(Violation(told["policyName"], level, urn, urn.rpartition("::")[2], message))


def _parsed(line: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except json.JSONDecodeError as exc:
        raise PulumiFailedError(
            f"pulumi's event log has a line that is no JSON: {line[:80]!r}",
            "Try a current version of pulumi.",
        ) from exc
    return event if isinstance(event, dict) else {}


def _plain(text: str) -> str:
    return _COLOUR.sub("", text).strip()
