"""The sweep: removes what dead runs left, and images that nobody has needed for long.

What is found by tag is judged by a pure function; nothing is removed that was not shown with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from images.aws import Aws
from images.builders.ec2_discard import unseen
from images.builders.ec2_inventory import Found, inventory
from images.builders.ec2_removal import Failure, remove
from images.channels import ManifestParts, delete_parameters, manifests
from images.clock import Clock
from images.errors import RunError
from images.references import references
from images.run import PARKED, PUBLISHED, forget_keys, is_held, open_run, run_ids

_LOOK_AGAIN_S = 10.0
MAX_AGE_S = 30 * 86_400.0


@dataclass(frozen=True)
class KnownRun:
    """A run as this machine's state directory shows it."""

    held: bool
    outcome: str
    """Empty after a crash, and while it goes on."""
    deadline: float


@dataclass(frozen=True)
class Facts:
    """All that the verdicts follow from."""

    now: float
    runs: Mapping[str, KnownRun] = field(default_factory=dict)
    named: frozenset[str] = frozenset()
    """Runs that the caller says are dead."""
    references: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Image id -> what refers to it."""
    max_age_s: float = MAX_AGE_S


@dataclass(frozen=True)
class Verdict:
    resource: Found
    keep: bool
    reason: str

    def __str__(self) -> str:
        return f"{'keep' if self.keep else 'delete'} {self.resource}: {self.reason}"


@dataclass(frozen=True)
class Plan:
    verdicts: tuple[Verdict, ...]
    manifests: tuple[ManifestParts, ...]
    """Of images that are not there, or go now."""

    @property
    def doomed(self) -> tuple[Found, ...]:
        return tuple(verdict.resource for verdict in self.verdicts if not verdict.keep)


def decide(found: Sequence[Found], facts: Facts) -> tuple[Verdict, ...]:
    """One verdict for each. Images first, for what hangs on a kept image is kept with it."""
    machines = [each for each in found if each.kind == "instance"]
    going = frozenset(each.id for each in machines if not _ours(each, facts).keep)
    images = {each.id: _image(each, facts, going) for each in found if each.kind == "image"}
    kept = [verdict.resource for verdict in images.values() if verdict.keep]
    images = {each.id: _copy(each, kept, images[each.id]) for each in found if each.id in images}
    snapshots = {
        snapshot for verdict in images.values() if verdict.keep for snapshot in verdict.resource.snapshots
    }
    return tuple(images.get(each.id) or _other(each, facts, snapshots) for each in found)


def _ours(resource: Found, facts: Facts) -> Verdict:
    """By whether its run may still need it."""
    known = facts.runs.get(resource.run)
    if known is not None and known.held:
        return Verdict(resource, True, "its run is going on")
    if resource.run in facts.named:
        return Verdict(resource, False, "its run was named")
    deadline = known.deadline if known is not None else resource.deadline
    if deadline is not None and facts.now > deadline:
        return Verdict(resource, False, "its run is past its deadline")
    if known is None:
        return Verdict(resource, True, "its run may be going on elsewhere; name the run to remove it")
    if known.outcome == PARKED:
        return Verdict(resource, True, "its run waits to be resumed; name the run to remove it")
    return Verdict(resource, False, f"its run {known.outcome or 'was killed'}")


def _image(image: Found, facts: Facts, going: frozenset[str]) -> Verdict:
    who = [each for each in facts.references.get(image.id, ()) if each.rpartition("/")[2] not in going]
    if who:
        return Verdict(image, True, f"referred to by {who[0]}")
    if not image.published:
        return _ours(image, facts)
    last_used = max(image.created or 0.0, image.last_launched or 0.0, image.published_at or 0.0)
    days = (facts.now - last_used) / 86_400
    if facts.now - last_used > facts.max_age_s:
        return Verdict(image, False, f"nothing refers to it, and it was last used {days:.0f} days ago")
    return Verdict(image, True, f"nothing refers to it, but it was used {days:.0f} days ago")


def _copy(image: Found, kept: Sequence[Found], own: Verdict) -> Verdict:
    """A copy goes with the image that it was made from."""
    if own.keep or not image.part.startswith("copy-"):
        return own
    original = next((each for each in kept if each.run == image.run and each.part == "image"), None)
    return own if original is None else Verdict(image, True, f"a copy of {original.id}, which is kept")


def _other(resource: Found, facts: Facts, snapshots: set[str]) -> Verdict:
    if resource.id in snapshots:
        return Verdict(resource, True, "an image that is kept stands on it")
    return _ours(resource, facts)


class Sweep:
    """Looks at and removes what bakes have left in some regions; channels are read in the first."""

    def __init__(
        self,
        regions: Sequence[Aws],
        runs: Path,
        clock: Clock,
        *,
        named: frozenset[str] = frozenset(),
        max_age_s: float = MAX_AGE_S,
    ) -> None:
        self._regions = regions
        self._runs = runs
        self._clock = clock
        self._named = named
        self._max_age_s = max_age_s

    def plan(self) -> Plan:
        """What would be removed and why; removes nothing. Raises RunError for a named run that goes on."""
        runs = self._known_runs()
        going = sorted(run_id for run_id in self._named if run_id in runs and runs[run_id].held)
        if going:
            raise RunError(f"run {going[0]} is going on", "interrupt it: it cleans up by itself")
        self._wait_until_seen(runs)
        found = [each for aws in self._regions for each in inventory(aws)]
        verdicts = decide(found, self._facts(found, runs))
        return Plan(verdicts, self._orphans(verdicts))

    def apply(self, plan: Plan) -> tuple[Failure, ...]:
        """Remove what the plan says. Returns what could not be removed, with the reason."""
        seen, plan = plan, self._looked_at_again(plan)
        needed = set(seen.doomed) - set(plan.doomed)
        failures = [Failure(each.resource, each.reason) for each in plan.verdicts if each.resource in needed]
        for aws in self._regions:
            doomed = [each for each in plan.doomed if each.region == aws.region]
            failures += remove(aws, doomed, self._clock)
        for orphan in plan.manifests:
            delete_parameters(self._regions[0], orphan.names)
        self._close_runs(plan, failures)
        return tuple(failures)

    def _looked_at_again(self, plan: Plan) -> Plan:
        """Without what channels or runs need by now: somebody was asked since, and may have taken hours."""
        if not plan.manifests and all(each.kind != "image" for each in plan.doomed):
            return plan
        found = [verdict.resource for verdict in plan.verdicts]
        now = decide(found, self._facts(found, self._known_runs()))
        verdicts = tuple(
            after if after.keep else before for before, after in zip(plan.verdicts, now, strict=True)
        )
        orphans = self._orphans(verdicts)
        return Plan(verdicts, tuple(each for each in plan.manifests if each in orphans))

    def _facts(self, found: Sequence[Found], runs: Mapping[str, KnownRun]) -> Facts:
        refers: dict[str, Sequence[str]] = {}
        for aws in self._regions:
            ids = [each.id for each in found if each.kind == "image" and each.region == aws.region]
            refers |= references(aws, ids)
        return Facts(self._clock.now(), runs, self._named, refers, self._max_age_s)

    def _known_runs(self) -> dict[str, KnownRun]:
        known = {}
        for run_id in run_ids(self._runs):
            try:
                run = open_run(self._runs, run_id, self._clock)
            except RunError:
                continue  # killed before it had made anything: its directory says nothing yet
            if run.builder != "ec2":
                continue
            held = is_held(run.directory)
            known[run_id] = KnownRun(held, run.ledger.outcome, run.deadline)
        return known

    def _wait_until_seen(self, runs: Mapping[str, KnownRun]) -> None:
        """EC2 may not show yet what a run made right before it was killed."""
        dead = [run_id for run_id, known in runs.items() if not known.held and known.outcome != PUBLISHED]
        for run_id in dead:
            ledger = open_run(self._runs, run_id, self._clock).ledger
            while unseen(ledger, self._clock.now(), keep_image=False):
                self._clock.sleep(_LOOK_AGAIN_S)

    def _orphans(self, verdicts: Sequence[Verdict]) -> tuple[ManifestParts, ...]:
        kept = {verdict.resource.id for verdict in verdicts if verdict.keep}
        needed = set(references(self._regions[0], []))
        return tuple(each for each in manifests(self._regions[0]) if each.image_id not in kept | needed)

    def _close_runs(self, plan: Plan, failures: Sequence[Failure]) -> None:
        """Let the ledgers of dead runs say what is gone, and remove their keys."""
        there = {verdict.resource.id for verdict in plan.verdicts if verdict.keep}
        there |= {failure.resource.id for failure in failures}
        for run_id, known in self._known_runs().items():
            if known.held or (known.outcome == PARKED and run_id not in self._named):
                continue
            run = open_run(self._runs, run_id, self._clock)
            for resource in run.ledger.standing:
                if resource.id not in there:
                    run.ledger.gone(resource.kind, resource.name)
            if not run.ledger.standing:
                forget_keys(run)
