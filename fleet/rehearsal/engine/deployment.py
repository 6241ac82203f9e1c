"""One run of the program: every registration planned, applied and written down."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from fleet.errors import GoldenfleetError
from fleet.rehearsal.engine.diff import Plan, deletion_order, keep_ignored, plan
from fleet.rehearsal.engine.errors import ResourceFailedError
from fleet.rehearsal.engine.provider import Provider, Target, physical_name
from fleet.rehearsal.engine.providers import NO_DEFAULTS, Defaults, provider_defaults, with_default_tags
from fleet.rehearsal.engine.state import Record, State
from fleet.rehearsal.engine.steps import Declared, OnStep, Step
from fleet.rehearsal.engine.urns import STACK_TYPE, urn_of
from fleet.rehearsal.engine.values import Redactor, Secret, hide, known, reveal, seal
from fleet.rehearsal.resources import UNKNOWN, Aws, Handler, answer, handler_of
from fleet.rehearsal.resources.aws import code_of
from fleet.rehearsal.resources.errors import ArgumentRefusedError, ResourceError

_PROVIDER_PREFIX = "pulumi:providers:"
_TOKEN_BYTES = 8
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Registration:
    """What the program says of one resource; values are plain, Secret or UNKNOWN."""

    type: str
    name: str
    parent: str
    custom: bool
    inputs: Mapping[str, Any]
    dependencies: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    ignore_changes: tuple[str, ...] = ()
    replace_on_changes: tuple[str, ...] = ()
    secret_outputs: tuple[str, ...] = ()
    import_id: str = ""
    protect: bool = False
    retain: bool = False
    delete_before_replace: bool = False
    provider: str = ""
    """URN and id of a provider that the program made; empty for the default one."""
    references: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Argument -> URNs of the resources that its value comes from."""


@dataclass(frozen=True)
class Registered:
    urn: str
    id: str = ""
    """Empty while it is not known."""
    outputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """What a run is made with."""

    project: str
    stack: str
    dry_run: bool
    key: bytes
    """Of the digests that stand for secrets in the state."""
    clock: Callable[[], float]
    on_step: OnStep
    defaults: Defaults = NO_DEFAULTS
    """Of the default provider."""
    token: Callable[[], str] = lambda: secrets.token_hex(_TOKEN_BYTES)


class Deployment:
    """Takes registrations from several threads; each waits only for AWS, and while the state is written."""

    def __init__(self, run: Run, aws: Aws, state: State, redactor: Redactor) -> None:
        self.steps: list[Step] = []
        self.declared: list[Declared] = []
        self.exports: dict[str, Any] = {}
        self.failure: GoldenfleetError | None = None
        self._run, self._aws, self._state, self._redactor = run, aws, state, redactor
        self._provider = Provider(aws, state, redactor)
        self._start = run.clock()
        self._left = state.replaced
        self._seen: set[str] = set()
        self._defaults: dict[str, Defaults] = {}
        self._lock = Lock()

    def register(self, registration: Registration) -> Registered:
        """Raises ResourceFailedError; then nothing more is made in this run."""
        return self._ending_the_run(registration, lambda: self._register(registration))

    def read(self, registration: Registration, identity: str) -> Registered:
        """What exists already and is not the program's; `identity` is empty while it is not known.

        Raises ResourceFailedError; then nothing more is made in this run.
        """
        return self._ending_the_run(registration, lambda: self._read(registration, identity))

    def fail(self, error: GoldenfleetError) -> None:
        """Only the first error counts: those after it follow from it."""
        with self._lock:
            self.failure = self.failure or error

    def invoke(self, token: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Raises ResourceError, or botocore's errors as ResourceFailedError."""
        self._redactor.learn(arguments)
        try:
            result = answer(self._aws, token, reveal(arguments))
        except (ClientError, BotoCoreError) as exc:
            raise ResourceFailedError(f"{token}: {self._told(exc)}") from exc
        return {key: value for key, value in result.items() if value is not None}

    def register_outputs(self, urn: str, outputs: Mapping[str, Any]) -> None:
        self._redactor.learn(outputs)
        if f"::{STACK_TYPE}::" in urn:
            self.exports = dict(sorted(known(hide(outputs)).items()))

    def finish(self) -> None:
        """Delete what the program has no more, once it has ended well."""
        gone = [record for record in self._state.records if record.urn not in self._seen]
        self.delete([*self._left, *gone], [r for r in self._state.replaced if r not in self._left])

    def delete(self, records: Sequence[Record], replaced: Sequence[Record] = ()) -> None:
        """Delete both; of `replaced` ones their replacements' steps have told already.

        Raises ResourceFailedError before the first deletion if one of them is protected.
        """
        for record in records:
            self._refuse_protected(record)
        for record in deletion_order([*replaced, *records]):
            if not self._run.dry_run:
                self._delete(record)
                self._state.drop(record)
            if record not in replaced:
                self._step(Plan("delete"), record)

    def _ending_the_run(self, registration: Registration, work: Callable[[], Registered]) -> Registered:
        self._redactor.learn(registration.inputs)
        try:
            return work()
        except GoldenfleetError as exc:
            self.fail(exc)
            raise

    def _read(self, registration: Registration, identity: str) -> Registered:
        urn = self._urn(registration)
        self._claim(urn, registration)
        parent, needed = registration.parent, registration.dependencies
        record = Record(
            urn, registration.type, registration.name, True, parent, dependencies=needed, external=True
        )
        found = self._asked(registration, lambda: _found(self._aws, registration, identity))
        record = replace(record, id=identity, outputs=found)
        if not self._run.dry_run:
            self._state.put(record)
        self._step(Plan("read"), record)
        return Registered(urn, identity, self._outputs(registration, record, registration.inputs))

    def _register(self, registration: Registration) -> Registered:
        urn = self._urn(registration)
        self._claim(urn, registration)
        self._declare(urn, registration)
        record = Record(
            urn,
            registration.type,
            registration.name,
            registration.custom,
            registration.parent,
            dependencies=registration.dependencies,
            protect=registration.protect,
            retain=registration.retain,
        )
        old = self._old(urn, registration)
        if not registration.custom or _is_provider(registration.type):
            return self._note(registration, record, old)
        return self._asked(registration, lambda: self._apply(registration, record, old))

    def _urn(self, of: Registration) -> str:
        return urn_of(self._run.project, self._run.stack, of.parent, of.type, of.name)

    def _claim(self, urn: str, registration: Registration) -> None:
        with self._lock:
            if self.failure is not None:
                raise self._failed(registration, "not begun, for the run has failed", "See the first error.")
            if urn in self._seen:
                raise self._failed(
                    registration, f"the program has it twice ({urn})", "Give each resource its own name."
                )
            self._seen.add(urn)

    def _declare(self, urn: str, of: Registration) -> None:
        with self._lock:
            self.declared.append(Declared(of.type, of.name, urn, hide(of.inputs), of.references))

    def _old(self, urn: str, registration: Registration) -> Record | None:
        old = self._state.get(urn)
        if old is not None:
            return None if old.external else old
        renamed = (self._state.get(alias) for alias in registration.aliases)
        found = next((record for record in renamed if record is not None), None)
        if found is None:
            return None
        moved = replace(found, urn=urn, name=registration.name, parent=registration.parent)
        if self._run.dry_run:
            self._seen.add(found.urn)
        else:
            self._state.rename(found.urn, moved)
        return moved

    def _note(self, registration: Registration, record: Record, old: Record | None) -> Registered:
        """Components and providers exist in the state only."""
        if registration.custom:
            record = replace(record, id=old.id if old else self._run.token())
            self._defaults[f"{record.urn}::{record.id}"] = self._provider_defaults(registration)
        if not self._run.dry_run:
            self._state.put(record)
        self._step(Plan("same" if old else "create"), record)
        return Registered(record.urn, record.id)

    def _apply(self, registration: Registration, record: Record, old: Record | None) -> Registered:
        handler = handler_of(registration.type)
        inputs = self._inputs(registration, old, handler)
        handler.check(self._aws, reveal(inputs))
        sealed = seal(inputs, self._run.key)
        decided = plan(handler, old, sealed, registration.replace_on_changes)
        if decided.op == "replace" and old is not None:
            self._refuse_protected(old)
        outputs = frozenset(registration.secret_outputs) - set(inputs)
        target = Target(handler, replace(record, inputs=sealed), inputs, outputs)
        if self._run.dry_run:
            applied = self._foresee(target, old, decided)
        else:
            first = registration.delete_before_replace
            applied = self._carry_out(target, old, decided, first=first)
        self._step(decided, applied)
        return Registered(record.urn, applied.id, self._outputs(registration, applied, inputs))

    def _inputs(self, registration: Registration, old: Record | None, handler: Handler) -> dict[str, Any]:
        if registration.import_id:
            raise ArgumentRefusedError("import is not part of the rehearsal", "Let the program create it.")
        inputs = {key: value for key, value in registration.inputs.items() if key != "region"}
        region = reveal(registration.inputs.get("region", self._aws.region))
        if region != self._aws.region:
            raise ArgumentRefusedError(
                f"argument region is {region!r}", f"The rehearsal has one region, {self._aws.region}."
            )
        defaults = self._defaults.get(registration.provider, self._run.defaults)
        tagged = with_default_tags(inputs, defaults, handler)
        return tagged if old is None else keep_ignored(tagged, old.inputs, registration.ignore_changes)

    def _foresee(self, target: Target, old: Record | None, decided: Plan) -> Record:
        if old is None or decided.op in ("create", "replace"):
            physical_name(target, self._run.token())  # so that a preview refuses what `up` would
            return target.record
        volatile = target.handler.volatile(decided.changed) if decided.op == "update" else frozenset()
        outputs = {key: UNKNOWN if key in volatile else value for key, value in old.outputs.items()}
        return replace(target.record, id=old.id, outputs=outputs)

    def _carry_out(self, target: Target, old: Record | None, decided: Plan, *, first: bool) -> Record:
        """`first`: a replaced resource goes before its heir comes."""
        token = self._run.token()
        fresh = target.named(physical_name(target, token), token)
        if old is None:
            return self._provider.create(fresh)
        if old.pending:
            return self._provider.resume(old, fresh)
        if decided.op == "replace":
            return self._provider.replace(old, fresh, delete_first=first)
        if decided.op == "update":
            return self._provider.update(old, target, decided.changed)
        same = target.named(old.physical, old.mark).record
        self._state.put(same := replace(same, id=old.id, outputs=old.outputs))
        return same

    def _outputs(
        self, registration: Registration, applied: Record, inputs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Arguments come back as the program gave them, so that secrets stay secrets."""
        outputs = {**applied.outputs, **inputs}
        if isinstance(inputs.get("tags"), Mapping):
            given = registration.inputs.get("tags", {})
            outputs |= {"tagsAll": inputs["tags"], "tags": given}
        marked = {key: Secret(outputs[key]) for key in registration.secret_outputs if key in outputs}
        self._redactor.learn(marked)
        return {**outputs, **marked}

    def _delete(self, record: Record) -> None:
        if record.custom and not (record.retain or record.external or _is_provider(record.type)):
            self._asked(record, lambda: self._provider.delete(handler_of(record.type), record))

    def _asked(self, of: Registration | Record, work: Callable[[], _Answer]) -> _Answer:
        """What `work` gives; an error of AWS, or of the way there, names the resource."""
        try:
            return work()
        except ResourceError as exc:
            raise self._failed(of, self._redactor(exc.message), self._redactor(exc.hint)) from exc
        except (ClientError, BotoCoreError) as exc:
            raise self._failed(of, self._told(exc), _REMEDY) from exc

    def _refuse_protected(self, record: Record) -> None:
        if record.protect:
            raise self._failed(
                record, "is protected, and would be deleted", "Take `protect` off it, then run up."
            )

    def _provider_defaults(self, registration: Registration) -> Defaults:
        arguments = reveal(registration.inputs)
        return self._asked(registration, lambda: provider_defaults(arguments, self._aws.region))

    def _failed(self, of: Registration | Record, message: str, hint: str) -> ResourceFailedError:
        return ResourceFailedError(f"{of.type} {of.name!r}: {message}", hint)

    def _told(self, error: ClientError | BotoCoreError) -> str:
        if not isinstance(error, ClientError):
            return self._redactor(str(error))
        message = error.response.get("Error", {}).get("Message", "")
        return self._redactor(f"AWS refused {error.operation_name}: {code_of(error)}: {message}")

    def _step(self, decided: Plan, record: Record) -> None:
        with self._lock:
            elapsed = self._run.clock() - self._start
            step = Step(decided.op, record.urn, record.type, record.name, decided.changed, elapsed)
            self.steps.append(step)
            self._run.on_step(step)


def _is_provider(resource_type: str) -> bool:
    return resource_type.startswith(_PROVIDER_PREFIX)


def _found(aws: Aws, registration: Registration, identity: str) -> Mapping[str, Any]:
    handler = handler_of(registration.type)
    return known({key: value for key, value in handler.read(aws, identity).items() if value is not None})


_REMEDY = "Correct the program, or the resource in AWS, and run up again: what was made is in the state."
