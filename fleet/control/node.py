"""A node's admin API: what it says of itself, and the word that it shall drain, or serve again."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any, Final, Literal

from fleet.control.drain import NodeState

ADMIN_PORT: Final = 9090
_TIMEOUT_S = 1.5
_LONGEST_ANSWER = 1024 * 1024  # a gateway tells of every node that it knows
# Straight to the node, whatever proxy the environment names.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))

Undrained = Literal["serving", "refused", "dead", "silent"]


def state(address: str, port: int = ADMIN_PORT) -> NodeState:
    return _ask(urllib.request.Request(f"http://{address}:{port}/state"))


def drain(address: str, reason: str, deadline_s: float, port: int = ADMIN_PORT) -> NodeState:
    """`deadline_s`: seconds from now. Asking again is harmless."""
    body = json.dumps({"reason": reason, "deadline_s": deadline_s}).encode()
    headers = {"content-type": "application/json"}
    return _ask(urllib.request.Request(f"http://{address}:{port}/drain", body, headers))


def undrain(address: str, port: int = ADMIN_PORT) -> Undrained:
    """`refused`: AWS is taking the instance away."""
    said = _ask(urllib.request.Request(f"http://{address}:{port}/undrain", b""), conflict="refused")
    match said.condition:
        case "serving" | "refused" | "dead":
            return said.condition
        case _:
            return "silent"


def describe(address: str, port: int = ADMIN_PORT) -> dict[str, Any]:
    """All that the node says of itself; `error` in its place when it says nothing."""
    try:
        with _OPENER.open(f"http://{address}:{port}/state", timeout=_TIMEOUT_S) as answer:
            said = json.loads(answer.read(_LONGEST_ANSWER))
    except (OSError, http.client.HTTPException, ValueError) as exc:
        return {"error": f"no answer from {address}:{port}: {exc}"}
    return said if isinstance(said, dict) else {"error": f"{address}:{port} gave no state"}


def _ask(request: urllib.request.Request, conflict: str = "silent") -> NodeState:
    """Only a refused connection is death: a busy node, too, may miss a time limit."""
    try:
        with _OPENER.open(request, timeout=_TIMEOUT_S) as answer:
            return _read(answer.read(_LONGEST_ANSWER))
    except urllib.error.HTTPError as exc:
        exc.close()
        return NodeState(conflict if exc.code == http.client.CONFLICT else "silent")
    except urllib.error.URLError as exc:
        return NodeState("dead" if isinstance(exc.reason, ConnectionRefusedError) else "silent")
    except (OSError, http.client.HTTPException):
        return NodeState("silent")


def _read(raw: bytes) -> NodeState:
    try:
        said = json.loads(raw)
        phase, deadline, ready = str(said["phase"]), said["deadline"], said.get("ready") is True
    except (ValueError, KeyError, TypeError):
        return NodeState("silent")
    return NodeState(phase, deadline if isinstance(deadline, (int, float)) else None, ready)
