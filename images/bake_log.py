"""The log of a run: every command with its output and time, and never a secret."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from images.clock import Clock
from images.errors import RemoteError
from images.remote import Output, Remote
from images.steps import Command, Upload


class Log:
    """Appends to a file; a command's secret is in its stdin alone, which is not logged."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock

    def step(self, name: str) -> None:
        self._write(f"== {name}")

    def run(self, remote: Remote, command: Command) -> Output:
        """Raises RemoteError, after logging it."""
        started = self._clock.now()
        self._write(f"$ {command.line}")
        try:
            output = remote.run(command)
        except RemoteError as error:
            self._write(f"! {type(error).__name__}" if command.secret else f"! {error}")
            raise
        self._write(f"exit {output.exit} after {self._clock.now() - started:.1f} s")
        if not command.secret:
            for text in (output.stdout, output.stderr):
                self._write(text.rstrip("\n"))
        return output

    def put(self, remote: Remote, upload: Upload) -> None:
        self._write(f"put {upload.source.name} at {upload.target}")
        remote.put(upload)

    def _write(self, text: str) -> None:
        if not text:
            return
        at = datetime.fromtimestamp(self._clock.now(), UTC).strftime("%H:%M:%S")
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(f"{at} {line}\n" for line in text.split("\n"))
