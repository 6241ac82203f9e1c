"""A machine of QEMU's, with KVM or without. The disk has no boot loader: its own kernel is handed over."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from images.machines.disk import boot_files
from images.machines.hardware import Hardware, Program, Programs
from images.machines.network import slirp
from images.machines.tools import find, run

QemuAccelerator = Literal["kvm", "tcg"]
_ACCELERATION = {
    "kvm": ("-accel", "kvm", "-cpu", "host"),
    "tcg": ("-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max"),
}
_COMMON = ("-nodefaults", "-no-user-config", "-display", "none")
_PROOF_STATUS = 42
# mov al, 42; out 0xf4, al; hlt; jump back to hlt. Port 0xf4 ends QEMU with status 2 * 42 + 1.
_BOOT_SECTOR = bytes([0xB0, _PROOF_STATUS, 0xE6, 0xF4, 0xF4, 0xEB, 0xFD]).ljust(510, b"\0") + b"\x55\xaa"
PROOF_EXIT = 2 * _PROOF_STATUS + 1


def programs(hardware: Hardware, accelerator: QemuAccelerator) -> Programs:
    """What to run for this machine. Raises MachineFailed when the disk holds no kernel."""
    kernel, initrd = boot_files(hardware.disk, hardware.directory)
    argv = (
        find("qemu-system-x86_64"),
        *_COMMON,
        *("-machine", "q35", *_ACCELERATION[accelerator]),
        *("-smp", str(hardware.processors), "-m", str(hardware.memory_mib)),
        *("-serial", f"file:{hardware.console}"),
        *("-kernel", str(kernel), "-initrd", str(initrd)),
        *("-append", "root=LABEL=root ro console=ttyS0 quiet net.ifnames=0 random.trust_cpu=on"),
        *_root_disk(hardware),
        *(part for number, disk in enumerate(hardware.read_only_disks) for part in _read_only(number, disk)),
        *("-device", "virtio-rng-pci"),
        *("-netdev", slirp(hardware), "-device", "virtio-net-pci,netdev=user,romfile="),
    )
    return Programs(main=Program(argv, hardware.directory / "qemu.log"))


def proof(accelerator: QemuAccelerator, directory: Path) -> tuple[str, ...]:
    """A guest of seven instructions, that ends QEMU with PROOF_EXIT."""
    sector = directory / "proof.img"
    sector.write_bytes(_BOOT_SECTOR)
    return (
        find("qemu-system-x86_64"),
        *_COMMON,
        *("-machine", "pc", *_ACCELERATION[accelerator], "-m", "32", "-no-reboot"),
        *("-device", "isa-debug-exit,iobase=0xf4,iosize=1"),
        *("-drive", f"file={sector},format=raw,if=ide,snapshot=on"),
    )


def _root_disk(hardware: Hardware) -> tuple[str, ...]:
    path, kind = hardware.disk, "raw"
    if hardware.overlay:
        path, kind = hardware.overlay_path, "qcow2"
        if not path.exists():
            run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", hardware.disk.resolve(), path)
    drive = f"file={path},format={kind},if=none,id=root,discard=unmap,detect-zeroes=unmap,cache=unsafe"
    return ("-drive", drive, "-device", "virtio-blk-pci,drive=root")


def _read_only(number: int, disk: Path) -> tuple[str, ...]:
    drive = f"file={disk},format=raw,if=none,id=more{number},readonly=on"
    return ("-drive", drive, "-device", f"virtio-blk-pci,drive=more{number}")
