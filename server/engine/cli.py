"""The command line of the embedded engine."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from contextlib import suppress

import click
import uvicorn
import uvloop

from server.engine import api, weights
from server.engine.config import MODEL_ID, Limits
from server.engine.engine import Engine
from server.engine.errors import EngineError
from server.engine.parent import end_with

# Once the engine has stopped every answer ends at once with an error; this is time enough to send it.
_STOP_GRACE_SECONDS = 2
_KEEP_ALIVE_SECONDS = 75
_BACKLOG = 1024

_EXAMPLE = """\b
Example:
  python -m server.engine --port 8000
  curl -N 127.0.0.1:8000/v1/completions -d '{"prompt": "A notice is", "stream": true}'
"""


@click.command(epilog=_EXAMPLE, context_settings={"show_default": True})
@click.option("--host", default="127.0.0.1", help="Address to bind.")
@click.option("--port", default=8000, type=click.IntRange(0, 65535), help="Port; 0 takes a free one.")
@click.option("--served-model", default=MODEL_ID, help="Name by which clients ask for the model.")
@click.option("--max-sequences", default=Limits.max_sequences, help="Sequences in one step.")
@click.option("--max-batch-tokens", default=Limits.max_batch_tokens, help="Tokens in one step.")
@click.option("--pages", default=Limits.pages, help="Pages of 32 tokens in the KV cache.")
@click.option("--ends-with", type=int, metavar="PID", help="The parent process, without which this one ends.")
def engine(
    host: str,
    port: int,
    served_model: str,
    max_sequences: int,
    max_batch_tokens: int,
    pages: int,
    ends_with: int | None,
) -> None:
    """Serve the embedded model over the OpenAI API until told to stop.

    The first line on stdout is JSON with the port that was bound.
    """
    try:
        if ends_with is not None:
            end_with(ends_with)
        uvloop.run(serve(host, port, Limits(max_sequences, max_batch_tokens, pages), served_model))
    except EngineError as exc:
        raise click.ClickException(str(exc)) from exc
    except KeyboardInterrupt:
        sys.exit(130)


async def serve(host: str, port: int, limits: Limits, model_id: str = MODEL_ID) -> None:
    trained = weights.load()
    running = Engine(trained, limits)
    with bind(host, port) as listener:
        config = uvicorn.Config(
            api.build(running, trained.fingerprint, model_id=model_id),
            http="httptools",
            lifespan="off",
            ws="none",
            access_log=False,
            log_level="warning",
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_STOP_GRACE_SECONDS,
        )
        _announce(listener, model_id)
        await _run(config, running, listener)


def bind(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=_BACKLOG)
    except OSError as exc:
        reason = (exc.strerror or str(exc)).partition(" (while ")[0]
        raise EngineError(
            f"cannot listen on {host}:{port}: {reason}; choose another address or stop what holds it"
        ) from exc


def _announce(listener: socket.socket, model_id: str) -> None:
    host, port = listener.getsockname()[:2]
    line = {"event": "engine.started", "ts": time.time(), "host": host, "port": port, "model": model_id}
    click.echo(json.dumps(line))


class _Server(uvicorn.Server):
    """Stops the engine before it waits for open connections: no client waits for an answer in vain."""

    def __init__(self, config: uvicorn.Config, stepping: asyncio.Task[None]) -> None:
        super().__init__(config)
        self._stepping = stepping
        stepping.add_done_callback(self._leave)

    def _leave(self, _: asyncio.Task[None]) -> None:
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stepping.cancel()
        await super().shutdown(sockets)


async def _run(config: uvicorn.Config, running: Engine, listener: socket.socket) -> None:
    """Serve until a signal, or until the engine's own task fails: then so does this."""
    stepping = asyncio.create_task(running.run())
    try:
        await _Server(config, stepping).serve(sockets=[listener])
    finally:
        stepping.cancel()
        with suppress(asyncio.CancelledError):
            await stepping
