"""The local builder: a virtual machine of this host instead of an instance, and a disk instead of an AMI.

A machine lives no longer than this process. A run that is resumed before its machine was clean begins on a
fresh disk: the old one's power was cut over packages that need not have reached it, and all steps run again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from images.base.build import BaseDisk, base_directory, base_disk
from images.builders import Booted, Image
from images.builders.local_materials import MOUNTED, MaterialsDisk, RemoteWithMaterials, materials_disk
from images.builders.local_seeds import FAST_DPKG, builder_seed, node_seed
from images.clock import Clock
from images.errors import LeftBehind, PlanRefused
from images.forbidden import forbidden_in
from images.keys import KeyPair, make_key_pair
from images.machines import disk
from images.machines.choose import Choice, choose_here
from images.machines.hardware import Accelerator, Forward, Hardware
from images.machines.machine import Machine
from images.machines.network import free_port
from images.machines.seed import Seed, write_seed
from images.recipe import Recipe
from images.remote import Login, Remote, connect
from images.run import Run
from images.steps import Command, MachineQuirks, Materials

Connect = Callable[[Login, float, Clock], Remote]

USER = "admin"
_LOGIN_LIMIT_S = 600.0
_SHUTDOWN_LIMIT_S = 300.0
_SSH = 22
_BUILDER, _NODE, _IMAGE = "builder", "node", "image"


@dataclass(frozen=True)
class LocalSettings:
    accelerator: Accelerator | None = None
    """By default the fastest that is proved to work."""
    builder_memory_mib: int = 1536
    node_memory_mib: int = 1024
    node_ports: tuple[int, ...] = (8080, 9090)
    """Of a fresh node, as it is reached from here."""


class _Watching:
    """A clock by which nobody waits for a machine that is gone: it raises MachineFailed instead."""

    def __init__(self, clock: Clock, machine: Machine) -> None:
        self._clock = clock
        self._machine = machine

    def now(self) -> float:
        return self._clock.now()

    def sleep(self, seconds: float) -> None:
        self._machine.expect_running()
        self._clock.sleep(seconds)


class LocalBuilder:
    """Below `state`: finished disks in images/, and what the next bake need not make again in cache/."""

    name: Literal["local"] = "local"

    def __init__(
        self, state: Path, settings: LocalSettings | None = None, connect: Connect = connect
    ) -> None:
        self._images = state / "images"
        self._cache = state / "cache"
        self._settings = settings or LocalSettings()
        self._connect = connect
        self._machines: dict[str, Machine] = {}
        self._power: dict[str, Remote] = {}

    @cached_property
    def choice(self) -> Choice:
        """Raises MachineFailed where nothing runs guests."""
        return choose_here(self._cache, self._settings.accelerator)

    @property
    def accelerator(self) -> Accelerator:
        return self.choice.accelerator

    def prepare_base(self, recipe: Recipe) -> str:
        """Make the base disk unless it is cached, and say which. Raises MachineFailed or PlanRefused."""
        suite = suite_of(recipe)
        cached = base_directory(suite, recipe.disk.root_gib, self._cache).is_dir()
        base_disk(suite, recipe.disk.root_gib, self._cache)
        return f"{suite}, cached" if cached else f"{suite}, made by mmdebstrap"

    def start(self, run: Run) -> Remote:
        """Raises MachineFailed, or a RemoteError when the machine does not let us in."""
        directory = run.directory / _BUILDER
        self._forget(run, _BUILDER)
        self._make_disk(run, directory)
        user, host = make_key_pair(), make_key_pair()
        write_seed(builder_seed(run.id, user, host), directory / "seed.iso")
        materials = materials_disk(run.recipe, directory / "materials.iso")
        hardware = self._builder_hardware(directory, materials)
        machine = self._started(run, _BUILDER, hardware)
        login = _login(hardware, user, host)
        remote = self._login(run, machine, login)
        # The way in is cut before the machine is stopped: what is open by then stays open.
        self._power[run.id] = self._login(run, machine, login)
        return RemoteWithMaterials(remote, materials.index)

    def materials(self, run: Run) -> Materials:
        return Materials(run_id=run.id, quirks=MachineQuirks(iptables_legacy=self.accelerator == "uml"))

    def base(self, run: Run) -> str:
        found = self._base(run)
        return f"{suite_of(run.recipe)} {found.digest[:16]}"

    def closing(self) -> tuple[Command, ...]:
        return (Command(f"rm -f {FAST_DPKG}; umount {MOUNTED} || true", sudo=True, timeout_s=60),)

    def image(self, run: Run) -> Image:
        """Raises MachineFailed when the machine does not shut down, or its disk is not sound."""
        made = run.ledger.find("image", _IMAGE)
        target = self._images / f"{_image_name(run)}.raw"
        if made is None or not made.id:
            self._shut_down(run)
            raw = run.directory / _BUILDER / "disk.raw"
            if raw.exists():
                disk.finish(raw)
                run.ledger.intend("image", _IMAGE, path=str(target))
                target.parent.mkdir(parents=True, exist_ok=True)
                disk.move(raw, target)
            run.ledger.made("image", _IMAGE, str(target), sha256=disk.digest(target))
            made = run.ledger.find("image", _IMAGE)
        assert made is not None
        return Image(
            id=made.id,
            name=_image_name(run),
            digest=str(made.details["sha256"]),
        )

    def boot(self, run: Run, image: Image) -> Booted:
        """An overlay of the image: nothing that the node writes reaches it."""
        directory = run.directory / _NODE
        self._forget(run, _NODE)
        directory.mkdir(parents=True)
        run.ledger.intend("disk", _NODE, path=str(directory))
        write_seed(self.node_seed(run), directory / "seed.iso")
        forwards = tuple(Forward(free_port(), port) for port in self._settings.node_ports)
        hardware = Hardware(
            disk=Path(image.id),
            directory=directory,
            overlay=True,
            read_only_disks=(directory / "seed.iso",),
            forwards=forwards,
            memory_mib=self._settings.node_memory_mib,
        )
        asked_at = run.clock.now()
        machine = self._started(run, _NODE, hardware)
        ports = {forward.guest_port: forward.host_port for forward in forwards}
        return Booted(hardware.address, ports, asked_at, pause=_Watching(run.clock, machine).sleep)

    def node_seed(self, run: Run) -> Seed:
        """What the fresh node is told."""
        return node_seed(run.id, run.recipe.role, run.stack)

    def forbidden(self, run: Run, image: Image, booted: Booted) -> tuple[str, ...]:  # noqa: ARG002
        with disk.opened(Path(image.id)) as root:
            return tuple(forbidden_in(root))

    def evidence(self, run: Run) -> Mapping[str, bytes]:
        """Consoles and logs of both machines."""
        logs = (log for part in (_BUILDER, _NODE) for log in (run.directory / part).glob("*.log"))
        return {f"{log.parent.name}-{log.name}": log.read_bytes() for log in logs}

    def release(self, run: Run, image: Image) -> Image:  # noqa: ARG002
        return image

    def discard(self, run: Run, *, keep_image: bool) -> None:
        power = self._power.pop(run.id, None)
        if power is not None:
            power.close()
        for part in (_BUILDER, _NODE):
            self._forget(run, part)
        made = run.ledger.find("image", _IMAGE)
        if made is not None and not keep_image:
            _remove(Path(str(made.details["path"])))
            run.ledger.gone("image", _IMAGE)

    def left(self, run: Run) -> tuple[str, ...]:
        return tuple(str(resource) for resource in run.ledger.standing)

    def _base(self, run: Run) -> BaseDisk:
        return base_disk(suite_of(run.recipe), run.recipe.disk.root_gib, self._cache)

    def _make_disk(self, run: Run, directory: Path) -> None:
        base = self._base(run)
        run.ledger.intend("disk", _BUILDER, path=str(directory))
        directory.mkdir(parents=True, exist_ok=True)
        disk.copy_sparse(base.disk, directory / "disk.raw")
        run.ledger.made("disk", _BUILDER, str(directory))

    def _builder_hardware(self, directory: Path, materials: MaterialsDisk) -> Hardware:
        more = [directory / "seed.iso", *([materials.path] if materials.index else [])]
        return Hardware(
            disk=directory / "disk.raw",
            directory=directory,
            read_only_disks=tuple(more),
            forwards=(Forward(free_port(), _SSH),),
            memory_mib=self._settings.builder_memory_mib,
        )

    def _started(self, run: Run, part: str, hardware: Hardware) -> Machine:
        machine = Machine(hardware, self.accelerator)
        self._machines[f"{run.id} {part}"] = machine
        machine.start()
        return machine

    def _login(self, run: Run, machine: Machine, login: Login) -> Remote:
        return self._connect(login, run.clock.now() + _LOGIN_LIMIT_S, _Watching(run.clock, machine))

    def _shut_down(self, run: Run) -> None:
        """A machine that died with the process that baked leaves a disk whose journal is replayed."""
        machine, power = self._machines.pop(f"{run.id} {_BUILDER}", None), self._power.pop(run.id, None)
        if machine is None or power is None:
            return
        try:
            power.run(Command("systemctl --no-block poweroff", sudo=True, timeout_s=60))
            power.close()
            machine.wait(_SHUTDOWN_LIMIT_S)
        finally:
            machine.kill()

    def _forget(self, run: Run, part: str) -> None:
        machine = self._machines.pop(f"{run.id} {part}", None)
        if machine is not None:
            machine.kill()
        _remove(run.directory / part)
        if run.ledger.find("disk", part) is not None:
            run.ledger.gone("disk", part)


def _login(hardware: Hardware, user: KeyPair, host: KeyPair) -> Login:
    return Login(hardware.address, hardware.forwards[0].host_port, USER, user.private, host.public)


def suite_of(recipe: Recipe) -> str:
    local = recipe.base.local
    if local is None:
        raise PlanRefused(
            f"recipe {recipe.name} has no [base.local]", "name its suite, or bake with --on ec2"
        )
    return local.suite


def _image_name(run: Run) -> str:
    return f"goldenfleet-{run.recipe.name}-{run.id}"


def _remove(path: Path) -> None:
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as exc:
        raise LeftBehind(f"cannot remove {path}: {exc.strerror}", "remove it by hand") from exc
