"""A shell on a node: a Session Manager session, for nodes have no SSH."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet.oncall.aws import Aws
from fleet.oncall.errors import Impossible, ProgramMissing
from fleet.oncall.snapshot import NodeView

_AWS, _PLUGIN = "aws", "session-manager-plugin"
_INSTALL = (
    "Install the AWS CLI and its Session Manager plugin: https://docs.aws.amazon.com/systems-manager/latest/"
    "userguide/session-manager-working-with-install-plugin.html"
)


@dataclass(frozen=True)
class Session:
    """A program to become. `told` is said first."""

    argv: Sequence[str]
    env: Mapping[str, str]
    directory: Path | None
    told: str


def session(aws: Aws, node: NodeView, path: str | None = None) -> Session:
    """Raises ProgramMissing, and Impossible for a node that is not there."""
    if aws.kept is not None:
        return _shell(Path(aws.kept.run_dir) / "nodes" / node.instance_id, node, path)
    for program in (_AWS, _PLUGIN):
        if shutil.which(program, path=path) is None:
            raise ProgramMissing(f"{program} is not installed, or not on PATH", _INSTALL)
    command = [_AWS, "ssm", "start-session", "--target", node.instance_id, "--region", aws.region]
    return Session(command, os.environ, None, f"Session on {node.instance_id}; `exit` ends it.")


def _shell(home: Path, node: NodeView, path: str | None) -> Session:
    if not home.is_dir():
        raise Impossible(f"{home} is not there", "The rehearsal's log folder was removed: start another.")
    shell = os.environ.get("SHELL") or shutil.which("sh", path=path) or "/bin/sh"
    env = {**os.environ, "GOLDENFLEET_ADDRESS": node.address, "GOLDENFLEET_NODE": node.instance_id}
    told = (
        f"{node.instance_id} is a process here, in {home}; its log is log.jsonl, its state\n"
        f"curl {node.address}:9090/state. A shell in its folder; `exit` ends it."
    )
    return Session([shell], env, home, told)


def become(wanted: Session) -> None:
    """Does not return: the program takes this one's place, and its terminal. Raises ProgramMissing."""
    if wanted.directory is not None:
        os.chdir(wanted.directory)
    try:
        os.execvpe(wanted.argv[0], list(wanted.argv), dict(wanted.env))  # noqa: S606  no shell is wanted
    except OSError as exc:
        raise ProgramMissing(f"cannot run {wanted.argv[0]}: {exc.strerror}", _INSTALL) from exc
