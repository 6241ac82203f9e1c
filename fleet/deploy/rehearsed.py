"""The rehearsal's engine, on an emulated cloud that somebody runs or on one for the moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fleet.deploy.endpoint import emulated
from fleet.rehearsal.engine import PulumiEngine, WarmHost
from fleet.rehearsal.engine.steps import OnStep, Result
from fleet.stack.imports import AHEAD
from fleet.stack.settings import Settings

if TYPE_CHECKING:
    from fleet.rehearsal.cloud import InstanceListener, InstanceView

_TIME_SCALE = 0.1


def default_state(project: Path, stack: str) -> Path:
    """Where the state of `stack` is, of what the rehearsal's engine made."""
    return project / ".goldenfleet" / f"{stack}.json"


def engine(
    project: Path,
    stack: str,
    endpoint_url: str | None,
    state: Path | None,
    config: Mapping[str, str],
    warm: WarmHost | None = None,
) -> PulumiEngine:
    """Raises EndpointRefusedError for anything that is not on this machine."""
    url = emulated(endpoint_url)
    kept = state or default_state(project, stack)
    return PulumiEngine(project, stack, endpoint_url=url, state_file=kept, config=config, warm=warm)


def preview_on_nothing(
    project: Path, stack: str, config: Mapping[str, str], settings: Settings, on_step: OnStep
) -> Result:
    """What `up` would do in an empty account that has an image in each channel. Raises GoldenfleetError."""
    with (
        # While moto is imported, which takes as long.
        WarmHost(AHEAD) as warm,
        empty_account(settings, _Never()) as url,
        TemporaryDirectory(prefix="goldenfleet-preview-") as folder,
    ):
        state = Path(folder) / "state.json"
        made = PulumiEngine(project, stack, endpoint_url=url, state_file=state, config=config, warm=warm)
        return made.preview(on_step)


@contextmanager
def empty_account(settings: Settings, listener: InstanceListener, port: int = 0) -> Iterator[str]:
    """The endpoint of an emulated AWS that holds an image in each of the tiers' channels, and no more."""
    from fleet.rehearsal.cloud import Cloud  # starts moto, which no other act of this module needs

    with Cloud(time_scale=_TIME_SCALE, seed=1, listener=listener, port=port) as cloud:
        for recipe, channel in sorted({(tier.recipe, tier.channel) for tier in settings.tiers}):
            cloud.register_image(recipe, settings.stack, channel)
        yield cloud.endpoint_url


class Nobody:
    """Instances on which nothing runs."""

    def launched(self, instance: InstanceView) -> None:
        pass

    def killed(self, instance_id: str) -> None:
        pass


class _Never:
    """A preview launches no instance."""

    def launched(self, instance: object) -> None:
        raise AssertionError(instance)

    def killed(self, instance_id: str) -> None:
        raise AssertionError(instance_id)
