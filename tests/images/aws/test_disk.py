"""The search of an image's disk from a node: the same findings as where the disk lies on this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from images.builders.ec2_disk import search, search_script
from images.forbidden import FORBIDDEN, forbidden_in


def found_by_shell(root: Path) -> list[str]:
    done = subprocess.run(["sh", "-eu", "-c", search(str(root))], capture_output=True, text=True, check=True)
    return sorted(line.partition(":")[0] for line in done.stdout.splitlines())


def found_by_python(root: Path) -> list[str]:
    return sorted(line.partition(":")[0] for line in forbidden_in(root))


def put(root: Path, path: str, content: str = "x") -> None:
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(content)


def clean_disk(root: Path) -> Path:
    put(root, "/etc/machine-id", "uninitialized\n")
    put(root, "/etc/hostname", "")
    put(root, "/var/log/auth.log", "")
    (root / "tmp").mkdir()
    (root / "home/admin/.ssh").mkdir(parents=True)
    return root


def test_a_clean_disk_has_nothing(tmp_path: Path) -> None:
    """On a cleaned disk neither search finds anything, empty logs and a reset machine id included."""
    assert found_by_shell(clean_disk(tmp_path)) == found_by_python(tmp_path) == []


@pytest.mark.parametrize("rule", FORBIDDEN, ids=lambda rule: rule.pattern)
def test_every_rule_is_searched_for(rule: object, tmp_path: Path) -> None:
    """Whatever is forbidden is found on the disk by the shell exactly as by the table itself."""
    pattern = next(each.pattern for each in FORBIDDEN if each is rule)
    path = pattern.replace("/home/*", "/home/ad min").replace("*", "one")
    put(clean_disk(tmp_path), path)
    assert found_by_shell(tmp_path) == found_by_python(tmp_path) == [path]


def test_a_machine_id_is_found(tmp_path: Path) -> None:
    """A machine id that every node would share is found."""
    put(clean_disk(tmp_path), "/etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    assert found_by_shell(tmp_path) == found_by_python(tmp_path) == ["/etc/machine-id"]


def test_the_whole_script_is_shell() -> None:
    """The script that mounts and searches is syntactically sound, and never writes to the disk."""
    script = search_script("vol-0123456789abcdef0")
    subprocess.run(["sh", "-n", "-c", script], check=True)
    assert "vol0123456789abcdef0" in script
    assert all("-o ro," in line for line in script.splitlines() if line.startswith("mount"))
