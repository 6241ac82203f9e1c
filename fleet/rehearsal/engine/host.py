"""Runs a Pulumi program in this process, as the CLI's `pulumi-language-python-exec` does.

That script comes with the CLI and not with the SDK, so that this stands for it. It is run by its path, and
imports nothing of ours: the program gets the interpreter that it would get from Pulumi.

With --warm and a socket it runs programs one after the other, each in a fork of its own that finds imported
what the one before has imported of the SDK: that is most of the time that a program takes.
"""

import asyncio
import importlib
import json
import logging
import os
import runpy
import signal
import socket
import sys
import threading
import traceback
from typing import NoReturn

import pulumi
import pulumi.runtime


def main(
    monitor: str,
    engine: str,
    project: str,
    stack: str,
    dry_run: str,
    folder: str,
    parallel: str,
    lifeline: str,
) -> int:
    threading.Thread(target=_end_with, args=(int(lifeline),), daemon=True).start()
    pulumi.runtime.set_all_config(
        pulumi.runtime.get_config_env(), pulumi.runtime.get_config_secret_keys_env()
    )
    pulumi.runtime.configure(
        pulumi.runtime.Settings(
            project=project,
            stack=stack,
            monitor=monitor,
            engine=engine,
            parallel=int(parallel),
            dry_run=dry_run == "true",
            organization="organization",
            root_directory=folder,
        )
    )
    # A failing program leaves futures that nobody awaits; asyncio's complaints about them tell nothing.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    sys.argv = [os.curdir]
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(pulumi.runtime.run_in_stack(_program))
    except pulumi.RunError as exc:
        pulumi.log.error(str(exc))
        return 1
    except Exception:  # noqa: BLE001 - whatever the program raises is its error, and is told to the engine
        pulumi.log.error(traceback.format_exc())
        return 1
    finally:
        loop.close()
    return 0


def _end_with(lifeline: int) -> None:
    """The engine holds the other end of this pipe for as long as it lives."""
    os.read(lifeline, 1)
    os._exit(1)


def _program() -> None:
    runpy.run_path(os.curdir, run_name="__main__")


# What may be imported ahead of a program: packages that do nothing when they are imported.
_AHEAD = ("pulumi", "pulumi_aws")
_MOST_BYTES = 1 << 18


def serve(channel: socket.socket) -> None:
    """Until the other end closes: {words, folder, environment} with two descriptors, output and lifeline."""
    # Ctrl-C is for the engine, which then stops the program.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, _MOST_BYTES, 2)
        if not message:
            return
        heard, told = os.pipe()
        pid = os.fork()
        if pid == 0:
            channel.close()
            os.close(heard)
            output, lifeline = descriptors
            _run(json.loads(message), output, lifeline, told)
        for descriptor in (*descriptors, told):
            os.close(descriptor)
        channel.send(json.dumps({"pid": pid}).encode())
        with open(heard) as imported:
            names = imported.read().split()
        _, status = os.waitpid(pid, 0)
        channel.send(json.dumps({"code": os.waitstatus_to_exitcode(status)}).encode())
        # Only now, when nobody waits.
        for name in names:
            importlib.import_module(name)


def _run(asked: dict[str, object], output: int, lifeline: int, told: int) -> NoReturn:
    """As a process of its own would: its folder, environment and output; `told` gets what it imports."""
    words, folder, environment = asked["words"], asked["folder"], asked["environment"]
    assert isinstance(words, list)
    assert isinstance(folder, str)
    assert isinstance(environment, dict)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for stream in (1, 2):
        os.dup2(output, stream)
    code = main(*[*words, str(lifeline)])
    with open(told, "w") as names:
        names.write(" ".join(name for name in sys.modules if name.partition(".")[0] in _AHEAD))
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: what the warm process would do at its end is not this one's.
    os._exit(code)


def _load(names: list[str]) -> None:
    """The SDK's modules are loaded when something is first looked for in them."""
    for name in names:
        getattr(importlib.import_module(name), "_inputs", None)


if __name__ == "__main__":
    if sys.argv[1] == "--warm":
        _load(sys.argv[3:])
        serve(socket.socket(fileno=int(sys.argv[2])))
        sys.exit(0)
    sys.exit(main(*sys.argv[1:]))
