"""Who may ask: every request of the serving port passes here before anything of it is read."""

from typing import Protocol

from server.auth.principal import ANONYMOUS, Principal
from server.http.exchange import Request


class Gatekeeper(Protocol):
    async def principal(self, request: Request, scope: str) -> Principal:
        """Raises Unauthenticated, or Forbidden when the sender may not use routes of `scope`."""
        ...


class OpenGate:
    """Authentication is off: everybody is the same anonymous principal."""

    async def principal(self, request: Request, scope: str) -> Principal:  # noqa: ARG002
        return ANONYMOUS
