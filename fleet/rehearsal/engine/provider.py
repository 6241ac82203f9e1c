"""One resource's life in AWS: created, found again, changed, replaced, deleted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from botocore.exceptions import ClientError

from fleet.rehearsal.engine.diff import changed_arguments, forces_replacement
from fleet.rehearsal.engine.state import Record, State
from fleet.rehearsal.engine.values import Redactor, reveal
from fleet.rehearsal.resources import Aws, Handler, Want
from fleet.rehearsal.resources.aws import code_of, is_gone
from fleet.rehearsal.resources.errors import ArgumentRefusedError

# AWS refuses to delete what another resource still holds, and lets go of it some time after that has gone.
_HELD = frozenset({"DependencyViolation", "DeleteConflict", "ResourceInUse", "ResourceInUseException"})
_HELD_SECONDS = 300.0

# pulumi-aws appends a hyphen and seven hexadecimal digits to the logical name.
_SUFFIX_DIGITS = 7


@dataclass(frozen=True)
class Target:
    """One resource as the program wants it."""

    handler: Handler
    record: Record
    inputs: Mapping[str, Any]
    """Plain or Secret values, of which the record holds the sealed form."""
    secret_outputs: frozenset[str] = frozenset()
    """What the program calls secret although AWS makes it."""

    def named(self, physical: str, mark: str) -> Target:
        return replace(self, record=replace(self.record, physical=physical, mark=mark))

    def want(self, before: Mapping[str, Any] | None = None) -> Want:
        record = self.record
        return Want(record.name, record.physical, record.mark, reveal(self.inputs), before or {})


@dataclass(frozen=True)
class Provider:
    """Writes down each step before and after it takes it, so that a kill at any point loses nothing."""

    aws: Aws
    state: State
    redactor: Redactor

    def create(self, target: Target) -> Record:
        """The target's record carries its physical name and mark already."""
        want = target.want()
        self._refuse_secret_key(target.handler, want)
        self.state.put(replace(target.record, pending=True))
        identity = target.handler.make(self.aws, want)
        return self._settle(target, identity, want, target.handler.settled & set(want.inputs))

    def resume(self, left: Record, target: Target) -> Record:
        """Finish what a killed run began as `left`: it may exist, in part or not at all."""
        handler = target.handler
        changed = changed_arguments(left.inputs, target.record.inputs)
        if forces_replacement(handler, changed, target.record.inputs):
            self.delete(handler, left)
            return self.create(target)
        same = target.named(left.physical, left.mark)
        identity = handler.find(self.aws, recorded_want(left))
        if identity is None:
            return self.create(same)
        want = same.want(left.inputs)
        return self._settle(same, identity, want, {*changed, *(handler.settled & set(want.inputs))})

    def update(self, old: Record, target: Target, changed: Collection[str]) -> Record:
        same = target.named(old.physical, old.mark)
        return self._settle(same, old.id, same.want(old.inputs), changed)

    def replace(self, old: Record, target: Target, *, delete_first: bool) -> Record:
        """The new one first, so that dependents can move; the other way round where only one can exist."""
        handler, want = target.handler, target.want()
        self._refuse_secret_key(handler, want)
        if delete_first or handler.key(want) == handler.key(recorded_want(old)):
            self.delete(handler, old)
            self.state.drop(old)
        else:
            self.state.supersede(replace(target.record, pending=True))
        return self.create(target)

    def delete(self, handler: Handler, record: Record) -> None:
        """What does not exist counts as deleted."""
        want = recorded_want(record)
        try:
            identity = handler.find(self.aws, want) if record.pending else record.id
            if identity is not None:
                self._let_go(handler, identity, want)
        except ClientError as exc:
            if not is_gone(exc):
                raise

    def _let_go(self, handler: Handler, identity: str, want: Want) -> None:
        held: list[ClientError] = []

        def deleted() -> bool:
            try:
                handler.delete(self.aws, identity, want)
            except ClientError as exc:
                if code_of(exc) not in _HELD:
                    raise
                held.append(exc)
                return False
            return True

        self.aws.wait(f"{identity} deleted", deleted, _HELD_SECONDS)

    def _settle(self, target: Target, identity: str, want: Want, changed: Collection[str]) -> Record:
        target.handler.settle(self.aws, identity, want, changed)
        outputs = target.handler.outputs(self.aws, identity, want)
        known = {key: value for key, value in outputs.items() if value is not None}
        self._refuse_secret_outputs(target.secret_outputs & set(known))
        made = replace(target.record, id=identity, outputs=known, pending=False)
        self.state.put(made)
        return made

    def _refuse_secret_key(self, handler: Handler, want: Want) -> None:
        """Ids are made of it, and ids are stored and shown."""
        if self.redactor.finds(handler.key(want)):
            raise ArgumentRefusedError(
                "what identifies the resource in AWS holds a secret",
                "Name it, and what it belongs to, openly.",
            )

    def _refuse_secret_outputs(self, names: Collection[str]) -> None:
        """The next run could not tell them again."""
        if names:
            raise ArgumentRefusedError(
                f"additional_secret_outputs names {', '.join(sorted(names))}, which AWS makes",
                "The rehearsal stores no secrets: leave it out.",
            )


def recorded_want(record: Record) -> Want:
    return Want(record.name, record.physical, record.mark, record.inputs)


def physical_name(target: Target, token: str) -> str:
    """The name in AWS: what the program gives, or the logical name and a suffix; empty for types without."""
    handler, inputs, name = target.handler, reveal(target.inputs), target.record.name
    if handler.name_argument is None:
        return ""
    if inputs.get(handler.name_argument) is not None:
        return str(inputs[handler.name_argument])
    prefix = inputs.get("namePrefix")
    physical = f"{name}-{token[:_SUFFIX_DIGITS]}" if prefix is None else f"{prefix}{token}"
    if len(physical) > handler.name_limit:
        raise ArgumentRefusedError(
            f"the name {physical!r} has {len(physical)} characters, and AWS allows {handler.name_limit}",
            f"Shorten the resource's name {name!r}, or give {handler.name_argument}.",
        )
    return physical
