"""Rollouts: a dynamic resource of the program's own, whose provider here is the rehearsal.

Pulumi runs the provider that the program brings along (fleet/stack/rollout.py), by calls with the machine's
own credentials; here the same decisions make the same calls to the emulated cloud.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from fleet.rehearsal.resources.aws import Aws
from fleet.rehearsal.resources.errors import ArgumentRefusedError
from fleet.rehearsal.resources.handler import Handler, Want
from fleet.rehearsal.resources.shapes import fit
from fleet.rollouts.errors import RolloutError
from fleet.rollouts.starting import Patience, Wish, roll_out

_START = "autoscaling.StartInstanceRefresh"


class Rollout(Handler):
    """Of a group, which it does not make and does not delete."""

    type = "pulumi-python:dynamic/goldenfleet:Rollout"
    create = _START
    updates: ClassVar[Mapping[str, Any]] = {
        "__provider": None,
        "configuration": None,
        "preferences": {},
        "region": None,
    }

    def key(self, want: Want) -> str:
        return str(want.inputs["group"])

    def check(self, aws: Aws, inputs: Mapping[str, Any]) -> None:
        members = aws.shape(_START).members
        fit(members["DesiredConfiguration"], inputs["configuration"], "configuration")
        fit(members["Preferences"], inputs.get("preferences", {}), "preferences")

    def find(self, aws: Aws, want: Want) -> str | None:
        """Nothing is made but what `make` may ask for again."""
        del aws, want
        return None

    def make(self, aws: Aws, want: Want) -> str:
        self._roll_out(aws, want, None)
        return str(want.inputs["group"])

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        del identity
        if "configuration" in changed and want.before:
            self._roll_out(aws, want, want.before.get("configuration"))

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        del aws, identity, want

    def _roll_out(self, aws: Aws, want: Want, before: Mapping[str, Any] | None) -> None:
        wish = Wish(want.inputs["group"], want.inputs["configuration"], want.get("preferences", {}))
        try:
            roll_out(aws.client, wish, before, Patience(aws.timing.clock, aws.timing.sleep))
        except RolloutError as exc:
            raise ArgumentRefusedError(exc.message, exc.hint) from exc


HANDLERS: tuple[Handler, ...] = (Rollout(),)
