"""`python -m fleet.control`: follow the notices of one stack until told to stop."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import click

from fleet.control.aws import Account
from fleet.control.drain import Rules
from fleet.control.fallback_account import FallbackAccount
from fleet.control.fallback_loop import PERIOD_S, FallbackLoop
from fleet.control.fallback_round import Fallback
from fleet.control.handler import Handler
from fleet.control.log import Log
from fleet.control.log_group import LogGroup
from fleet.control.queue import Queue


@click.command()
@click.option("--queue-url", required=True, help="The queue that the stack's notices arrive in.")
@click.option("--stack", required=True, help="Notices for instances of any other stack are dropped.")
@click.option("--once", is_flag=True, help="One round over what the queue holds now.")
@click.option(
    "--recheck-seconds",
    type=click.FloatRange(min=1.0),
    default=2.0,
    show_default=True,
    help="How soon to look again at a node that is not empty yet.",
)
@click.option(
    "--time-scale",
    type=click.FloatRange(min=0.0, min_open=True),
    default=1.0,
    show_default=True,
    help="Multiplies AWS's durations; other than 1 only in a rehearsal.",
)
@click.option("--wait-seconds", type=click.IntRange(0, 20), default=20, show_default=True, help="Long poll.")
@click.option("--log-group", help="Of CloudWatch Logs: what goes to stdout goes there, too.")
def main(
    queue_url: str,
    stack: str,
    once: bool,
    recheck_seconds: float,
    time_scale: float,
    wait_seconds: int,
    log_group: str | None,
) -> None:
    """Take instances that got a notice out of the fleet, and let them go once they are empty."""
    stopped = threading.Event()
    with _logging(log_group) as log:
        fallback = Fallback(FallbackAccount(stack, time_scale), log)
        loop = FallbackLoop(fallback, log, time.time, PERIOD_S * time_scale)
        rules = Rules(stack, time_scale, recheck_seconds)
        handler = Handler(rules, Account(), log, time.time, capacity_changes=loop.soon)
        queue = Queue(queue_url, handler, log, wait_seconds)
        _stop_on_signals(stopped)
        log("control.started", stack=stack)
        # What workers hold is finished first; what was only received shows itself again.
        with suppress(KeyboardInterrupt), loop:
            queue.run(once=once, stopped=stopped)
        log("control.stopped", stack=stack)


@contextmanager
def _logging(group: str | None) -> Iterator[Log]:
    """A stream a process: its host, its pid, and when it began."""
    if group is None:
        yield Log()
        return
    stream = f"{socket.gethostname()}/{os.getpid()}/{time.time():.3f}"
    with LogGroup(group, stream) as sent:
        yield Log(also=sent.add)


def _stop_on_signals(stopped: threading.Event) -> None:
    """The first signal ends the long poll at once, too; it is raised in the main thread, which only polls."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        if not stopped.is_set():
            stopped.set()
            raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


if __name__ == "__main__":
    main()
