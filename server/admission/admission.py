"""Whether a request is served now, later, or not at all."""

from typing import Protocol

from server.auth.principal import Principal
from server.errors import HeaderList
from server.http.exchange import Request


class Ticket(Protocol):
    """One request's place. `headers` tell the client what is left of its limits."""

    headers: HeaderList

    async def slot(self, seconds: float) -> None:
        """Wait for a place among those that wait for their first token. Raises Overloaded."""
        ...

    def first_token(self) -> None:
        """The place is free again: what decodes does not delay others' first tokens."""
        ...

    def unary(self) -> None:
        """The answer comes whole: its first token will not be seen."""
        ...

    def tokens(self, count: int) -> None:
        """Charge what was generated to the limits."""
        ...

    def end(self) -> None: ...


class Admission(Protocol):
    async def admit(self, principal: Principal, request: Request) -> Ticket:
        """Raises RateLimited."""
        ...


class FreeTicket:
    """Nothing is limited."""

    headers: HeaderList = []  # noqa: RUF012

    async def slot(self, seconds: float) -> None:
        """There is always one."""

    def first_token(self) -> None:
        """Nothing waits for it."""

    def unary(self) -> None:
        """Nothing waits for it either."""

    def tokens(self, count: int) -> None:
        """Nothing counts them."""

    def end(self) -> None:
        """Nothing was taken."""


NO_TICKET = FreeTicket()


class NoAdmission:
    """A model node serves whatever its gateways send."""

    async def admit(self, principal: Principal, request: Request) -> Ticket:  # noqa: ARG002
        return NO_TICKET
