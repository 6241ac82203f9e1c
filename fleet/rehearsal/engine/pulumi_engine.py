"""Preview, up and destroy of a Pulumi project without Pulumi's CLI."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from fleet.rehearsal.engine.deployment import Deployment, Run
from fleet.rehearsal.engine.errors import ProgramError, ProjectError
from fleet.rehearsal.engine.program import Ended, run_program
from fleet.rehearsal.engine.project import Project, load_project
from fleet.rehearsal.engine.providers import Defaults, default_tags
from fleet.rehearsal.engine.service import Engine, Monitor, serving
from fleet.rehearsal.engine.state import State, digest_key, locked
from fleet.rehearsal.engine.steps import OnStep, Result, Step
from fleet.rehearsal.engine.transforms import Transforms
from fleet.rehearsal.engine.values import Redactor
from fleet.rehearsal.engine.warm import WarmHost
from fleet.rehearsal.resources import Aws
from fleet.rehearsal.resources.errors import ResourceError

_TRACEBACK_LINES = 12
_EPHEMERAL_KEY_BYTES = 32
_DEFAULT_TAGS = "aws:defaultTags"


def _quiet(step: Step) -> None:
    del step


class PulumiEngine:
    """Applies the project's program, unmodified, to the AWS at `endpoint_url` (None: the real one).

    `config` overrides keys of the stack's file, with or without the project's name before them. Beside
    `state_file` stand a lock and the key of the digests that it holds for secrets. A `warm` host spares
    all runs but its first the imports.
    """

    def __init__(
        self,
        project: Path,
        stack: str,
        *,
        endpoint_url: str | None,
        state_file: Path,
        region: str = "us-east-1",
        config: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        warm: WarmHost | None = None,
    ) -> None:
        self._folder, self._stack, self._state_file = project, stack, state_file
        self._config = {**(config or {}), "aws:region": region}
        self._endpoint, self._clock, self._warm = endpoint_url, clock, warm
        self._aws = Aws(endpoint_url, region)

    def preview(self, on_step: OnStep = _quiet) -> Result:
        """The steps that `up` would take. Makes nothing. Raises DeploymentError."""
        return self._apply(on_step, dry_run=True)

    def up(self, on_step: OnStep = _quiet) -> Result:
        """Make AWS what the program says. Raises DeploymentError; what was made is in the state."""
        return self._apply(on_step, dry_run=False)

    def destroy(self, on_step: OnStep = _quiet) -> Result:
        """Delete all that the state tells of, dependents first. Raises DeploymentError."""
        project = load_project(self._folder, self._stack, self._config)
        with locked(self._state_file):
            state = State(self._state_file, self._endpoint)
            start = self._clock()
            deployment = Deployment(
                self._run(project, on_step, b"", dry_run=False), self._aws, state, Redactor()
            )
            deployment.delete([*state.records, *state.replaced])
            return Result(tuple(deployment.steps), {}, self._clock() - start)

    def _apply(self, on_step: OnStep, *, dry_run: bool) -> Result:
        project = load_project(self._folder, self._stack, self._config)
        with locked(self._state_file):
            state, redactor, start = State(self._state_file, self._endpoint), Redactor(), self._clock()
            run = self._run(project, on_step, self._key(dry_run=dry_run), dry_run=dry_run)
            deployment = Deployment(run, self._aws, state, redactor)
            engine = Engine(redactor)
            transforms = Transforms(project.name, project.stack)
            with closing(transforms), serving(Monitor(deployment, transforms), engine) as address:
                ended = run_program(project, address, self._warm, dry_run=dry_run)
            _raise_failure(deployment, engine, ended, redactor)
            deployment.finish()
            seconds, declared = self._clock() - start, tuple(deployment.declared)
            return Result(tuple(deployment.steps), deployment.exports, seconds, declared)

    def _run(self, project: Project, on_step: OnStep, key: bytes, *, dry_run: bool) -> Run:
        return Run(project.name, project.stack, dry_run, key, self._clock, on_step, _defaults(project))

    def _key(self, *, dry_run: bool) -> bytes:
        """A preview before the first `up` compares with nothing and leaves nothing."""
        fresh = dry_run and not self._state_file.exists()
        return secrets.token_bytes(_EPHEMERAL_KEY_BYTES) if fresh else digest_key(self._state_file)


def _defaults(project: Project) -> Defaults:
    """Of the default provider, which a stack's file configures."""
    try:
        return default_tags(project.config.get(_DEFAULT_TAGS))
    except ResourceError as exc:
        raise ProjectError(f"configuration {_DEFAULT_TAGS}: {exc.message}", exc.hint) from exc


def _raise_failure(deployment: Deployment, engine: Engine, ended: Ended, redactor: Redactor) -> None:
    """A resource's error first: the program's own is then only its echo."""
    if deployment.failure is not None:
        raise deployment.failure
    if ended.code == 0 and not engine.errors:
        return
    told = "\n".join(engine.errors).strip() or redactor(ended.tail).strip() or "it said nothing"
    lines = told.splitlines()[-_TRACEBACK_LINES:]
    if engine.errors and not any(line.startswith("Traceback") for line in lines):
        # A RunError: the program's own words, which say what to do.
        raise ProgramError("the stack cannot be made so:\n" + "\n".join(lines), "Nothing was deleted.")
    how = f"was ended by signal {-ended.code}" if ended.code < 0 else "failed"
    raise ProgramError(
        f"the Pulumi program {how}:\n" + "\n".join(lines), "Correct the program; nothing was deleted."
    )
