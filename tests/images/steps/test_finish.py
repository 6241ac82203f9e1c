from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from images.errors import ManifestError
from images.forbidden import FORBIDDEN
from images.recipe import Recipe
from images.steps.clean import clean, cut_access
from images.steps.command import Command, Facts, Materials, Strategy
from images.steps.inventory import LoadedContainer, Package, ask, parse
from images.steps.order import finish, on_node, provision, record, steps
from images.steps.shell import WEIGHTS
from images.steps.verify import absent, present

Lines = Callable[[Any], list[str]]
RECIPES = ("gateway-cpu", "model-gpu-vllm", "model-gpu-tgi", "model-cpu-llama", "rehearsal")


@pytest.mark.parametrize(
    ("facts", "has", "has_not"),
    [
        ("debian", ["apt-get --quiet clean"], ["dnf"]),
        ("ubuntu", ["apt-get --quiet clean"], ["dnf"]),
        ("amazon", ["dnf --assumeyes clean all", "systemctl stop amazon-ssm-agent.service"], ["apt-get"]),
    ],
)
def test_clean(
    request: pytest.FixtureRequest, lines: Lines, facts: str, has: list[str], has_not: list[str]
) -> None:
    """Each distribution is cleaned with its own tools; every forbidden pattern has its removal."""
    made = lines(clean(request.getfixturevalue(facts)))
    text = "\n".join(made)
    assert all(part in text for part in has)
    assert not any(part in text.replace("/var/cache/dnf", "").replace("/var/lib/dnf", "") for part in has_not)
    for rule in FORBIDDEN:
        assert rule.pattern in text


def test_clean_order(debian: Facts, lines: Lines) -> None:
    """Who writes at shutdown is stopped before what it writes is removed; the machine id comes last."""
    made = lines(clean(debian))

    def at(part: str) -> int:
        return next(index for index, line in enumerate(made) if part in line)

    assert at("docker rm --force") < at("systemctl stop docker.socket")
    assert at("systemctl stop docker.socket") < at("rm -rf /var/lib/docker/containers/*")
    assert at("stop systemd-random-seed.service") < at("rm -rf /var/lib/systemd/random-seed")
    assert at("cloud-init clean") < at("rm -rf /var/lib/cloud/instances/*")
    assert at("--relinquish-var") < at("truncate --size 0 {} +")
    assert made[-2:] == [
        "install -D -m 0444 /dev/stdin /etc/machine-id",
        "fstrim --all --quiet-unsupported 2>/dev/null || true; sync",
    ]


@pytest.mark.parametrize(("user", "home"), [("admin", "/home/admin"), ("root", "/root")])
def test_access_is_cut_last(
    make_recipe: Callable[..., Recipe], materials: Materials, lines: Lines, user: str, home: str
) -> None:
    """Our own key is kept until the very last command, and then removed."""
    facts = Facts("debian", "12", "bookworm", "x86_64", user)
    made = finish(make_recipe("rehearsal"), facts, materials)
    assert [step.name for step in made] == ["verify", "clean", "verify that it is clean", "cut access"]
    assert lines(cut_access(facts)) == [f"rm -rf {home}/.ssh /root/.ssh; sync"]
    own = f"{home}/.ssh/authorized_keys"
    assert any(f'test "$keys" = {own} || rm -f "$keys"' in line for line in lines(clean(facts)))


def run(command: Command, root: Path) -> subprocess.CompletedProcess[str]:
    """The command on a tree of ours in the place of the machine's."""
    line = command.line.replace(" in /", f" in {root}/").replace('test "$1" = /', f'test "$1" = {root}/')
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)


def test_absent(tmp_path: Path, debian: Facts) -> None:
    """The verify command names all that is left at once; our own key is not counted yet."""
    (command,) = absent(debian)
    (tmp_path / "home/admin/.ssh").mkdir(parents=True)
    (tmp_path / "home/admin/.ssh/authorized_keys").write_text("ours")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hostname").write_text("")
    assert run(command, tmp_path).returncode == 0
    (tmp_path / "etc/ssh").mkdir()
    (tmp_path / "etc/ssh/ssh_host_rsa_key").write_text("k")
    (tmp_path / "etc/hostname").write_text("ip-10-0-0-1")
    found = run(command, tmp_path)
    assert found.returncode == 1
    assert sorted(found.stderr.split()) == sorted(
        ["left:", f"{tmp_path}/etc/hostname", "left:", f"{tmp_path}/etc/ssh/ssh_host_rsa_key"]
    )


def test_present(
    make_recipe: Callable[..., Recipe], materials: Materials, debian: Facts, lines: Lines
) -> None:
    """Container, units, weights, record, held kernel and space are asked for, each with its answer."""
    made = lines(present(make_recipe("rehearsal"), debian, materials))
    missing = [line.partition("echo ")[2].partition(" >&2")[0].strip("'") for line in made]
    assert missing == [
        "missing: container goldenfleet-server:local",
        "missing: enabled unit docker.service",
        "missing: enabled unit goldenfleet-firstboot.service",
        "missing: enabled unit goldenfleet-logs.service",
        "missing: enabled unit goldenfleet-server.service",
        "missing: enabled unit goldenfleet-readahead.service",
        "missing: weights weights.npz",
        "missing: /etc/goldenfleet/image.json",
        "missing: /usr/share/goldenfleet/sbom.cdx.json",
        "missing: /usr/local/bin/goldenfleet-boot",
        "missing: a held kernel",
        "missing: 1 GiB of free space: enlarge disk.root_gib",
    ]


def test_a_second_volume_must_be_mounted(
    make_recipe: Callable[..., Recipe], materials: Materials, debian: Facts, lines: Lines
) -> None:
    """Weights beside an unmounted volume, on the root, would not be in its snapshot."""
    given = dataclasses.replace(materials, strategy="baked-volume", weights_device="/dev/nvme1n1")
    made = lines(present(make_recipe("rehearsal"), debian, given))
    assert any(line.startswith(f"mountpoint --quiet {WEIGHTS} ||") for line in made)


@pytest.mark.parametrize("strategy", ["baked-root", "s3-nvme", "s3-stream", None])
def test_nodes_are_asked_about_a_volume_only(
    make_recipe: Callable[..., Recipe], strategy: Strategy | None
) -> None:
    """Weights that are not on a volume of their own are judged by the golden checks alone."""
    assert on_node(make_recipe("rehearsal"), strategy) == ()


def attached_here(make_recipe: Callable[..., Recipe], folder: Path) -> list[Command]:
    """What a node is asked of its weights, for this machine's `folder`; two files of known content."""
    sha = hashlib.sha256(b"weights").hexdigest()
    names = ("a.bin", "deep/b.bin")
    files = [{"name": n, "url": "https://x.org/w", "sha256": sha, "bytes": 7} for n in names]
    (step,) = on_node(make_recipe("rehearsal", weights={"files": files}), "baked-volume")
    return [
        dataclasses.replace(
            command,
            line=command.line.replace(WEIGHTS, str(folder)),
            stdin=(command.stdin or b"").replace(WEIGHTS.encode(), str(folder).encode()),
        )
        for command in step.commands
    ]


def status(command: Command) -> int:
    return subprocess.run(
        ["sh", "-c", command.line], input=command.stdin, capture_output=True, check=False
    ).returncode


def test_a_node_must_have_these_weights(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """Sound files pass; a file too many, one too few and one with other bytes each fail."""
    _, counted, summed = attached_here(make_recipe, tmp_path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "lost+found").mkdir()
    for name in ("a.bin", "deep/b.bin"):
        (tmp_path / name).write_bytes(b"weights")
    assert (status(counted), status(summed)) == (0, 0)
    (tmp_path / "a.bin.part").touch()
    assert status(counted) == 1
    (tmp_path / "a.bin.part").unlink()
    (tmp_path / "a.bin").write_bytes(b"WEIGHTS")
    assert (status(counted), status(summed)) == (0, 1)
    (tmp_path / "a.bin").unlink()
    assert (status(counted), status(summed)) == (1, 1)


def test_a_node_must_not_write_weights(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """A folder on the root, and a volume that can be written, are not what is asked for."""
    for place in (tmp_path, Path("/dev/shm")):
        mounted, *_ = attached_here(make_recipe, place)
        assert status(mounted) == 1


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("machine", ["debian", "ubuntu", "amazon"])
def test_every_command_is_shell(
    request: pytest.FixtureRequest,
    make_recipe: Callable[..., Recipe],
    materials: Materials,
    tmp_path: Path,
    name: str,
    machine: str,
) -> None:
    """Whatever the recipe and the machine: a shell can read every command, and each has a time limit."""
    recipe = make_recipe(name)
    commands = [
        command
        for step in steps(recipe, request.getfixturevalue(machine), materials)
        for command in step.commands
    ]
    script = tmp_path / "all.sh"
    script.write_text("\n".join(f"( {command.line}\n)" for command in commands))
    checked = subprocess.run(["sh", "-n", script], capture_output=True, text=True, check=False)
    assert checked.stderr == ""
    assert all(command.timeout_s > 0 for command in commands)


def test_caches_are_warmed_on_gpus_only(
    make_recipe: Callable[..., Recipe], materials: Materials, ubuntu: Facts
) -> None:
    """Compile caches are filled where the builder has a GPU; elsewhere there is no such step."""
    recipe = make_recipe("model-gpu-vllm")
    gpu = Facts(**{**ubuntu.__dict__, "gpu": True})
    assert "warm compile caches" in [step.name for step in provision(recipe, gpu, materials)]
    assert "warm compile caches" not in [step.name for step in provision(recipe, ubuntu, materials)]


def test_record(lines: Lines) -> None:
    """Manifest and SBOM are written onto the image."""
    (step,) = record({"run_id": "r"}, b"{}\n")
    assert [line.rpartition(" ")[2] for line in lines(step.actions)] == [
        "/etc/goldenfleet/image.json",
        "/usr/share/goldenfleet/sbom.cdx.json",
    ]
    assert json.loads(step.commands[0].stdin or b"") == {"run_id": "r"}


MARK = "-- goldenfleet --\n"


def test_inventory(make_recipe: Callable[..., Recipe], debian: Facts) -> None:
    """One command tells packages, kernel, driver, containers; half-installed packages do not count."""
    recipe = make_recipe("rehearsal")
    packages = "libc6\t2.36-9\tamd64\tii \ncurl\t0:7.88\tamd64\thi \nold\t1\tall\trc \n"
    inspect = json.dumps([{"Id": "sha256:1", "RepoDigests": None, "RepoTags": ["x:1"]}])
    found = parse(MARK.join((packages, "6.1.0\n", "550.1\n", inspect)), recipe)
    assert found.packages == (Package("curl", "7.88", "amd64"), Package("libc6", "2.36-9", "amd64"))
    assert (found.kernel, found.driver) == ("6.1.0", "550.1")
    assert found.containers == (LoadedContainer("goldenfleet-server:local", "sha256:1", ()),)
    line = ask(recipe, debian).line
    assert line.startswith("dpkg-query --show")
    assert line.endswith("docker image inspect goldenfleet-server:local")


def test_inventory_of_rpms(make_recipe: Callable[..., Recipe], amazon: Facts) -> None:
    """Amazon Linux is asked through rpm."""
    assert ask(make_recipe("rehearsal"), amazon).line.startswith("rpm --query --all")


@pytest.mark.parametrize(
    "output",
    ["", "a\tb\n", MARK.join(("a\tb\tc\tii\n", "k", "d", "not json")), MARK.join(("", "k", "d", "[]"))],
)
def test_strange_inventory(make_recipe: Callable[..., Recipe], output: str) -> None:
    """An answer that cannot be read, or lacks a container, makes no manifest."""
    with pytest.raises(ManifestError, match="inventory cannot be read"):
        parse(output, make_recipe("rehearsal"))
