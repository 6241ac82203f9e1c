"""The serving port's routes."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from server.auth.principal import Scope
from server.errors import MethodNotAllowed, NotFound, Wire
from server.proxy import Call, Proxy

VERSION = "0.1.0"
PROBES = ("/health", "/ready")


@dataclass(frozen=True)
class Route:
    """`serve` answers; `body` says whether the request has one; `name` is the metrics' label."""

    name: str
    wire: Wire
    serve: Callable[[Proxy, Call, bytes], Awaitable[None]]
    body: bool = True
    scope: Scope = Scope.GENERATE


ROUTES: dict[str, dict[str, Route]] = {
    "/v1/chat/completions": {"POST": Route("chat", "openai", lambda p, c, b: p.chat(c, b))},
    "/v1/completions": {"POST": Route("completions", "openai", lambda p, c, b: p.completions(c, b))},
    "/v1/models": {
        "GET": Route("models", "openai", lambda p, c, _: p.models(c), body=False, scope=Scope.MODELS)
    },
    "/": {"POST": Route("tgi", "tgi", lambda p, c, b: p.tgi(c, b, stream=None, listed=True))},
    "/generate": {"POST": Route("generate", "tgi", lambda p, c, b: p.tgi(c, b, stream=False, listed=False))},
    "/generate_stream": {
        "POST": Route("generate_stream", "tgi", lambda p, c, b: p.tgi(c, b, stream=True, listed=False))
    },
    "/info": {
        "GET": Route("info", "tgi", lambda p, c, _: p.info(c, VERSION), body=False, scope=Scope.MODELS)
    },
}


def find_route(path: str, method: str) -> Route:
    """Raises NotFound or MethodNotAllowed."""
    methods = ROUTES.get(path)
    if methods is None and path not in PROBES:
        raise NotFound("There is no such path here.")
    route = (methods or {}).get(method)
    if route is None:
        allow = ", ".join(methods or ("GET", "HEAD"))
        raise MethodNotAllowed(f"This path is for {allow}.", allow=allow)
    return route


def wire_of(path: str) -> Wire:
    """The format in which clients of `path` expect errors."""
    routes = ROUTES.get(path)
    return next(iter(routes.values())).wire if routes else "openai"
