"""Which instances are taken away, in which order, and what becomes of them: decisions without any I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from fleet.rehearsal.cloud import InstanceView
from fleet.rehearsal.errors import ImpossibleError, UnknownInterruptionError
from fleet.rehearsal.report import Interruption

KINDS = ("spot", "kill", "scale-in")
GATEWAY, MODEL = "gateway", "model"
STORM = "storm"
LEAST_MODELS = 2  # a scale-in below this would leave nowhere to resume
NONE = "none"
_SEQUENCES = {
    "default": "spot:model,spot:gateway,kill:model,scale-in:model",
    STORM: STORM,
}


@dataclass(frozen=True)
class Step:
    """One thing that happens to the fleet. A storm takes half the spot nodes of all tiers."""

    kind: str
    tier: str

    def __str__(self) -> str:
        return self.kind if self.kind == STORM else f"{self.kind}:{self.tier}"


@dataclass(frozen=True)
class Tiers:
    """Names of a stack's tiers. A role's name stands for the gateways, and for the first model tier."""

    gateway: str = GATEWAY
    models: tuple[str, ...] = (MODEL,)

    @property
    def names(self) -> tuple[str, ...]:
        return (self.gateway, *self.models)

    def named(self, tier: str) -> str | None:
        """The tier that is meant, or None."""
        return tier if tier in self.names else {GATEWAY: self.gateway, MODEL: self.models[0]}.get(tier)


def parse(text: str, tiers: Tiers = Tiers()) -> tuple[Step, ...]:
    """The steps of `default`, `storm`, `none`, or a comma list such as `spot:model,kill:gateway`.

    Raises UnknownInterruptionError.
    """
    if text == NONE:
        return ()
    return tuple(_step(name.strip(), tiers) for name in _SEQUENCES.get(text, text).split(","))


def _step(name: str, tiers: Tiers) -> Step:
    if name == STORM:
        return Step(STORM, "")
    kind, _, asked = name.partition(":")
    tier = tiers.named(asked)
    if kind not in KINDS or tier is None:
        raise UnknownInterruptionError(
            f"there is no interruption {name!r}",
            f"Use default, storm, none, or a list of KIND:TIER with KIND one of {', '.join(KINDS)} "
            f"and TIER one of {', '.join(tiers.names)}.",
        )
    return Step(kind, tier)


def check_possible(
    steps: Sequence[Step],
    sizes: Mapping[str, int],
    spot: Mapping[str, int],
    tiers: Tiers = Tiers(),
) -> None:
    """Raise ImpossibleError, before anything starts, when a fleet of these sizes cannot be interrupted so.

    `sizes` and `spot` are nodes and spot nodes by tier.
    """
    left = dict(sizes)
    for step in steps:
        option = "--models" if step.tier in tiers.models else "--gateways"
        if step.kind == "scale-in":
            left[step.tier] -= 1
            least = LEAST_MODELS if step.tier in tiers.models else 1
            if left[step.tier] < least:
                raise ImpossibleError(
                    f"{step} would leave {left[step.tier]} {step.tier} nodes of at least {least}",
                    f"Start with more: {option} {sizes[step.tier] + least - left[step.tier]}.",
                )
        elif step.kind == "spot" and not spot[step.tier]:
            raise ImpossibleError(
                f"{step} needs a spot node, and the {step.tier} tier has none",
                f"Start with more: {option} {sizes[step.tier] + 1}, or lower onDemandBase.",
            )
        elif step.kind == STORM and not sum(spot.values()):
            raise ImpossibleError("a storm needs spot nodes, and no tier has one", "Start with more nodes.")


def serving(instance: InstanceView) -> bool:
    return instance.state == "running" and instance.target_state == "healthy"


def choose_victim(
    instances: Sequence[InstanceView], step: Step, in_flight: Mapping[str, int], virtual: str | None = None
) -> InstanceView:
    """The serving node of the step's tier with the most requests in flight, so that something is at stake.

    Spot nodes come first: they are the ones that vanish; among them, for a notice, the virtual machine.
    Raises ImpossibleError when no node will do.
    """
    able = [i for i in instances if i.tier == step.tier and serving(i) and i.noticed_at is None]
    spot = [i for i in able if i.purchase_option == "spot"]
    candidates = spot if step.kind == "spot" else spot or able
    if not candidates:
        raise ImpossibleError(f"{step}: no node of the {step.tier} tier serves that could be taken")

    def stake(instance: InstanceView) -> tuple[bool, int, str]:
        found = instance.instance_id
        return step.kind == "spot" and found == virtual, in_flight.get(found, 0), found

    return max(candidates, key=stake)


def choose_storm(instances: Sequence[InstanceView]) -> list[InstanceView]:
    """Half the spot nodes of every tier together, rounded up, spread over the tiers."""
    spot = sorted((i for i in instances if i.purchase_option == "spot" and serving(i)), key=_by_tier)
    return spot[::2]


def _by_tier(instance: InstanceView) -> tuple[str, float, str]:
    return instance.tier or "", instance.launched_at, instance.instance_id


def leaving(before: Collection[str], instances: Sequence[InstanceView], tier: str) -> InstanceView | None:
    """The node that the Auto Scaling group chose for a scale-in, once it has chosen."""
    return next(
        (i for i in instances if i.tier == tier and i.instance_id in before and leaves(i)),
        None,
    )


def leaves(instance: InstanceView) -> bool:
    """Its group is ending it."""
    return (instance.lifecycle_state or "").startswith("Terminat")


def follow(
    interruption: Interruption,
    instances: Sequence[InstanceView],
    before: Collection[str],
    taken: Collection[str],
    now: float,
) -> Interruption:
    """What is known of an interruption now: whether its node is gone, and who replaces it since when.

    `before` are the instances that existed at the notice, `taken` the replacements of other interruptions.
    """
    known = {i.instance_id: i for i in instances}
    if interruption.gone_at is None and interruption.instance_id not in known:
        interruption = replace(interruption, gone_at=now)
    if interruption.kind == "scale-in":
        return interruption
    if interruption.replacement not in known:
        newer = [
            i for i in instances if i.tier == interruption.tier and i.instance_id not in {*before, *taken}
        ]
        first = min(newer, key=lambda i: (i.launched_at, i.instance_id), default=None)
        interruption = replace(interruption, replacement=first.instance_id if first else None)
    own = known.get(interruption.replacement or "")
    if interruption.replaced_at is None and own is not None and serving(own):
        interruption = replace(interruption, replaced_at=now)
    return interruption


def over(interruption: Interruption) -> bool:
    """Whether the node is gone and, where one is due, its replacement serves."""
    replaced = interruption.replaced_at is not None or interruption.kind == "scale-in"
    return interruption.gone_at is not None and replaced
