"""The stack's policies, held against what the program registers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fleet.policy import evaluate as policy
from fleet.policy.model import UNKNOWN, Resource
from fleet.rehearsal import resources
from fleet.rehearsal.engine import Declared
from fleet.rehearsal.engine.values import HIDDEN
from fleet.rehearsal.errors import PolicyViolatedError

_MOST_TOLD = 10


def evaluated(declared: Iterable[Declared], *, production: bool) -> policy.Evaluation:
    return policy.evaluate([_resource(of) for of in declared], production=production)


def judge(declared: Iterable[Declared], *, production: bool) -> policy.Evaluation:
    """Raises PolicyViolatedError where a mandatory rule is violated."""
    evaluation = evaluated(declared, production=production)
    if evaluation.mandatory:
        told = [f"  {violation}" for violation in evaluation.mandatory[:_MOST_TOLD]]
        more = len(evaluation.mandatory) - len(told)
        told += [f"  and {more} more"] * (more > 0)
        raise PolicyViolatedError(
            f"mandatory policies are violated {len(evaluation.mandatory)} times:\n" + "\n".join(told),
            "Correct the program or the stack's file; docs/policy.md lists the rules.",
        )
    return evaluation


def told(evaluation: policy.Evaluation) -> str:
    """In a line, without what each advisory violation says."""
    open_rules = len(evaluation.undecided)
    later = f", {open_rules} of them not until AWS has answered" if open_rules else ""
    advisory = len(evaluation.advisory)
    return f"{evaluation.rules} policies hold{later}; {advisory} advisory violations"


def _resource(of: Declared) -> Resource:
    return Resource(of.type, of.name, of.urn, _plain(of.inputs), of.references)


def _plain(value: Any) -> Any:
    """What rules cannot judge is UNKNOWN to them: what AWS has yet to say, and secrets."""
    if value is resources.UNKNOWN or value == HIDDEN:
        return UNKNOWN
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
