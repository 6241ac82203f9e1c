"""What local machines are told, and what is brought to them on disks."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from images.builders.local_bench import first_boot_script
from images.builders.local_materials import MaterialsDisk, copied, materials_disk
from images.builders.local_seeds import builder_seed, node_seed
from images.errors import MachineFailed
from images.keys import make_key_pair
from images.machines.seed import Seed, instance_environment, write_seed
from images.machines.tools import find, packages, run
from images.steps import Command, NamedStep, Upload


def config(text: str) -> dict[str, object]:
    first, _, rest = text.partition("\n")
    assert first == "#cloud-config"
    found: dict[str, object] = json.loads(rest)
    return found


def test_a_missing_program_is_named_with_the_line_that_installs_it() -> None:
    """Every package that a local bake takes is in the hint, for a machine that has none of them."""
    with pytest.raises(MachineFailed, match="no-such-program is not installed") as caught:
        find("no-such-program")
    assert "apt-get install" in caught.value.hint
    assert all(package in caught.value.hint for package in packages())


def test_a_builder_is_told_the_host_key_that_we_pin() -> None:
    """The pinned key is the machine's only one, our key lets us in, and passwords do not."""
    user, host = make_key_pair(), make_key_pair()
    told = config(builder_seed("run", user, host).user_data)
    assert told["ssh_keys"] == {"ed25519_private": host.private.decode(), "ed25519_public": host.public}
    assert told["ssh_deletekeys"] is True
    assert told["ssh_authorized_keys"] == [user.public]
    assert told["ssh_pwauth"] is False


def test_a_node_is_told_what_the_launch_template_tells() -> None:
    """Role and stack, and no key of anybody."""
    seed = node_seed("run", "model", "rehearsal")
    assert seed.user_data.splitlines()[:1] == ["#!/bin/sh"]
    assert "exec goldenfleet-boot --role model --stack rehearsal" in seed.user_data
    assert "ssh" not in seed.user_data + seed.vendor_data


def test_settings_of_one_node_are_roots_alone() -> None:
    """They may hold credentials."""
    (written,) = config(instance_environment("AWS_SECRET_ACCESS_KEY=x\n"))["write_files"]  # type: ignore[misc]
    assert written == {
        "path": "/etc/goldenfleet/instance.env",
        "content": "AWS_SECRET_ACCESS_KEY=x\n",
        "permissions": "0600",
    }


def test_a_seed_is_a_disk_that_cloud_init_finds(tmp_path: Path) -> None:
    """Labelled CIDATA, with the three files, and readable by its owner only."""
    path = tmp_path / "seed.iso"
    write_seed(Seed("i-1", "#!/bin/sh\n", "#cloud-config\n{}\n"), path)
    content = path.read_bytes()
    assert content[0x8028:0x8048].rstrip() == b"CIDATA"
    assert b"instance-id: i-1\nlocal-hostname: i-1\n" in content
    assert path.stat().st_mode & 0o077 == 0
    listing = run("xorriso", "-indev", path, "-find", "/").decode()
    assert all(name in listing for name in ("'/meta-data'", "'/user-data'", "'/vendor-data'"))


def test_local_files_of_a_recipe_travel_on_a_disk(tmp_path: Path, make_recipe) -> None:
    """Archives and file: weights that exist are on it; nothing else is looked for."""
    recipe = make_recipe()
    disk = materials_disk(recipe, tmp_path / "materials.iso")
    weights = recipe.path(recipe.weights.files[0].url)
    assert weights in disk.index
    assert weights.read_bytes() in disk.path.read_bytes()


def test_uploads_from_the_disk_keep_mode_and_odd_names(tmp_path: Path) -> None:
    """The line is quoted, and as root's install has it."""
    line = copied(Upload(tmp_path / "x", "/opt/a target", mode=0o755), "3")
    assert line.endswith("install -m 755 /run/goldenfleet-materials/3 '/opt/a target'")
    assert subprocess.run(["sh", "-n", "-c", line], check=False).returncode == 0


def test_a_bare_node_runs_the_same_steps(tmp_path: Path) -> None:
    """Commands get their input, in order, and user data's own last line comes after them."""
    log = tmp_path / "log"
    steps = (
        NamedStep("one", (Command(f"cat >> {log}", stdin=b'first \'and "$quoted"\n'),)),
        NamedStep("two", (Command(f"echo 'second' >> {log}"),)),
    )
    script = first_boot_script(
        steps, MaterialsDisk(tmp_path / "none", {}), f"#!/bin/sh\nexec echo last >> {log}\n"
    )
    subprocess.run(["sh", "-c", script], check=True)
    assert log.read_text().splitlines() == ['first \'and "$quoted"', "second", "last"]


def test_a_bare_node_stops_at_the_first_failure(tmp_path: Path) -> None:
    """What failed is not followed by a node that pretends to serve."""
    steps = (NamedStep("one", (Command("exit 3"),)),)
    script = first_boot_script(
        steps, MaterialsDisk(tmp_path / "none", {}), f"#!/bin/sh\ntouch {tmp_path}/served\n"
    )
    assert subprocess.run(["sh", "-c", script], check=False).returncode == 3
    assert not (tmp_path / "served").exists()
