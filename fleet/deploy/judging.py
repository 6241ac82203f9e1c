"""The policies of a project on what its program registers: in process, or by Pulumi's CLI as a pack."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fleet.deploy.errors import PoliciesForbidError
from fleet.deploy.outcome import Outcome
from fleet.policy.evaluate import Evaluation
from fleet.rehearsal import policies
from fleet.rehearsal.engine import Result
from fleet.stack.settings import load_settings

_PACK = Path("fleet/policy")
_MOST_TOLD = 10


def pack_of(project: Path) -> Path | None:
    """The folder of its policy pack; None in a project that has none."""
    folder = project / _PACK
    return folder if (folder / "PulumiPolicy.yaml").is_file() else None


def judge(project: Path, stack: str, config: Mapping[str, str], result: Result) -> Evaluation | None:
    """How it stands to the policies.

    Nothing is judged in a project without a pack, nor what Pulumi's CLI ran: that judges by the pack itself.
    """
    if pack_of(project) is None or not result.declared:
        return None
    production = load_settings(project, stack, config).production
    return policies.evaluated(result.declared, production=production)


def told(evaluation: Evaluation) -> list[str]:
    """In lines, for a person."""
    return [policies.told(evaluation), *map(str, evaluation.advisory)]


def refuse(outcome: Outcome) -> None:
    """Raises PoliciesForbidError where a mandatory policy is violated."""
    mandatory = [each for each in outcome.violations if each.level == "mandatory"]
    if not mandatory:
        return
    lines = [f"  {violation}" for violation in mandatory[:_MOST_TOLD]]
    more = len(mandatory) - len(lines)
    lines += [f"  and {more} more"] * (more > 0)
    raise PoliciesForbidError(
        f"mandatory policies are violated {len(mandatory)} times:\n" + "\n".join(lines),
        "Correct the program or the stack's file; docs/policy.md lists the rules.",
        outcome.violations,
    )
