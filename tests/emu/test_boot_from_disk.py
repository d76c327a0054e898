"""Firmware finds a system on a disk, as after an installation: EDK2 and U-Boot, virtio by MMIO and by PCI."""

from pathlib import Path

import pytest

import emu.block
from emu import Machine
from emu.virtio.blk import VirtioBlk
from tests.emu.esp import make_disk
from tests.emu.linux_guest import Screen, image, initrd, package
from tests.emu.test_edk2 import edk2
from tests.emu.test_uboot import firmware

MODULES = ("virtio_mmio", "virtio_pci", "virtio_blk")
SCRIPT = "ls -d /sys/firmware/efi; cat /proc/cmdline; grep vda /proc/partitions"
WORDS = "console=ttyAMA0 quiet from-the-disk"


def with_grub() -> dict[str, object]:
    """Debian's boot loader where firmware looks for one, and what it loads."""
    grub = package("grub-efi-arm64-bin") / "usr/lib/grub/arm64-efi/monolithic/grubaa64.efi"
    menu = f"linux /vmlinuz {WORDS}\ninitrd /initrd\nboot\n"
    return {
        "EFI": {"BOOT": {"BOOTAA64.EFI": grub.read_bytes()}, "DEBIAN": {"GRUB.CFG": menu.encode()}},
        "VMLINUZ": image(),
        "INITRD": initrd(SCRIPT, MODULES),
    }


def with_the_kernel_alone() -> dict[str, object]:
    """The kernel as a program of UEFI's, which reads its initial RAM disk itself; EDK2's shell starts it."""
    return {
        "STARTUP.NSH": f"fs0:\r\nkernel.efi initrd=\\initrd {WORDS}\r\n".encode(),
        "KERNEL.EFI": image(),
        "INITRD": initrd(SCRIPT, MODULES),
    }


@pytest.mark.parametrize(
    ("code", "options", "files"),
    [
        pytest.param(edk2, "", with_the_kernel_alone, id="edk2-mmio-kernel"),
        pytest.param(edk2, ",virtio=pci,gic-version=3", with_grub, id="edk2-pci-grub"),
        pytest.param(lambda: firmware("qemu_arm64/u-boot.bin"), "", with_grub, id="u-boot-mmio-grub"),
    ],
)
def test_firmware_starts_what_is_on_the_disk(tmp_path: Path, code, options, files):
    disk = make_disk(tmp_path / "disk", files())
    line = Screen()
    with Machine(
        f"virt{options}", accel="tcg", ram=512 << 20, firmware=code(), serial=line,
        virtio=[VirtioBlk(emu.block.open(disk, format="raw"))],
    ) as machine:  # fmt: skip
        assert machine.run(timeout=400).reason == "guest-shutdown", line.text[-3000:]
    assert "/sys/firmware/efi\n" in line.text
    assert f"{WORDS}\n" in line.text
    assert "131072 vda\n" in line.text
