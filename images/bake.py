"""A bake: recipe -> machine -> steps -> image -> fresh boot -> checks -> channel, on any builder alike.

Every stage that is done stands in the run's ledger; resuming goes on with the first one that is not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from images.bake_log import Log
from images.builders import Booted, Builder, Image
from images.checks import refuse_failures, run_checks, wait_ready
from images.clock import Clock, SystemClock
from images.errors import (
    BuilderError,
    CheckFailed,
    CommandFailed,
    ImagesError,
    LeftBehind,
    RunError,
    WaitTimedOut,
)
from images.manifest import CheckPart, ImagePart, Manifest, SbomPart, describe, read
from images.materials import complete
from images.plan import plan
from images.recipe import Recipe
from images.remote import Remote
from images.run import MADE, PARKED, PUBLISHED, Run, held, new_run, open_run
from images.sbom import digest as sbom_digest
from images.sbom import sbom
from images.steps import NamedStep, Upload
from images.steps.command import Strategy
from images.steps.inventory import ask, parse
from images.steps.order import finish, on_node, provision, record

T = TypeVar("T")
OnError = Literal["cleanup", "abort", "ask"]

READY_LIMIT_S = 1800.0
"""From launch to ready; large models load for long."""
_NODE_PORT = 8080
_MANIFEST, _SBOM = "manifest.json", "sbom.cdx.json"


@dataclass(frozen=True)
class Progress:
    step: str
    state: Literal["started", "done", "failed"]
    seconds: float = 0
    """How long the step has taken."""


@dataclass(frozen=True)
class Inspection:
    """What a fresh node has shown."""

    checks: tuple[CheckPart, ...]
    ready_after_s: float


class Publisher(Protocol):
    """Where images are published; `images.channels.Channels` on AWS."""

    def publish(
        self, recipe: str, image: Image, manifest: bytes, why: str, *, boot_seconds: float | None = None
    ) -> object: ...

    def has_held(self, recipe: str, image_id: str) -> bool: ...

    def forget(self, image_id: str) -> None:
        """Remove what was written for an image that is not published after all."""
        ...


def inspect_node(recipe: Recipe, booted: Booted) -> Inspection:
    """Wait until the node is ready and put the golden checks to it.

    Raises CheckFailed, and MachineFailed as soon as it is known that the node is gone.
    """
    url = f"http://{booted.address}:{booted.ports[_NODE_PORT]}"
    ready_after_s = wait_ready(url, deadline_s=READY_LIMIT_S, pause=booted.pause)
    results = run_checks(url, recipe.checks, model=recipe.engine.model if recipe.engine else None)
    refuse_failures(results)
    return Inspection(
        tuple(CheckPart(name=found.name, seconds=found.seconds) for found in results), ready_after_s
    )


@dataclass(frozen=True)
class Options:
    publisher: Publisher | None = None
    """None publishes nothing."""
    on_step: Callable[[Progress], None] = lambda _: None
    on_error: OnError = "cleanup"
    ask: Callable[[ImagesError], Literal["cleanup", "abort"]] = lambda _: "cleanup"
    """For on_error = ask."""
    inspect: Callable[[Recipe, Booted], Inspection] = inspect_node
    on_run: Callable[[Run], None] = lambda _: None
    """Told once which run it is, before anything is made."""


def bake(
    recipe: Recipe,
    builder: Builder,
    *,
    runs: Path,
    stack: str,
    options: Options,
    clock: Clock | None = None,
    rng: random.Random | None = None,
) -> Manifest:
    """Bake, check and publish. Raises PlanRefused before anything is made, else any ImagesError.

    WaitTimedOut leaves the run to be resumed. On KeyboardInterrupt everything is removed first; a second one
    raises LeftBehind with what is left.
    """
    plan(recipe, on=builder.name)
    rng = rng or random.SystemRandom()
    run = new_run(runs, recipe, stack, clock or SystemClock(), rng, builder.name)
    with held(run):
        return _Bake(run, builder, options).go()


def resume(
    run_id: str, builder: Builder, *, runs: Path, options: Options, clock: Clock | None = None
) -> Manifest:
    """Go on with a run at the stage that its ledger and the builder show. Raises RunError, and as `bake`."""
    run = open_run(runs, run_id, clock or SystemClock())
    with held(run):
        if run.ledger.outcome not in ("", PARKED):
            raise RunError(f"run {run_id} {run.ledger.outcome}", "start a new bake")
        if run.builder != builder.name:
            raise RunError(f"run {run_id} was begun on {run.builder}", f"resume it with --on {run.builder}")
        return _Bake(run, builder, options).go()


class _Bake:
    def __init__(self, run: Run, builder: Builder, options: Options) -> None:
        self._run = run
        self._builder = builder
        self._options = options
        self._log = Log(run.directory / "steps.log", run.clock)

    def go(self) -> Manifest:
        self._options.on_run(self._run)
        try:
            return self._make()
        except WaitTimedOut:
            self._run.ledger.ended(PARKED)
            raise
        except ImagesError as error:
            self._after(error)
            raise
        except KeyboardInterrupt as interrupt:
            self._undo(interrupt)
            raise

    def _make(self) -> Manifest:
        run, builder = self._run, self._builder
        if run.ledger.stage_done("clean") is None:
            self._prepare()
        image = self._timed("make the image", lambda: builder.image(run))
        if run.ledger.stage_done("checked") is None:
            self._check(image)
        image = self._timed("release the image", lambda: builder.release(run, image))
        self._timed("remove the machines", lambda: builder.discard(run, keep_image=True))
        manifest = self._finished(image)
        if self._options.publisher is not None:
            self._publish(self._options.publisher, image, manifest)
        run.ledger.ended(PUBLISHED if self._options.publisher else MADE)
        return manifest

    # --- the machine

    def _prepare(self) -> None:
        remote = self._timed("start a machine", lambda: self._builder.start(self._run))
        try:
            self._provision(remote)
        finally:
            remote.close()

    def _provision(self, remote: Remote) -> None:
        run, recipe = self._run, self._run.recipe
        facts = remote.facts()
        strategy = self._strategy()
        materials = complete(self._builder.materials(run), recipe, strategy)
        for step in provision(recipe, facts, materials):
            self._do(remote, step)
        inventory = parse(remote.run(ask(recipe, facts)).stdout, recipe)
        made_at = datetime.fromtimestamp(run.ledger.entries[0].at, UTC)
        bill = sbom(recipe, facts, inventory, run_id=run.id, made_at=made_at)
        manifest = describe(
            recipe,
            facts,
            inventory,
            run_id=run.id,
            made_at=made_at.isoformat(timespec="seconds"),
            base=self._builder.base(run),
            strategy=strategy,
            sbom=SbomPart(path=_SBOM, sha256=sbom_digest(bill)),
        )
        run.write(_SBOM, bill)
        run.write(_MANIFEST, manifest.to_json().encode())
        for step in record(manifest.model_dump(mode="json"), bill):
            self._do(remote, step)
        for command in self._builder.closing():
            self._log.run(remote, command)
        *cleaning, cut = finish(recipe, facts, materials)
        for step in cleaning:
            self._do(remote, step)
        # Before the way in is cut: afterwards nobody can look whether the rest was done.
        run.ledger.stage("clean")
        self._do(remote, cut)

    def _strategy(self) -> Strategy | None:
        return plan(self._run.recipe, on=self._builder.name).strategy

    def _do(self, remote: Remote, step: NamedStep) -> None:
        with self._shown(step.name):
            for action in step.actions:
                if isinstance(action, Upload):
                    self._log.put(remote, action)
                else:
                    self._log.run(remote, action)

    # --- the image

    def _check(self, image: Image) -> None:
        run, builder = self._run, self._builder
        booted = self._timed("boot a fresh node", lambda: builder.boot(run, image))
        try:
            asked_at = run.clock.now()
            found = self._timed("put the checks to it", lambda: self._options.inspect(run.recipe, booted))
            self._look_at_weights(booted)
            forbidden = self._timed("search its disk", lambda: builder.forbidden(run, image, booted))
        finally:
            if booted.remote is not None:
                booted.remote.close()
        if forbidden:
            raise CheckFailed(
                "on the image's disk is what must not be there:\n" + "\n".join(forbidden),
                "nothing was published; correct the recipe's steps",
            )
        booting = None if booted.asked_at is None else asked_at - booted.asked_at + found.ready_after_s
        run.ledger.stage("checked", checks=[part.model_dump() for part in found.checks], boot_seconds=booting)

    def _look_at_weights(self, booted: Booted) -> None:
        """Where they lie on a volume of their own: as every node will have them. Raises CheckFailed."""
        if booted.remote is None:
            return
        for step in on_node(self._run.recipe, self._strategy()):
            try:
                self._do(booted.remote, step)
            except CommandFailed as error:
                hint = "nothing was published; look at evidence/console-node.log"
                raise CheckFailed(f"the fresh node's weights: {error.message}", hint) from error

    def _finished(self, image: Image) -> Manifest:
        """The manifest with all that is known only now, kept in the run directory."""
        checked = self._run.ledger.stage_done("checked")
        details = checked.details if checked is not None else {}
        parts = {key: value for key, value in asdict(image).items() if key in ImagePart.model_fields}
        manifest = read(self._run.directory / _MANIFEST).model_copy(
            update={
                "image": ImagePart.model_validate(parts),
                "checks": tuple(CheckPart.model_validate(part) for part in details.get("checks", ())),
                "boot_seconds": details.get("boot_seconds"),
            }
        )
        self._run.write(_MANIFEST, manifest.to_json().encode())
        return manifest

    def _publish(self, publisher: Publisher, image: Image, manifest: Manifest) -> None:
        run = self._run
        run.ledger.stage("publishing", image_id=image.id)
        content = manifest.to_json().encode()
        why = f"published by run {run.id}"
        booting = manifest.boot_seconds
        self._timed(
            "publish",
            lambda: publisher.publish(run.recipe.name, image, content, why, boot_seconds=booting),
        )

    # --- when it fails

    def _after(self, error: ImagesError) -> None:
        wanted = self._options.on_error
        try:
            self._keep_evidence(error)
            if (self._options.ask(error) if wanted == "ask" else wanted) == "abort":
                self._run.ledger.ended(PARKED)
                return
        except KeyboardInterrupt as interrupt:
            self._undo(interrupt)
            raise
        self._undo(error)

    def _undo(self, cause: BaseException) -> None:
        """Remove everything, unless the image is published already: then it stays."""
        said = f"{cause.message}\nand then: " if isinstance(cause, ImagesError) else ""
        try:
            with self._shown("clean up"):
                published = self._withdrawn()
                self._builder.discard(self._run, keep_image=published)
            self._run.ledger.ended(PUBLISHED if published else "failed")
        except BuilderError as error:
            raise LeftBehind(f"{said}{error.message}", error.hint) from cause
        except KeyboardInterrupt:
            left = "\n".join(self._builder.left(self._run)) or "nothing"
            again = f"remove it: images sweep --run {self._run.id}"
            raise LeftBehind(f"interrupted again; what is left:\n{left}", again) from cause

    def _withdrawn(self) -> bool:
        """Whether the channel has held our image; if not, nothing of it stays beside the channel either."""
        publishing = self._run.ledger.stage_done("publishing")
        publisher = self._options.publisher
        if publishing is None or publisher is None:
            return False
        image_id = str(publishing.details["image_id"])
        if publisher.has_held(self._run.recipe.name, image_id):
            return True
        publisher.forget(image_id)
        return False

    def _keep_evidence(self, error: ImagesError) -> None:
        self._run.write("evidence/error.txt", f"{type(error).__name__}: {error}\n".encode())
        try:
            found = self._builder.evidence(self._run)
        except BuilderError as missing:
            found = {"missing.txt": str(missing).encode()}
        for name, content in found.items():
            self._run.write(f"evidence/{name}", content)

    # --- progress

    def _timed(self, name: str, action: Callable[[], T]) -> T:
        with self._shown(name):
            return action()

    @contextmanager
    def _shown(self, name: str) -> Iterator[None]:
        started = self._run.clock.now()
        state: Literal["done", "failed"] = "failed"
        self._options.on_step(Progress(name, "started"))
        self._log.step(name)
        try:
            yield
            state = "done"
        finally:
            self._options.on_step(Progress(name, state, self._run.clock.now() - started))
