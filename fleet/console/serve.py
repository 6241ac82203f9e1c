"""The console's web server: on a loopback address, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from fleet.console.errors import AddressRefused, PortTaken

_BACKLOG = 64
_ENDING = (signal.SIGINT, signal.SIGTERM)
# Event streams end by themselves when the feed closes; whoever does not take that is cut off.
_GRACE_S = 1


def loopback(host: str) -> str:
    """The address that `host` means. Raises AddressRefused for any that other machines reach."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError as exc:
        raise AddressRefused(f"{host!r} is no IP address", "Use 127.0.0.1 or ::1.") from exc
    if not address.is_loopback:
        hint = "Use 127.0.0.1, and reach it from elsewhere by `ssh -L 8600:127.0.0.1:8600`."
        raise AddressRefused(f"the console binds loopback only, and {host} is not", hint)
    return str(address)


@contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket; port 0 takes a free one. Raises AddressRefused and PortTaken."""
    address = loopback(host)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
        except OSError as exc:
            hint = "Choose another: --port 0 takes a free one."
            raise PortTaken(f"cannot listen on {address} port {port}: {exc.strerror}", hint) from exc
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        yield listener


def url(listener: socket.socket, key: str) -> str:
    address, port, *_ = listener.getsockname()
    return f"http://{f'[{address}]' if ':' in address else address}:{port}/?key={key}"


class Server(uvicorn.Server):
    """Ends once `should_exit` is true."""

    def __init__(self, app: ASGIApp) -> None:
        config = uvicorn.Config(
            app,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_S,
        )
        super().__init__(config)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are `serve`'s own business."""
        yield


async def serve(app: ASGIApp, listener: socket.socket, closing: Callable[[], None]) -> signal.Signals:
    """Until a signal, which it gives back; `closing` is called when it came, to end what still streams."""
    server, loop = Server(app), asyncio.get_running_loop()
    came: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        came.append(number)
        closing()
        server.should_exit = True

    for number in _ENDING:
        loop.add_signal_handler(number, stop, number)
    try:
        await server.serve(sockets=[listener])
    finally:
        for number in _ENDING:
            loop.remove_signal_handler(number)
    return came[0]
