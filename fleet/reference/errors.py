"""docs/errors.md: what the endpoint answers when it does not answer, and what the client library raises."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import goldenfleet_client.errors

from server import errors

_HEAD = """# Errors

Made from `server/errors.py` and `goldenfleet_client/errors.py` by `scripts/reference`.

Every refusal has one envelope and an `x-request-id`; a stream that cannot go on ends with the same envelope
as an event, never with `[DONE]`:

```json
{"error": {"message": "...", "type": "server_error", "param": null, "code": "node_draining"}}
```

On TGI's routes it is `{"error": "...", "error_type": "overloaded"}`.

| code | status | type | TGI's error_type | the connection | meaning |
|---|---|---|---|---|---|
"""
_CLIENT = """
## The client library

```text
"""


def page() -> str:
    client = inspect.cleandoc(goldenfleet_client.errors.__doc__ or "")
    return _HEAD + "".join(f"{row}\n" for row in _rows()) + _CLIENT + client + "\n```\n"


def _rows() -> Iterator[str]:
    meanings = dict(_meanings())
    for kind in sorted(_refusals(errors.RequestRefused), key=lambda kind: (kind.status, kind.code)):
        status = "in a stream" if kind is errors.ResumeUnsupported else _statuses(kind)
        closed = "closed" if kind.closes else "kept"
        code = "the engine's own" if kind is errors.EngineRefused else f"`{kind.code}`"
        meaning = meanings[kind.__name__]
        yield f"| {code} | {status} | `{kind.type}` | `{kind.tgi_type}` | {closed} | {meaning} |"


def _statuses(kind: type[errors.RequestRefused]) -> str:
    if kind is errors.EngineRefused:
        return "4xx"
    return "502, 503" if kind is errors.NodesFailed else str(kind.status)


def _refusals(kind: type[errors.RequestRefused]) -> Iterator[type[errors.RequestRefused]]:
    for child in kind.__subclasses__():
        yield child
        yield from _refusals(child)


def _meanings() -> Iterator[tuple[str, str]]:
    """Name -> meaning, from the tree at the top of server/errors.py."""
    for line in (errors.__doc__ or "").splitlines():
        name, _, rest = line.lstrip(" │├└─").partition(" ")
        meaning = rest.strip().lstrip("0123456789x, ").strip()
        if name and meaning:
            yield name, meaning
