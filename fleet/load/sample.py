"""What one request of a load came to."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

Outcome = Literal["ok", "lost", "truncated", "refused", "unsent"]
"""`refused`: the service said no (401, 404, 429 ...); `unsent`: too many were under way already."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Times are seconds. `due_s` is when the request was to leave, since the load began; `ttft_s` and
    `total_s` count from there and not from when it left, so that a service (or a generator) that stalls
    cannot hide the requests that had come meanwhile (coordinated omission)."""

    due_s: float
    outcome: Outcome
    late_s: float = 0.0
    ttft_s: float | None = None
    total_s: float | None = None
    gaps_s: tuple[float, ...] = ()
    """Between one piece of text and the next, as the client sees them."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    attempts: int = 0
    resumes: int = 0
    error: str | None = None

    @property
    def per_token_s(self) -> float | None:
        """Time per output token after the first."""
        if self.total_s is None or self.ttft_s is None or self.output_tokens < 2:
            return None
        return (self.total_s - self.ttft_s) / (self.output_tokens - 1)

    def line(self) -> bytes:
        """As JSON, with its newline."""
        return json.dumps(asdict(self)).encode() + b"\n"
