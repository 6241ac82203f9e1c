"""A whole bake, and the node booted from it. Three boots serve all tests: builder, node, node once more.

The bake itself asks the node everything while it is up; each test then judges one answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from images.bake import Inspection, Options, bake, inspect_node
from images.builders import Booted
from images.builders.local import LocalSettings
from images.builders.local_seeds import node_seed
from images.checks import wait_ready
from images.container import ensure
from images.errors import CheckFailed, CommandFailed
from images.forbidden import contains, forbidden_in
from images.keys import make_key_pair
from images.machines import disk
from images.machines.seed import Seed, cloud_config
from images.manifest import Manifest
from images.recipe import Recipe, load
from images.remote import Remote, SshRemote
from images.run import MADE, Run
from images.steps import Action, Command, Materials, Upload
from images.steps.containers import containers
from images.steps.shell import INBOX, directory
from images.steps.weights import weights
from tests.images.local.sleeping import machines_in
from tests.images.local.vm import (
    CANARY,
    READY_S,
    RECIPE,
    ROOT,
    Planting,
    answers,
    login,
    shared_cache,
    skip_without_machines,
    until,
)

pytestmark = pytest.mark.xdist_group("vm")

IDENTITY = Command("cat /etc/machine-id /proc/sys/kernel/random/boot_id /etc/ssh/ssh_host_ed25519_key.pub")
AUTHORIZED = Command("cat /root/.ssh/authorized_keys* /home/*/.ssh/authorized_keys*", sudo=True)
LISTENERS = Command("ss --listening --tcp --numeric --no-header | awk '{ print $4 }'")
WRONG = hashlib.sha256(b"something else").hexdigest()


@dataclass
class Seen:
    """What the node answered."""

    run: Run | None = None
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    authorized: list[str] = field(default_factory=list)
    listeners: list[str] = field(default_factory=list)
    refusals: dict[str, str] = field(default_factory=dict)
    engine_answered: bool = True


class Lent(Planting):
    """Its fresh node lets the test in, which every other node does not."""

    def __init__(self, state: Path) -> None:
        super().__init__(state, LocalSettings(node_ports=(8080, 9090, 22, 8000)))
        self.key = make_key_pair()

    def node_seed(self, run: Run) -> Seed:
        plain = node_seed(run.id, run.recipe.role, run.stack)
        settings = {"path": "/etc/goldenfleet/instance.env", "content": "GOLDENFLEET_IMDS_ENDPOINT=off\n"}
        vendor = cloud_config({"ssh_authorized_keys": [self.key.public], "write_files": [settings]})
        return Seed(plain.instance_id, plain.user_data, vendor)


@dataclass(frozen=True)
class Golden:
    manifest: Manifest
    image: Path
    builder: Lent
    seen: Seen


class Interview:
    """The inspection of the bake, with more questions; it remembers the answers in `seen`."""

    def __init__(self, builder: Lent, variants: Callable[..., Recipe], seen: Seen) -> None:
        self._builder = builder
        self._variants = variants
        self._seen = seen

    def __call__(self, recipe: Recipe, booted: Booted) -> Inspection:
        found = inspect_node(recipe, booted)
        self._ask(booted)
        self._check_wrongly(booted)
        self._reboot(booted)
        return found

    def _ask(self, booted: Booted) -> None:
        with self._login(booted) as remote:
            self._seen.before = remote.run(IDENTITY).stdout.split("\n")
            self._seen.authorized = remote.run(AUTHORIZED, check=False).stdout.splitlines()
            self._seen.listeners = remote.run(LISTENERS).stdout.split()
            self._seen.engine_answered = answers(f"http://127.0.0.1:{booted.ports[8000]}/health")
            remote.run(directory(INBOX))
            for name, actions in self._wrong_steps():
                with pytest.raises(CommandFailed) as caught:
                    _carry_out(remote, actions)
                self._seen.refusals[name] = str(caught.value)

    def _wrong_steps(self) -> Iterator[tuple[str, Iterator[Action]]]:
        """The very steps of a bake, told another digest than that of the file which they bring."""
        brought = str(ROOT / "LICENSE")
        archive = {"archive": brought, "image": "x:1", "sha256": WRONG, "unpacked_gib": 0.1}
        yield "container", containers(self._variants(server__container=archive), Materials("wrong"))
        file = {"name": "wrong.npz", "url": f"file:{brought}", "sha256": WRONG, "bytes": 1}
        yield "weights", weights(self._variants(weights__files=[file]), Materials("wrong"))

    def _check_wrongly(self, booted: Booted) -> None:
        check = {"name": "wrong", "prompt": "What is a drain?", "expect": {"exact": "A drink."}}
        with pytest.raises(CheckFailed) as caught:
            inspect_node(self._variants(checks=[check]), booted)
        self._seen.refusals["check"] = str(caught.value)

    def _reboot(self, booted: Booted) -> None:
        with self._login(booted) as remote:
            remote.run(Command("systemctl --no-block reboot", sudo=True))
        url = f"http://127.0.0.1:{booted.ports[8080]}"
        until(lambda: not answers(f"{url}/ready"), "it did not go down")
        wait_ready(url, deadline_s=READY_S, pause=booted.pause)
        with self._login(booted) as remote:
            self._seen.after = remote.run(IDENTITY).stdout.split("\n")

    def _login(self, booted: Booted) -> SshRemote:
        assert self._seen.run is not None
        console = self._seen.run.directory / "node/console.log"
        return login(console, booted.ports[22], self._builder.key.private)


def _carry_out(remote: Remote, actions: Iterator[Action]) -> None:
    for action in actions:
        if isinstance(action, Upload):
            remote.put(action)
        else:
            remote.run(action)


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory, make_variant: Callable[..., Recipe]) -> Iterator[Golden]:
    skip_without_machines()
    recipe, seen = load(RECIPE), Seen()
    ensure(recipe.path(str(recipe.server.container.archive)))
    state = shared_cache(tmp_path_factory.mktemp("golden"))
    builder = Lent(state)

    def remember(run: Run) -> None:
        seen.run = run

    options = Options(inspect=Interview(builder, make_variant, seen), on_run=remember)
    try:
        manifest = bake(recipe, builder, runs=state / "runs", stack="rehearsal", options=options)
        assert manifest.image is not None
        yield Golden(manifest, Path(manifest.image.id), builder, seen)
    finally:
        if seen.run is not None:
            builder.discard(seen.run, keep_image=False)


def test_the_bake_tells_what_it_made(golden: Golden) -> None:
    """The manifest holds the disk's digest, the checks, and how long a node takes to be ready."""
    assert golden.manifest.image is not None
    assert golden.manifest.image.digest == disk.digest(golden.image)
    assert {check.name for check in golden.manifest.checks} == {check.name for check in load(RECIPE).checks}
    assert (golden.manifest.boot_seconds or 0) > 0


def test_nothing_runs_and_only_the_image_is_left(golden: Golden) -> None:
    """Machines and their disks are gone when a bake is done; its ledger knows of the image alone."""
    run = golden.seen.run
    assert run is not None
    assert run.ledger.outcome == MADE
    assert [resource.kind for resource in run.ledger.standing] == ["image"]
    assert not (run.directory / "builder").exists()
    assert not (run.directory / "node").exists()
    assert machines_in(run.directory) == []


def test_no_secret_of_the_bake_is_anywhere_on_the_disk(golden: Golden) -> None:
    """Neither in a file nor in a block of a deleted one."""
    assert not contains(golden.image, CANARY)


def test_what_is_forbidden_is_not_on_the_disk(golden: Golden) -> None:
    """Also after the bake's own look: nothing of the list, whatever wrote it last."""
    with disk.opened(golden.image) as root:
        assert list(forbidden_in(root)) == []


def test_a_node_has_an_identity_of_its_own(golden: Golden) -> None:
    """A machine id that is not the builder's, and host keys where the image had none."""
    machine_id, _, host_key, *_ = golden.seen.before
    assert len(machine_id) == 32
    assert len(golden.builder.machine_id) == 32
    assert machine_id != golden.builder.machine_id
    assert host_key.startswith("ssh-ed25519 ")


def test_a_node_lets_in_nobody_who_baked_it(golden: Golden) -> None:
    """The only key that opens it is the one that its own seed brought."""
    keys = [line for line in golden.seen.authorized if line.strip() and "command=" not in line]
    assert keys
    assert all(golden.builder.key.public in line for line in keys)


def test_the_engine_is_closed_to_outside(golden: Golden) -> None:
    """It listens on loopback alone; the server's two ports and ssh are all that is open."""
    at_engine = {address for address in golden.seen.listeners if address.endswith(":8000")}
    assert at_engine == {"127.0.0.1:8000"}
    assert not golden.seen.engine_answered
    everywhere = {
        address.rpartition(":")[2]
        for address in golden.seen.listeners
        if address.startswith(("0.0.0.0:", "*:", "[::]:"))
    }
    assert everywhere <= {"22", "8080", "9090"}


def test_a_node_serves_again_after_a_reboot(golden: Golden) -> None:
    """The same machine id and host key, another boot, and ready without being told anything."""
    before, after = golden.seen.before, golden.seen.after
    assert (after[0], after[2]) == (before[0], before[2])
    assert after[1] != before[1]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("container", f"LICENSE: the sha256 is not {WRONG}"),
        ("weights", f"wrong.npz: the sha256 is not {WRONG}"),
        ("check", "check wrong: the answer is"),
    ],
)
def test_what_is_wrong_is_refused_with_the_reason(golden: Golden, what: str, said: str) -> None:
    """On the real machine, the steps refuse another container or file than was meant, the check an answer."""
    assert said in golden.seen.refusals[what]
