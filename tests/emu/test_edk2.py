"""Debian's EDK2 on the aarch64 board: its shell, its variables, and the kernels that firmware starts."""

import pytest

from emu import Machine
from tests.emu.linux_guest import Screen, image, initrd, package
from tests.emu.test_uboot import firmware as u_boot

PROMPT = b"Shell> "
SCRIPT = "echo; ls -d /sys/firmware/*; echo ran: $(cat /proc/cmdline)"


def edk2() -> str:
    return str(package("qemu-efi-aarch64") / "usr/share/AAVMF/AAVMF_CODE.fd")


class Shell:
    """EDK2's shell on a terminal."""

    def __init__(self, terminal, *options):
        self.terminal = terminal("--firmware", edk2(), "-m", "256", *options)
        self.terminal.wait_for(b"any other key to continue")
        self.terminal.type(b"\x1b")
        self.terminal.wait_for(PROMPT)

    def command(self, words):
        self.terminal.type(words.encode() + b"\r")
        self.terminal.wait_for(b"\n")
        return self.terminal.wait_for(PROMPT).decode()


def test_edk2_gives_its_shell_and_keeps_variables(terminal, tmp_path):
    variables = ("--firmware-vars", str(tmp_path / "vars"))
    shell = Shell(terminal, *variables)
    assert "UEFI v2." in shell.command("ver")
    # "-m 256", as the device tree says it.
    assert "256 MB (268,435,456 Bytes)" in shell.command("memmap")
    shell.command("setvar Kept -guid 11111111-2222-3333-4444-555555555555 -bs -nv =CAFE")
    shell.terminal.type(b"reset -s\r")
    assert shell.terminal.ended() == 0
    shell = Shell(terminal, *variables)
    assert "CA FE" in shell.command("setvar Kept -guid 11111111-2222-3333-4444-555555555555")
    shell.terminal.type(b"reset\r")
    shell.terminal.wait_for(b"UEFI firmware")
    shell.terminal.type(b"\x01x")
    assert shell.terminal.ended() == 0


@pytest.mark.parametrize("firmware", [edk2, lambda: u_boot("qemu_arm64/u-boot.bin")], ids=["edk2", "u-boot"])
def test_firmware_starts_the_kernel_that_the_machine_offers(firmware):
    line = Screen()
    with Machine(
        "virt", accel="tcg", ram=512 << 20, firmware=firmware(), kernel=image(), serial=line,
        initrd=initrd(SCRIPT), append="console=ttyAMA0 quiet through-firmware",
    ) as machine:  # fmt: skip
        assert machine.run(timeout=400).reason == "guest-shutdown", line.text
    assert "ran: console=ttyAMA0 quiet through-firmware" in line.text
    assert ("/sys/firmware/efi" in line.text) == (firmware is edk2)
