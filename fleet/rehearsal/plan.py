"""What a rehearsal is asked to do, checked before anything starts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fleet.errors import ImageMissingError
from fleet.rehearsal import interruptions, scenarios
from fleet.rehearsal.answers import EMBEDDED_MODEL
from fleet.rehearsal.envoy import HOST
from fleet.rehearsal.errors import RehearsalError
from fleet.rehearsal.interruptions import Step, Tiers
from fleet.rehearsal.ports import check_free, check_nodes_can_listen
from fleet.rehearsal.scenarios import Scenario
from fleet.stack.settings import GatewayTier, ModelTier, Settings, load_settings

NOTICE_SECONDS = 120.0  # AWS's own, which `notice_seconds` stand for
VM_BOOT_SECONDS = 300.0  # User-mode Linux beside a fleet that starts on the same two cores
Watchers = Literal["both", "control", "imds"]
RECIPES = ("rehearsal",)  # what the emulated cloud has images of


@dataclass(frozen=True)
class Plan:
    """Options of a rehearsal. Seconds are real ones; `notice_seconds` stand for AWS's 120."""

    project: Path
    stack: str = "rehearsal"
    clients: int = 40
    duration_s: float = 20.0
    notice_seconds: float = 12.0
    interrupt: str = "default"
    scenarios: tuple[str, ...] = ()
    seed: int = 1
    gateways: int = 2
    models: int = 3
    port: int = 8088
    keep: bool = False
    image: Path | None = None
    watchers: Watchers = "both"
    """Who sees notices: the control handler, the nodes in their instance metadata, or both."""
    config: Mapping[str, str] = field(default_factory=dict)

    @property
    def time_scale(self) -> float:
        return self.notice_seconds / NOTICE_SECONDS

    def told(self) -> dict[str, object]:
        """What the report repeats."""
        return {
            "stack": self.stack,
            "clients": self.clients,
            "duration_s": self.duration_s,
            "notice_seconds": self.notice_seconds,
            "time_scale": self.time_scale,
            "seed": self.seed,
            "gateways": self.gateways,
            "models": self.models,
            "image": str(self.image) if self.image else None,
            "watchers": self.watchers,
        }


@dataclass(frozen=True)
class Checked:
    """A plan that can be carried out: the stack's settings, and the overrides that make them so."""

    plan: Plan
    settings: Settings
    config: Mapping[str, str]
    steps: tuple[Step, ...]
    scenarios: tuple[Scenario, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """Names by which clients ask for the models, in the order of their tiers."""
        return tuple(dict.fromkeys(tier.model or EMBEDDED_MODEL for tier in self.settings.models))

    def told(self) -> dict[str, object]:
        """What the report repeats."""
        steps = [str(step) for step in self.steps]
        return {
            **self.plan.told(),
            "interrupt": steps,
            "scenarios": list(self.plan.scenarios),
            "served": list(self.models),
        }

    @property
    def tiers(self) -> dict[str, GatewayTier | ModelTier]:
        return {tier.name: tier for tier in self.settings.tiers}


def watchers_of(*, control_only: bool, imds_only: bool) -> Watchers:
    """Raises RehearsalError when nobody would be left."""
    if control_only and imds_only:
        hint = "Leave one out: without both, nobody would see a notice."
        raise RehearsalError("--control-only and --imds-only exclude each other", hint)
    return "control" if control_only else "imds" if imds_only else "both"


def check(plan: Plan) -> Checked:
    """Raise a GoldenfleetError for whatever would fail later: settings, sizes, images, ports."""
    if not all(map(math.isfinite, (plan.notice_seconds, plan.duration_s))):
        raise RehearsalError("--notice-seconds and --duration must be finite numbers")
    _check_disk(plan.image)
    played = scenarios.named(plan.scenarios)
    asked = {**{key: value for each in played for key, value in each.config.items()}, **plan.config}
    settings = load_settings(plan.project, plan.stack, asked)
    wanted = settings.with_desired(
        {settings.gateway.name: plan.gateways, **{tier.name: plan.models for tier in settings.models}}
    )
    if plan.image is not None:
        wanted = _with_patience(wanted, plan.time_scale)
    tiers = Tiers(settings.gateway.name, tuple(tier.name for tier in settings.models))
    config = {**asked, **wanted}
    checked = Checked(
        plan,
        load_settings(plan.project, plan.stack, config),
        config,
        interruptions.parse(plan.interrupt, tiers),
        played,
    )
    _check_images(checked)
    sizes = {name: tier.capacity.desired for name, tier in checked.tiers.items()}
    spot = {name: spot_nodes(tier) for name, tier in checked.tiers.items()}
    interruptions.check_possible(checked.steps, sizes, spot, tiers)
    for scenario in played:
        scenario.check(checked)
    check_free(HOST, plan.port)
    check_nodes_can_listen()
    return checked


def _check_disk(image: Path | None) -> None:
    if image is not None and not image.is_file():
        raise RehearsalError(
            f"there is no disk image {image}", "Bake one: goldenfleet images bake rehearsal --on local"
        )


def _with_patience(wanted: Mapping[str, str], time_scale: float) -> dict[str, str]:
    """Let model nodes boot for as long as a virtual machine takes here, in AWS's scaled seconds."""
    tiers = json.loads(wanted["goldenfleet:tiers"])
    patience = math.ceil(VM_BOOT_SECONDS / time_scale)
    for tier in tiers:
        if tier["role"] == "model":
            tier["boot"]["graceSeconds"] = min(7200, max(patience, tier["boot"]["graceSeconds"]))
    return {**wanted, "goldenfleet:tiers": json.dumps(tiers)}


def spot_nodes(tier: GatewayTier | ModelTier) -> int:
    """How many of a tier's desired nodes are spot: what is above the base, less its on-demand share."""
    above = max(0, tier.capacity.desired - tier.purchase.on_demand_base)
    return above - math.ceil(above * tier.purchase.on_demand_percent / 100)


def _check_images(checked: Checked) -> None:
    for name, tier in checked.tiers.items():
        if tier.recipe not in RECIPES:
            raise ImageMissingError(
                f"tier {name} launches recipe {tier.recipe!r}, of which a rehearsal has no image",
                f"Set goldenfleet:tiers.{name}.recipe in Pulumi.{checked.plan.stack}.yaml to one of: "
                f"{', '.join(RECIPES)}.",
            )
