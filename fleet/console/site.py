"""One console, put together: a stack's source, the feed, and the web server."""

from __future__ import annotations

import signal
import socket
import time
from functools import partial

from fleet.console.app import Console
from fleet.console.feed import Feed
from fleet.console.guard import Secrets
from fleet.console.picture import picture
from fleet.console.serve import serve
from fleet.console.source import StackSource, on_demand
from fleet.oncall.aws import Aws

_STALE_AFTER = 4
"""Looks that may fail before the page says how old it is; and never under 10 s, which a large fleet takes."""
_STALE_LEAST_S = 10.0


class Site:
    def __init__(self, aws: Aws, interval_s: float, *, may_drain: bool) -> None:
        self.known = Secrets()
        source = StackSource(aws)
        self._feed = Feed(
            source,
            aws.stack,
            interval_s=interval_s,
            render=partial(picture, price=on_demand(aws.region)),
            clock=time.time,
            monotonic=time.monotonic,
        )
        stale_after_s = max(_STALE_LEAST_S, _STALE_AFTER * interval_s)
        self._console = Console(
            self._feed, self.known, source if may_drain else None, time.time, stale_after_s
        )

    async def serve(self, listener: socket.socket) -> signal.Signals:
        """Until SIGINT or SIGTERM, which it gives back."""
        self._feed.start()
        return await serve(self._console.app(), listener, self._feed.close)
