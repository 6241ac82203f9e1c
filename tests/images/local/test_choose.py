"""Which accelerator is taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from images.errors import MachineFailed
from images.machines.choose import FASTEST_FIRST, Choice, choose, choose_here
from images.machines.hardware import Accelerator


def only(works: Accelerator):
    return lambda accelerator: None if accelerator == works else f"{accelerator} did not boot"


def test_nothing_that_boots_is_an_error_that_names_every_reason() -> None:
    """Without any proof the message says why each was refused, and the hint what else can be done."""
    with pytest.raises(MachineFailed, match=r"kvm: kvm broke; uml: uml broke; tcg: tcg broke") as caught:
        choose(FASTEST_FIRST, lambda accelerator: f"{accelerator} broke")
    assert "--on ec2" in caught.value.hint


@pytest.mark.parametrize("works", FASTEST_FIRST)
def test_the_fastest_that_boots_is_taken(works: Accelerator) -> None:
    """What comes before it is refused with its reason, and what comes after is not even tried."""
    choice = choose(FASTEST_FIRST, only(works))
    assert choice.accelerator == works
    assert list(choice.refused) == list(FASTEST_FIRST[: FASTEST_FIRST.index(works)])


def test_a_choice_says_why_nothing_faster_was_taken() -> None:
    """What a person reads names the accelerator and each faster one with its reason."""
    assert str(choose(FASTEST_FIRST, only("uml"))) == "uml (not kvm: kvm did not boot)"


def test_a_proof_holds_for_as_long_as_the_host_is_up(tmp_path: Path) -> None:
    """A record of this boot is believed; one of another boot, or a broken one, would be proved again."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    record = {"boot_id": boot_id, "accelerator": "tcg", "refused": {"kvm": "written by the test"}}
    (tmp_path / "accelerator.json").write_text(json.dumps(record))
    assert choose_here(tmp_path) == Choice("tcg", {"kvm": "written by the test"})
