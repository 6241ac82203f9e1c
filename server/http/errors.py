"""What can go wrong on a connection, ours to the client or to an upstream.

HttpError
    BodyTooLarge            the client's body is over the limit
    ClientGone              the client left, or its connection was cut
    UpstreamError
        ConnectFailed       nothing was sent: always safe to try another upstream
        ResponseLost        cut, or answered with nonsense, before the response's head was whole
        BodyCut             cut inside the body: what came before it is real, the end is missing
        UpstreamTimeout     the upstream is silent for longer than allowed
"""


class HttpError(Exception):
    """Base of every error of the HTTP layer."""


class BodyTooLarge(HttpError):
    """The request's body is larger than `limit` bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the request body is larger than {limit} bytes; send a smaller one")
        self.limit = limit


class ClientGone(HttpError):
    """The client's connection is closed: nobody reads what is written."""


class UpstreamError(HttpError):
    """Base of what an upstream does to us."""


class ConnectFailed(UpstreamError):
    """No connection to the upstream, so nothing was sent to it."""


class ResponseLost(UpstreamError):
    """The request was sent, and the connection ended before a whole response head came back."""


class BodyCut(UpstreamError):
    """The response's body ended before its end."""


class UpstreamTimeout(UpstreamError):
    """The upstream sent nothing for longer than allowed."""


class UpstreamSilent(UpstreamError):
    """The upstream does not answer its health check either."""
