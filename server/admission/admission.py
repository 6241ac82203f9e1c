"""Whether a request is served now, later, or not at all: what the serving port asks for."""

from typing import Protocol

from server.auth.principal import Principal
from server.errors import HeaderList
from server.http.exchange import Request


class Ticket(Protocol):
    """One request's place. `headers` tell the client what is left of its limits."""

    headers: HeaderList

    def try_slot(self) -> bool:
        """Take a place among those that wait for their first token, if there is one now."""
        ...

    async def slot(self, seconds: float) -> None:
        """Wait for such a place. Raises Overloaded."""
        ...

    def first_token(self) -> None:
        """The place is free again: what decodes does not delay others' first tokens."""
        ...

    def unary(self) -> None:
        """The answer comes whole: its first token will not be seen."""
        ...

    def refused(self) -> None:
        """The nodes would not take it."""
        ...

    def end(self, prompt_tokens: int, answer_tokens: int) -> None:
        """The request is over. A prompt whose size is not known is 0, and stays charged as estimated."""
        ...


class Admission(Protocol):
    async def admit(self, principal: Principal, request: Request) -> Ticket:
        """Raises RateLimited, or BadRequest for a priority that does not exist."""
        ...


class FreeTicket:
    """Nothing is limited."""

    headers: HeaderList = []  # noqa: RUF012

    def try_slot(self) -> bool:
        return True

    async def slot(self, seconds: float) -> None:
        """There is always one."""

    def first_token(self) -> None:
        """Nothing waits for it."""

    def unary(self) -> None:
        """Nothing waits for it either."""

    def refused(self) -> None:
        """Nothing adapts."""

    def end(self, prompt_tokens: int, answer_tokens: int) -> None:
        """Nothing was taken."""


NO_TICKET = FreeTicket()


class NoAdmission:
    """A model node serves whatever its gateways send."""

    async def admit(self, principal: Principal, request: Request) -> Ticket:  # noqa: ARG002
        return NO_TICKET
