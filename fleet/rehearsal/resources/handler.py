"""What a resource type must know about AWS.

Making a resource is cut into `make`, one call that brings the thing into being, and `settle`, calls that may
be repeated. A process killed between them, or before it could write down what it made, runs again: `find`
tells by the recorded name or mark whether the thing exists, and `settle` does the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from fleet.rehearsal.resources.aws import Aws
from fleet.rehearsal.resources.errors import ArgumentRefusedError, NotFoundError
from fleet.rehearsal.resources.shapes import fit

REQUIRED: Final = object()
"""In `Handler.updates`: AWS has no value of its own, so that dropping the argument replaces the resource."""


@dataclass(frozen=True)
class Want:
    """What the program asks of one resource.

    `physical` is its name in AWS. `mark` is a tag value that no other creation has; only what has no name of
    its own carries it. `before` is what was asked last, when the resource exists.
    """

    name: str
    physical: str
    mark: str
    inputs: Mapping[str, Any]
    before: Mapping[str, Any] = field(default_factory=dict)

    def get(self, argument: str, default: Any = None) -> Any:
        value = self.inputs.get(argument)
        return default if value is None else value


class Handler(ABC):
    """Maps one type of pulumi-aws onto AWS's API."""

    type: ClassVar[str]
    create: ClassVar[str]
    """The operation that brings it into being."""
    members: ClassVar[Mapping[str, str]] = {}
    """Argument -> member of the request, where the shape cannot tell."""
    settled: ClassVar[frozenset[str]] = frozenset()
    """Arguments that `settle` deals with and `make` does not."""
    updates: ClassVar[Mapping[str, Any]] = {}
    """Argument that can change in place -> the value that AWS has where the program gives none."""
    name_argument: ClassVar[str | None] = None
    name_limit: ClassVar[int] = 255
    read_by_name: ClassVar[bool] = False
    """A program may read one that it did not make; its id is its name."""

    def key(self, want: Want) -> str:
        """What can exist only once: a replacement with the old one's key waits until that is deleted."""
        return want.physical or want.mark

    def check(self, aws: Aws, inputs: Mapping[str, Any]) -> None:
        """Raise where an argument fits no request; values may be UNKNOWN."""
        self.fitted(aws, self.create, self.shaped(inputs))

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments that `make` sends, by the names of the request's members."""
        skip = {*self.settled, self.name_argument, "namePrefix"}
        if not inputs.get("tags"):
            skip.add("tags")  # some services refuse an empty list
        return {self.members.get(key, key): value for key, value in inputs.items() if key not in skip}

    def fitted(self, aws: Aws, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        result = fit(aws.shape(operation), arguments, "")
        assert isinstance(result, dict)
        return result

    def volatile(self, changed: Collection[str]) -> frozenset[str]:
        """Outputs that changing these arguments changes."""
        del changed
        return frozenset()

    @abstractmethod
    def find(self, aws: Aws, want: Want) -> str | None:
        """The id of what an earlier, interrupted `make` brought into being."""

    @abstractmethod
    def make(self, aws: Aws, want: Want) -> str:
        """Bring it into being by one call, and return its id."""

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        """Bring `changed` arguments into force. May be repeated."""
        del aws, identity, want, changed

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        """What AWS adds to the arguments."""
        del aws, identity, want
        return {}

    def read(self, aws: Aws, identity: str) -> dict[str, Any]:
        """Arguments and outputs of what exists already and is not ours; nothing while its id is not known.

        Raises NotFoundError, and ArgumentRefusedError for types that no program reads.
        """
        if not self.read_by_name:
            raise ArgumentRefusedError(
                "reading by id is not part of the rehearsal",
                "Let the program create what it needs, or ask by a function.",
            )
        want = Want(identity, identity, "", {})
        if identity and self.find(aws, want) is None:
            raise NotFoundError(f"there is no {self.type} {identity}", "Correct its id.")
        return self.outputs(aws, identity, want) if identity else {}

    @abstractmethod
    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        """Remove it from AWS."""


def tag_list(tags: Mapping[str, Any] | None) -> list[dict[str, str]]:
    return [{"Key": key, "Value": str(value)} for key, value in (tags or {}).items()]


def tag_changes(want: Want) -> tuple[dict[str, str], list[str]]:
    """Tags to set, and keys to remove."""
    before, now = want.before.get("tags") or {}, want.get("tags", {})
    return {k: str(v) for k, v in now.items() if before.get(k) != v}, [k for k in before if k not in now]


def without_tags(want: Want) -> dict[str, Any]:
    """The arguments for services that take tags only where the resource is new."""
    return {key: value for key, value in want.inputs.items() if key != "tags"}
