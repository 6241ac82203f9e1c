"""Which steps there are, and in which order.

provision -> inventory (images.steps.inventory) -> record -> finish -> stop the machine
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from images.recipe import Recipe
from images.steps.clean import clean, cut_access
from images.steps.command import Action, Command, Facts, Materials, NamedStep, Strategy
from images.steps.containers import containers
from images.steps.packages import container_toolkit, docker, hold, wait
from images.steps.shell import root
from images.steps.units import image_record, units
from images.steps.verify import absent, attached, present
from images.steps.weights import weights

WARM_SECONDS = 1800


def provision(recipe: Recipe, facts: Facts, materials: Materials) -> tuple[NamedStep, ...]:
    """From a bare machine to one that would serve. Raises PlanRefused. Every step may run again."""
    return _named(
        ("wait for the machine", wait(facts)),
        ("install Docker", docker(recipe, facts, materials)),
        ("install the GPU toolkit", container_toolkit(recipe, facts)),
        ("bring the containers", containers(recipe, materials)),
        ("bring the weights", weights(recipe, materials)),
        ("write units", units(recipe, materials)),
        ("warm compile caches", _warm(recipe, facts)),
        ("hold versions", hold(facts)),
    )


def record(manifest: Mapping[str, object], sbom: bytes) -> tuple[NamedStep, ...]:
    return _named(("record what is on it", image_record(manifest, sbom)))


def finish(recipe: Recipe, facts: Facts, materials: Materials) -> tuple[NamedStep, ...]:
    """Verify, clean, verify again and lock ourselves out. The machine is stopped next, and not touched."""
    return _named(
        ("verify", present(recipe, facts, materials)),
        ("clean", clean(facts)),
        ("verify that it is clean", absent(facts)),
        ("cut access", cut_access(facts)),
    )


def on_node(recipe: Recipe, strategy: Strategy | None) -> tuple[NamedStep, ...]:
    """What a fresh node is asked beside its golden checks."""
    return _named(("look at its weights", attached(recipe, strategy)))


def steps(recipe: Recipe, facts: Facts, materials: Materials) -> tuple[NamedStep, ...]:
    """All that do not depend on what the machine answers, for a plan."""
    return (*provision(recipe, facts, materials), *finish(recipe, facts, materials))


def _warm(recipe: Recipe, facts: Facts) -> Iterator[Command]:
    """Start the engine once, so that its compiled kernels are on the image; they are keyed to the GPU."""
    if not (recipe.compile_cache and facts.gpu):
        return
    yield root("systemctl start goldenfleet-engine.service", 120)
    yield root(
        "until curl --fail --silent --output /dev/null http://127.0.0.1:8000/health; do sleep 2; done",
        WARM_SECONDS,
    )
    yield root("systemctl stop goldenfleet-engine.service", 120)


def _named(*named: tuple[str, Iterable[Action]]) -> tuple[NamedStep, ...]:
    made = (NamedStep(name, tuple(actions)) for name, actions in named)
    return tuple(step for step in made if step.actions)
