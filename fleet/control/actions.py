"""What can be done about a notice: decisions are lists of these, in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from fleet.control.notices import Launch, Termination


@dataclass(frozen=True, slots=True)
class Deregister:
    """Leave the load balancer."""

    target_groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Detach:
    """Leave the group without lowering what it wants, so that the replacement launches now. That keeps the
    group within its limits: the desired capacity does not change, and a minimum is not looked at."""

    group: str


@dataclass(frozen=True, slots=True)
class EnterStandby:
    """As Detach, for an instance that AWS does not take by itself: in standby the group does not end it for
    failing its health check, lets it come back, and ends it when asked."""

    group: str


@dataclass(frozen=True, slots=True)
class ExitStandby:
    """Back into service, and into every target group of its group, which wants one more from then on."""

    group: str


@dataclass(frozen=True, slots=True)
class Retire:
    """Let the group end the instance, by its terminate hook. What it wants stays: where the replacement was
    launched before, no other is."""


@dataclass(frozen=True, slots=True)
class TellNode:
    """Drain by `deadline` (unix seconds). A node that does not answer is told again later."""

    address: str
    reason: str
    deadline: float


@dataclass(frozen=True, slots=True)
class Undrain:
    """Let the node serve again. It refuses when AWS itself takes it; then nothing after this is done."""

    address: str


@dataclass(frozen=True, slots=True)
class RememberUndrain:
    """So that a drain which was asked for before is over, in whatever order the two are handled."""

    at: float


@dataclass(frozen=True, slots=True)
class LetGo:
    """Complete the hook: the instance may go on to where it goes."""

    notice: Termination | Launch
    because: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Nothing to do, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Not done yet: the message comes back after `seconds`."""

    seconds: float


Action: TypeAlias = (
    Deregister
    | Detach
    | EnterStandby
    | ExitStandby
    | Retire
    | TellNode
    | Undrain
    | RememberUndrain
    | LetGo
    | Drop
    | LookAgain
)
