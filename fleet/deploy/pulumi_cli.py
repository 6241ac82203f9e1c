"""Preview, up and destroy by Pulumi's own CLI."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import yaml

from fleet.deploy.errors import PulumiFailedError, PulumiMissingError
from fleet.deploy.events import Account
from fleet.deploy.judging import pack_of
from fleet.policy.evaluate import Violation
from fleet.rehearsal.engine import Result
from fleet.rehearsal.engine.steps import OnStep

_LOOK_SECONDS = 0.2
_TAIL_LINES = 12

# The provider asks AWS for accounts and regions that an emulated cloud does not have.
_EMULATED_CONFIG = {
    "aws:s3UsePathStyle": True,
    "aws:skipCredentialsValidation": True,
    "aws:skipMetadataApiCheck": True,
}


@dataclass(frozen=True)
class PulumiResult(Result):
    violations: tuple[Violation, ...] = ()
    """Of advisory policies."""


class PulumiCli:
    """Runs the `pulumi` of the PATH in the project's folder.

    Its backend, passphrase and credentials come from the environment, as ever. `config` replaces whole keys
    of the stack's file for this run; the file itself stays as it is. `endpoint_url` is of an emulated cloud,
    and None for AWS.
    """

    def __init__(
        self,
        project: Path,
        stack: str,
        *,
        endpoint_url: str | None = None,
        config: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises PulumiMissingError."""
        self._executable = _executable()
        self._project, self._stack, self._clock = project.resolve(), stack, clock
        self._endpoint = endpoint_url
        self._config: dict[str, Any] = {key: _decoded(value) for key, value in (config or {}).items()}

    def preview(self, on_step: OnStep) -> Result:
        """Raises PulumiFailedError, as the others do."""
        return self._run(["preview"], on_step)

    def up(self, on_step: OnStep) -> Result:
        return self._run(["up", "--yes", "--skip-preview"], on_step)

    def destroy(self, on_step: OnStep) -> Result:
        return self._run(["destroy", "--yes", "--skip-preview"], on_step)

    def _run(self, words: Sequence[str], on_step: OnStep) -> Result:
        start = self._clock()
        account = Account(planning=words[0] == "preview")
        with tempfile.TemporaryDirectory(prefix="goldenfleet-pulumi-") as name:
            folder = Path(name)
            said = folder / "said.txt"
            code = self._follow(self._command(words, folder), folder, said, account, on_step)
            if code != 0 or account.errors:
                raise self._failed(words[0], code, account, said)
        seconds = self._clock() - start
        return PulumiResult(
            tuple(account.steps), account.outputs, seconds, violations=tuple(account.violations)
        )

    def _command(self, words: Sequence[str], folder: Path) -> list[str]:
        options = ["--stack", self._stack, "--non-interactive", "--color", "never"]
        options += ["--event-log", str(folder / "events.jsonl")]
        pack = pack_of(self._project)
        if pack is not None and words[0] != "destroy":
            options += ["--policy-pack", str(pack)]
        config = {**(_EMULATED_CONFIG if self._endpoint else {}), **self._config}
        if config:
            options += ["--config-file", str(self._with_config(folder, config))]
        return [self._executable, *words, *options]

    def _with_config(self, folder: Path, config: Mapping[str, Any]) -> Path:
        """A copy of the stack's file: pulumi's own --config would write into it."""
        name = f"Pulumi.{self._stack}.yaml"
        given = self._project / name
        document = (yaml.safe_load(given.read_text(encoding="utf-8")) if given.is_file() else None) or {}
        document["config"] = {**(document.get("config") or {}), **config}
        (folder / name).write_text(yaml.safe_dump(document), encoding="utf-8")
        return folder / name

    def _follow(
        self, command: Sequence[str], folder: Path, said: Path, account: Account, on_step: OnStep
    ) -> int:
        log, start = folder / "events.jsonl", self._clock()
        log.touch()
        with said.open("w") as output, log.open() as events, self._running(command, output) as process:
            partial, ended = "", False
            while not ended:
                ended = _ended(process)
                partial += events.read()
                *lines, partial = partial.split("\n")
                for line in filter(None, lines):
                    step = account.take(line, self._clock() - start)
                    if step is not None:
                        on_step(step)
            return process.returncode

    @contextmanager
    def _running(self, command: Sequence[str], output: IO[str]) -> Iterator[subprocess.Popen[bytes]]:
        """In a session of its own, so that Ctrl-C comes to it once, from here: a second one would kill it."""
        process = subprocess.Popen(
            command,
            cwd=self._project,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                # It ends what it has begun, writes its state, and goes.
                process.send_signal(signal.SIGINT)
                process.wait()

    def _environment(self) -> dict[str, str]:
        # Without the second Pulumi does not know --event-log (pkg/cmd/pulumi/operations).
        environment = {
            **os.environ,
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DEBUG_COMMANDS": "true",
        }
        if self._endpoint:
            environment["AWS_ENDPOINT_URL"] = self._endpoint
            environment.setdefault("AWS_ACCESS_KEY_ID", "test")
            environment.setdefault("AWS_SECRET_ACCESS_KEY", "test")
        return environment

    def _failed(self, act: str, code: int, account: Account, said: Path) -> PulumiFailedError:
        tail = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-_TAIL_LINES:]
        mandatory = [str(each) for each in account.violations if each.level == "mandatory"]
        told = [*account.errors, *mandatory] or tail or ["it said nothing"]
        message = f"pulumi {act} failed (exit code {code}):\n" + "\n".join(told)
        return PulumiFailedError(message, _HINT, tuple(account.violations))


_HINT = "What was made is in pulumi's state: correct it, and run again. docs/pulumi.md tells what it needs."


def _executable() -> str:
    found = shutil.which("pulumi")
    if found is None:
        raise PulumiMissingError(
            "there is no pulumi on the PATH",
            "Install it (https://www.pulumi.com/docs/install/), or leave --engine out for the rehearsal's.",
        )
    return found


def _ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(_LOOK_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def _decoded(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value
