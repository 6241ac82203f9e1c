"""What an act did or would do, in the same words and the same JSON whichever engine did it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fleet.policy.evaluate import Violation
from fleet.rehearsal.engine import Result, Step

Act = Literal["preview", "up", "destroy"]
EngineName = Literal["rehearsal", "pulumi"]

_SIGNS = {"create": "+", "update": "~", "replace": "±", "delete": "-", "read": "?"}
_FORESEEN = {"create": "to create", "update": "to update", "replace": "to replace", "delete": "to delete"}
_DONE = {"create": "created", "update": "updated", "replace": "replaced", "delete": "deleted"}
_ALWAYS = {"read": "read", "same": "unchanged"}


@dataclass(frozen=True)
class Outcome:
    act: Act
    stack: str
    engine: EngineName
    result: Result
    violations: tuple[Violation, ...] = ()
    """Of policies; of mandatory ones only where nothing was done for them."""

    @property
    def changes(self) -> int:
        """Resources that differ, or differed, from what the program says."""
        return sum(step.op not in _ALWAYS for step in self.result.steps)

    def as_json(self) -> dict[str, Any]:
        return {
            "act": self.act,
            "stack": self.stack,
            "engine": self.engine,
            "steps": [_step(step) for step in self.result.steps],
            "summary": self.result.summary(),
            "outputs": dict(self.result.outputs),
            "seconds": round(self.result.seconds, 3),
            "violations": [asdict(violation) for violation in self.violations],
        }

    def describe(self) -> str:
        """A table of the steps that change something, then how many of each, then the outputs."""
        lines = [*_table([step for step in self.result.steps if step.op != "same"]), self._summary()]
        if self.result.outputs:
            lines += ["", "Outputs:", *_outputs(self.result.outputs)]
        return "\n".join(lines)

    def _summary(self) -> str:
        words = {**(_FORESEEN if self.act == "preview" else _DONE), **_ALWAYS}
        counts = self.result.summary()
        told = [f"{counts[op]} {words[op]}" for op in words if op in counts]
        return f"{self.stack}: {', '.join(told) or 'nothing'} ({self.result.seconds:.1f} s)"


def _step(step: Step) -> dict[str, Any]:
    told = asdict(step)
    told["changed"] = list(step.changed)
    told["elapsed"] = round(step.elapsed, 3)
    return told


def _table(steps: list[Step]) -> Iterator[str]:
    if not steps:
        return
    types = max(len(short_type(step.type)) for step in steps)
    names = max(len(step.name) for step in steps)
    for step in steps:
        told = f" {_SIGNS[step.op]} {step.op:8}{short_type(step.type):{types}}  {step.name:{names}}"
        yield f"{told}  {', '.join(step.changed)}".rstrip()
    yield ""


def short_type(resource_type: str) -> str:
    """ec2.Vpc for aws:ec2/vpc:Vpc."""
    package, _, rest = resource_type.partition(":")
    module, _, name = rest.rpartition(":")
    module = module.partition("/")[0]
    return f"{module}.{name}" if package == "aws" else f"{package}.{name}"


def _outputs(outputs: Mapping[str, Any]) -> Iterator[str]:
    width = max(map(len, outputs))
    for name, value in outputs.items():
        text = value if isinstance(value, str) else json.dumps(value)
        yield f"  {name:{width}}  {text}"
