"""The policies of a project on what its program registers: in process, or by Pulumi's CLI as a pack."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fleet.rehearsal import policies
from fleet.rehearsal.engine import Result
from fleet.stack.settings import load_settings

_PACK = Path("fleet/policy")


def pack_of(project: Path) -> Path | None:
    """The folder of its policy pack; None in a project that has none."""
    folder = project / _PACK
    return folder if (folder / "PulumiPolicy.yaml").is_file() else None


def judge(project: Path, stack: str, config: Mapping[str, str], result: Result) -> list[str]:
    """How it stands to the policies, in lines. Raises PolicyViolatedError where a mandatory one is violated.

    Nothing is judged in a project without a pack, nor what Pulumi's CLI ran: that judges by the pack itself.
    """
    if pack_of(project) is None or not result.declared:
        return []
    evaluation = policies.judge(result.declared, production=load_settings(project, stack, config).production)
    return [policies.told(evaluation), *map(str, evaluation.advisory)]
