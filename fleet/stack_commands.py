"""`goldenfleet preview`, `up` and `destroy`."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from fleet import options
from fleet.terminal import CANCELLED, FAILED, USAGE, one_ctrl_c, overrides, told_plainly

if TYPE_CHECKING:
    from fleet.deploy.outcome import Act, EngineName, Outcome
    from fleet.rehearsal.engine import Result, Step
    from fleet.rehearsal.engine.steps import OnStep

_NOTHING_MADE = "stopped; nothing was made"
_STOPPED = "stopped in order; what was made is in the state: run again, or destroy"
_PREVIEW = """\b
Examples:
  goldenfleet preview --stack prod
  goldenfleet preview --stack prod -c goldenfleet:logRetentionDays=30
  goldenfleet preview --stack prod --engine pulumi --expect-no-changes

\b
Exit codes: 0 done, 1 it failed, policies forbid it, or --expect-no-changes and there are some,
2 it cannot start as asked, 130 Ctrl-C.
"""
_UP = """\b
Examples:
  goldenfleet up --endpoint-url http://127.0.0.1:5000
  goldenfleet up --stack prod --engine pulumi

\b
Exit codes: 0 done, 1 it failed or policies forbid it, 2 it cannot start as asked,
8 it was not confirmed, 130 Ctrl-C.
"""
_DESTROY = """\b
Examples:
  goldenfleet destroy --endpoint-url http://127.0.0.1:5000
  goldenfleet destroy --stack dev --engine pulumi --yes --json

\b
Exit codes: 0 done, 1 it failed, 2 it cannot start as asked, 8 it was not confirmed, 130 Ctrl-C.
"""
_EMULATING = """\b
Examples:
  goldenfleet emulate
  goldenfleet emulate --stack prod --port 0

\b
Exit codes: 0 ended by Ctrl-C, 1 the port is taken, 2 the settings cannot be used.
"""


class _Engine(Protocol):
    def preview(self, on_step: OnStep) -> Result: ...
    def up(self, on_step: OnStep) -> Result: ...
    def destroy(self, on_step: OnStep) -> Result: ...


@dataclass(frozen=True)
class _Asked:
    stack: str
    """The one that was named, or the rehearsal's."""
    project: Path
    engine: str
    endpoint_url: str | None
    state: Path | None
    config: Mapping[str, str]
    as_json: bool

    @classmethod
    def by(cls, config: tuple[str, ...], *, stack: str | None, **asked: Any) -> _Asked:
        """Raises UsageError where the stack would have to be guessed on AWS."""
        from fleet.deploy.endpoint import on_this_machine

        endpoint_url = asked["endpoint_url"]
        if (
            stack is None
            and asked["engine"] == "pulumi"
            and not (endpoint_url and on_this_machine(endpoint_url))
        ):
            raise click.UsageError("on AWS no stack is guessed: give --stack NAME, or set GOLDENFLEET_STACK")
        return cls(stack=stack or options.REHEARSED, config=overrides(config), **asked)

    def make(self, *, twice: bool = False) -> _Engine:
        """`twice` says that the program will be run so often. Raises DeployError."""
        if self.engine == "pulumi":
            from fleet.deploy.pulumi_cli import PulumiCli

            return PulumiCli(self.project, self.stack, endpoint_url=self.endpoint_url, config=self.config)
        from fleet.deploy.rehearsed import engine
        from fleet.rehearsal.engine import WarmHost

        warm = click.get_current_context().with_resource(WarmHost()) if twice else None
        return engine(self.project, self.stack, self.endpoint_url, self.state, self.config, warm)

    def check_settings(self) -> None:
        """Before anything starts. Raises SettingsError; not for another's project, whose settings differ."""
        if self.has_policies:
            from fleet.stack.settings import load_settings

            load_settings(self.project, self.stack, self.config)

    def outcome(self, act: Act, result: Result) -> Outcome:
        """With what the policies say of it, which a person is told."""
        from fleet.deploy.judging import judge, told
        from fleet.deploy.outcome import Outcome

        evaluation = judge(self.project, self.stack, self.config, result)
        for line in [] if evaluation is None else told(evaluation):
            click.echo(line, err=True)
        found = getattr(result, "violations", ()) if evaluation is None else evaluation.violations
        return Outcome(act, self.stack, self._engine_name, result, found)

    @property
    def has_policies(self) -> bool:
        from fleet.deploy.judging import pack_of

        return pack_of(self.project) is not None

    def foresee(self, engine: _Engine) -> Outcome:
        """What `up` would do. Raises PoliciesForbidError where it must not."""
        from fleet.deploy.judging import refuse

        with self._telling("up"):
            foreseen = self.outcome("preview", engine.preview(_quiet))
            refuse(foreseen)
            return foreseen

    def show_judged(self, act: Act, result: Callable[[], Result]) -> Outcome:
        """Raises PoliciesForbidError, once it has been shown."""
        from fleet.deploy.judging import refuse

        with self._telling(act):
            outcome = self.outcome(act, result())
        self.show(outcome)
        refuse(outcome)
        return outcome

    @property
    def _engine_name(self) -> EngineName:
        return "pulumi" if self.engine == "pulumi" else "rehearsal"

    @contextmanager
    def _telling(self, act: Act) -> Iterator[None]:
        """With --json, what policies forbid is told by an object of the same shape, without steps."""
        from fleet.deploy.errors import DeployError
        from fleet.deploy.outcome import Outcome
        from fleet.rehearsal.engine import Result

        try:
            yield
        except DeployError as error:
            if self.as_json and error.violations:
                self.show(Outcome(act, self.stack, self._engine_name, Result((), {}, 0.0), error.violations))
            raise

    def show(self, outcome: Outcome) -> None:
        click.echo(json.dumps(outcome.as_json(), indent=2) if self.as_json else outcome.describe())
        sys.stdout.flush()


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    options.stack(
        "Whose Pulumi.NAME.yaml; by default GOLDENFLEET_STACK, "
        f"else {options.REHEARSED} on this machine, and none on AWS."
    ),
    options.project,
    click.option(
        "--engine",
        default="rehearsal",
        show_default=True,
        type=click.Choice(["rehearsal", "pulumi"]),
        help="Ours, for an emulated cloud on this machine, or Pulumi's own CLI.",
    ),
    click.option(
        "--endpoint-url", envvar="AWS_ENDPOINT_URL", metavar="URL", help="Of an emulated cloud, on 127.0.0.1."
    ),
    click.option(
        "--state",
        type=click.Path(dir_okay=False, path_type=Path),
        help="State of the rehearsal's engine; by default .goldenfleet/<stack>.json in the project.",
    ),
    options.changes,
    click.option("--json", "as_json", is_flag=True, help="The result as JSON."),
)


def _deploying(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command(epilog=_PREVIEW)
@_deploying
@click.option("--expect-no-changes", is_flag=True, help="Exit with 1 if anything would change.")
def preview(config: tuple[str, ...], expect_no_changes: bool, **asked: Any) -> None:
    """Show what `up` would do; without --endpoint-url, in an empty account. Makes nothing."""
    what = _Asked.by(config, **asked)
    with told_plainly(USAGE, _NOTHING_MADE):
        what.check_settings()
        act = _previewing(what)
    with told_plainly(FAILED, _NOTHING_MADE), one_ctrl_c():
        outcome = what.show_judged("preview", act)
    if expect_no_changes and outcome.changes:
        click.echo(f"goldenfleet: {outcome.changes} resources would change", err=True)
        sys.exit(FAILED)


@click.command(epilog=_UP)
@_deploying
@click.option("--yes", "-y", is_flag=True, help="Do it without asking. Policies are asked all the same.")
def up(config: tuple[str, ...], yes: bool, **asked: Any) -> None:
    """Make the cloud what the program says."""
    what = _Asked.by(config, **asked)
    with told_plainly(USAGE, _STOPPED):
        what.check_settings()
        engine = _checked(what, yes=yes, twice=not yes or what.has_policies)
    with told_plainly(FAILED, _STOPPED), one_ctrl_c():
        # Pulumi's CLI judges an `up` too, but each resource as its turn comes, when others are made.
        if not yes or what.has_policies:
            foreseen = what.foresee(engine)
            if not yes:
                what.show(foreseen)
                _confirm(f"Do this to stack {what.stack}?")
        what.show_judged("up", lambda: engine.up(_telling(what)))


@click.command(epilog=_DESTROY)
@_deploying
@click.option("--yes", "-y", is_flag=True, help="Do it without asking.")
def destroy(config: tuple[str, ...], yes: bool, **asked: Any) -> None:
    """Delete all that `up` made."""
    what = _Asked.by(config, **asked)
    with told_plainly(USAGE, _STOPPED):
        engine = _checked(what, yes=yes)
    with told_plainly(FAILED, _STOPPED), one_ctrl_c():
        if not yes:
            _confirm(f"Delete everything of stack {what.stack}?")
        what.show(what.outcome("destroy", engine.destroy(_telling(what))))


@click.command(epilog=_EMULATING)
@options.stack_rehearsed
@click.option(
    "--port", default=5000, type=click.IntRange(0, 65535), show_default=True, help="0 takes a free one."
)
@options.changes
@options.project
def emulate(stack: str, port: int, config: tuple[str, ...], project: Path) -> None:
    """Run an empty emulated AWS on this machine until Ctrl-C, to deploy to: no nodes run in it."""
    with told_plainly(USAGE, _STOPPED):
        from fleet.deploy.rehearsed import Nobody, empty_account
        from fleet.stack.settings import load_settings

        settings = load_settings(project, stack, overrides(config))
    with told_plainly(FAILED, _STOPPED), one_ctrl_c(), empty_account(settings, Nobody(), port) as url:
        click.echo(url)
        click.echo("It has nothing but the stack's images. Ctrl-C ends it.", err=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


def _previewing(what: _Asked) -> Callable[[], Result]:
    """Raises GoldenfleetError for what cannot be previewed as asked."""
    if what.engine == "pulumi" or what.endpoint_url:
        engine = what.make()
        return lambda: engine.preview(_quiet)
    from fleet.deploy.rehearsed import preview_on_nothing
    from fleet.stack.settings import load_settings

    settings = load_settings(what.project, what.stack, what.config)
    return lambda: preview_on_nothing(what.project, what.stack, what.config, settings, _quiet)


def _checked(what: _Asked, *, yes: bool, twice: bool = False) -> _Engine:
    if what.as_json and not yes:
        raise click.UsageError("--json needs --yes: a question has no place in it")
    return what.make(twice=twice)


def _confirm(question: str) -> None:
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        # Nobody there to ask, or Ctrl-C at the question.
        agreed = False
        click.echo(err=True)
    if not agreed:
        click.echo("goldenfleet: not confirmed, and nothing was done (--yes does not ask)", err=True)
        sys.exit(CANCELLED)


def _telling(what: _Asked) -> OnStep:
    """A line for each step as it ends, to a person who waits."""
    return _quiet if what.as_json or not sys.stderr.isatty() else _tell


def _tell(step: Step) -> None:
    from fleet.deploy.outcome import short_type

    if step.op != "same":
        click.echo(f"{step.elapsed:6.1f} s  {step.op:8}{short_type(step.type)}  {step.name}", err=True)


def _quiet(step: Step) -> None:
    del step
