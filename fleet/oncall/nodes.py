"""What nodes say of themselves: asked on their admin ports, else through the control Lambda.

Nodes are asked directly first, which works in a rehearsal, from a VPN and inside the VPC. Those that give no
answer are asked for by the Lambda, which sits in the VPC.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from fleet.control.node import ADMIN_PORT
from fleet.oncall.aws import Aws
from fleet.oncall.errors import OnCallError
from fleet.oncall.threads import side_by_side

Condition = Literal["answers", "dead", "silent"]

ASK_S: Final = 1.0
_LONGEST_ANSWER = 4 * 1024 * 1024
_WORKERS = 64
_SAMPLE = 16  # where none of so many answers, nobody here reaches the VPC
_LAMBDA_BATCH = 100
# Straight to the node, whatever proxy the environment names.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Said:
    """`dead`: nothing listens there; `silent`: no answer in time. `state` is what GET /state shows."""

    condition: Condition
    state: Mapping[str, Any]

    @property
    def phase(self) -> str | None:
        """The drain's, or None when it is not known."""
        phase = self.state.get("phase")
        return phase if isinstance(phase, str) else None

    def number(self, key: str) -> float | None:
        value = self.state.get(key)
        return float(value) if isinstance(value, int | float) else None

    def text(self, key: str) -> str | None:
        value = self.state.get(key)
        return value if isinstance(value, str) else None

    def pairs(self, key: str) -> dict[str, str]:
        value = self.state.get(key)
        return {str(one): str(what) for one, what in value.items()} if isinstance(value, dict) else {}

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.state.get(key)
        return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


SILENT: Final = Said("silent", {})
DEAD: Final = Said("dead", {})


def ask_all(aws: Aws, addresses: Mapping[str, str]) -> dict[str, Said]:
    """Instance id -> what it says, for every one in `addresses` (instance id -> private address)."""
    said = _ask_directly(addresses)
    silent = [instance_id for instance_id, one in said.items() if one.condition == "silent"]
    return said | (_ask_control(aws, silent) if silent else {})


def ask(address: str, timeout_s: float = ASK_S) -> Said:
    try:
        with _OPENER.open(f"http://{address}:{ADMIN_PORT}/state", timeout=timeout_s) as answer:
            return _read(answer.read(_LONGEST_ANSWER))
    except urllib.error.URLError as exc:
        return DEAD if isinstance(exc.reason, ConnectionRefusedError) else SILENT
    except (OSError, http.client.HTTPException):
        return SILENT


def _ask_directly(addresses: Mapping[str, str]) -> dict[str, Said]:
    order = list(addresses)
    first = side_by_side(ask, [addresses[one] for one in order[:_SAMPLE]], _WORKERS)
    if first and all(said.condition == "silent" for said in first):
        return dict.fromkeys(order, SILENT)
    rest = side_by_side(ask, [addresses[one] for one in order[_SAMPLE:]], _WORKERS)
    return dict(zip(order, [*first, *rest], strict=True))


def _ask_control(aws: Aws, instance_ids: Sequence[str]) -> dict[str, Said]:
    """Nothing of those that it cannot tell either: that a node is silent is what is known then."""
    if aws.kept is not None:
        return {}  # there the control handler is a process, with no better view of the nodes
    batches = [instance_ids[i : i + _LAMBDA_BATCH] for i in range(0, len(instance_ids), _LAMBDA_BATCH)]
    found: dict[str, Said] = {}
    for batch in batches:
        try:
            found |= _states(aws, batch)
        except OnCallError:
            return found
    return found


def _states(aws: Aws, instance_ids: Sequence[str]) -> dict[str, Said]:
    asked = json.dumps({"ask": "states", "instances": list(instance_ids)}).encode()
    answer = aws.call("lambda.invoke", FunctionName=control_function(aws.stack), Payload=asked)
    try:
        states = json.loads(answer["Payload"].read())["states"]
        return {one: Said("answers", said) for one, said in states.items() if "phase" in said}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def control_function(stack: str) -> str:
    """Name of the control handler's Lambda function."""
    return f"gf-{stack}-control"


def _read(raw: bytes) -> Said:
    try:
        said = json.loads(raw)
    except ValueError:
        return SILENT
    return Said("answers", said) if isinstance(said, dict) else SILENT
