"""Runs a Pulumi program in this process, as the CLI's `pulumi-language-python-exec` does.

That script comes with the CLI and not with the SDK, so that this stands for it. It is run by its path, and
imports nothing of ours: the program gets the interpreter that it would get from Pulumi.
"""

import asyncio
import logging
import os
import runpy
import sys
import threading
import traceback

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


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
