"""The tutorial, done by somebody who has a kept rehearsal in another terminal."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.docs.snippets import Reader, read

CHECKOUT = Path(__file__).parents[2]
PAGE = CHECKOUT / "docs" / "tutorial.md"
BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def kept(home: Path, environment: dict[str, str]) -> Iterator[None]:
    """The first block's command, small. What it says goes into a file: nobody reads a pipe."""
    options = ["--interrupt", "none", "--keep", "--clients", "4", "--duration", "1"]
    options += ["--port", str(free_port())]
    argv = [str(BIN / "goldenfleet"), "rehearse", *options, "--run-dir", str(home / "run")]
    with (home / "said").open("w") as said:
        process = subprocess.Popen(argv, env=environment, stdout=said, stderr=said)
    try:
        _until_kept(process, home / "said")
        yield
        process.send_signal(signal.SIGTERM)
        assert process.wait(90) == 0, (home / "said").read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(30)


def _until_kept(process: subprocess.Popen[bytes], said: Path) -> None:
    """Until it says that it stays."""
    tail = ["timeout", "150", "tail", f"--pid={process.pid}", "-n", "+1", "-F", str(said)]
    with subprocess.Popen(tail, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as lines:
        assert lines.stdout is not None
        found = any("The fleet goes on at" in line for line in lines.stdout)
        lines.kill()
    assert found, said.read_text()


def test_the_tutorial_does_what_it_says() -> None:
    """Every block but those that need AWS: ask, look, drain, interrupt, load, check, price, preview, plan."""
    # Not pytest's own folder: an emulated AWS keeps sockets there, whose paths may have 107 bytes only.
    with tempfile.TemporaryDirectory(prefix="tutorial-") as name:
        home = Path(name)
        environment = {
            "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        with kept(home, {**os.environ, **environment}):
            reader = Reader(environment, home)
            for block in read(PAGE):
                if block.skipped is None:
                    reader.follow(block)
