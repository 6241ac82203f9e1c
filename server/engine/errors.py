"""What can go wrong in the embedded engine.

EngineError
├── WeightsError          the committed weights are missing or not the recorded ones
├── RequestError          the client's request cannot be served: status, code and param say why
└── EngineStoppedError    the engine stopped while the request ran
"""

from __future__ import annotations


class EngineError(Exception):
    """Base of every error that the engine raises on purpose."""


class WeightsError(EngineError):
    """The weights cannot be trusted; the engine does not start."""


class RequestError(EngineError):
    """A refusal in OpenAI's terms: `status` is the HTTP status, `code` and `param` go into the envelope."""

    def __init__(
        self, message: str, *, status: int = 400, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.param = param


class EngineStoppedError(EngineError):
    """The engine stopped before the request was finished; ask another node."""
