"""Which accelerator really runs guests on this host: found out by booting one, fastest first.

A device that opens proves nothing: /dev/kvm is there on hosts whose processor cannot virtualize, and every
guest then fails, or crawls.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from images.errors import MachineFailed
from images.machines import qemu, uml
from images.machines.hardware import Accelerator
from images.machines.tools import find, how_to_install, scratch

FASTEST_FIRST: tuple[Accelerator, ...] = ("kvm", "uml", "tcg")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# The guests take 0.1 s with KVM, 0.4 s with TCG and 2.5 s with User-mode Linux; a busy host, ten times that.
# KVM gets less: one that emulates is slower than TCG, and must not win.
_TIME_LIMITS_S: Mapping[Accelerator, float] = {"kvm": 3.0, "uml": 40.0, "tcg": 20.0}


@dataclass(frozen=True)
class Choice:
    accelerator: Accelerator
    refused: Mapping[Accelerator, str]
    """Faster ones, and why they are not taken."""

    def __str__(self) -> str:
        reasons = "; ".join(f"not {name}: {why}" for name, why in self.refused.items())
        return f"{self.accelerator} ({reasons})" if reasons else self.accelerator


Prove = Callable[[Accelerator], str | None]
"""Why it runs no guests; None if it has run one."""


def choose(order: Iterable[Accelerator], prove: Prove) -> Choice:
    """The first that is proved. Raises MachineFailed if there is none."""
    refused: dict[Accelerator, str] = {}
    for accelerator in order:
        why = prove(accelerator)
        if why is None:
            return Choice(accelerator, refused)
        refused[accelerator] = why
    reasons = "; ".join(f"{name}: {why}" for name, why in refused.items())
    raise MachineFailed(
        f"no virtual machine runs here: {reasons}", f"{how_to_install()}; or bake with --on ec2"
    )


def choose_here(cache: Path, only: Accelerator | None = None) -> Choice:
    """Proved on this host since it booted, or now. Raises MachineFailed."""
    if only is not None:
        return choose((only,), prove)
    boot_id = _BOOT_ID.read_text().strip()
    record = cache / "accelerator.json"
    known = _recorded(record, boot_id)
    if known is not None:
        return known
    choice = choose(FASTEST_FIRST, prove)
    cache.mkdir(parents=True, exist_ok=True)
    fresh = record.with_suffix(f".{os.getpid()}")
    fresh.write_text(
        json.dumps({"boot_id": boot_id, "accelerator": choice.accelerator, "refused": dict(choice.refused)})
    )
    fresh.replace(record)
    return choice


def prove(accelerator: Accelerator) -> str | None:
    """Boot a tiny guest. The reason why not is one line."""
    try:
        return _prove_uml() if accelerator == "uml" else _prove_qemu(accelerator)
    except MachineFailed as exc:
        return exc.message


def _prove_qemu(accelerator: qemu.QemuAccelerator) -> str | None:
    if accelerator == "kvm" and not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "/dev/kvm is not there for us"
    with scratch("proof") as directory:
        status, said = _watched(qemu.proof(accelerator, directory), None, _TIME_LIMITS_S[accelerator])
    return None if status == qemu.PROOF_EXIT else f"its guest did not run: {_reason(status, said)}"


def _prove_uml() -> str | None:
    find("qemu-system-x86_64")
    if not uml.MODULES.is_dir():
        return f"{uml.MODULES} is not there: Docker needs its modules"
    argv, word = uml.proof()
    status, said = _watched(argv, word, _TIME_LIMITS_S["uml"])
    return None if word in said else f"its guest did not run: {_reason(status, said)}"


def _watched(argv: tuple[str, ...], word: bytes | None, limit_s: float) -> tuple[int | None, bytes]:
    """Exit status and output; ended when it says the word or at the limit, and then the status is None."""
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={"PATH": os.defpath, **uml.environment()},
    )
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    said, status, ends = b"", None, time.monotonic() + limit_s
    try:
        while status is None and time.monotonic() < ends and (word is None or word not in said):
            time.sleep(0.02)
            status = process.poll()
            said += process.stdout.read() or b""
    finally:
        _end(process)
    return status, said


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.communicate()


def _reason(status: int | None, said: bytes) -> str:
    lines = said.decode("utf-8", "replace").strip().splitlines()
    last = next(
        (line for line in lines if "error" in line.lower()), lines[-1] if lines else "it said nothing"
    )
    how = "it did not end in time" if status is None else f"status {status}"
    return f"{how}, {last[:200]}"


def _recorded(record: Path, boot_id: str) -> Choice | None:
    try:
        known = json.loads(record.read_text())
        if known["boot_id"] != boot_id:
            return None
        return Choice(known["accelerator"], known["refused"])
    except (OSError, ValueError, KeyError, TypeError):
        # Not there yet, or of an older version: it is proved again.
        return None
