"""Debian's arm64 kernel from its first instruction to its last, by every way that this engine has."""

from __future__ import annotations

import gzip

import pytest

from emu import Machine
from tests.emu.linux_guest import Screen, image, initrd

# Seconds; the slowest way takes about ten on a machine that does nothing else.
PATIENCE = 300


def boot(board: str, script: str, *, kernel=None, append: str = "") -> tuple[str, str]:
    """Boots it, runs the script in its first process; why the run ended, and all that was printed."""
    screen = Screen()
    with Machine(
        board,
        arch="aarch64",
        ram=256 << 20,
        kernel=kernel or image(),
        initrd=initrd(script, ()),
        append=f"console=ttyAMA0 {append}",
        serial=screen,
    ) as machine:
        result = machine.run(timeout=PATIENCE)
    return result.reason, screen.text


@pytest.mark.parametrize("path", ["private", "public"])
@pytest.mark.parametrize(
    ("board", "interrupts", "timer"),
    [
        ("virt", "GIC-0", 27),
        ("virt,gic-version=3", "GICv3", 27),
        ("virt,virtualization=on", "GICv2", 30),
        ("virt,virtualization=on,gic-version=3", "GICv3", 30),
    ],
)
def test_the_kernel_boots_and_powers_off(monkeypatch, path, board, interrupts, timer):
    if path == "public" and "virtualization" in board:
        pytest.skip("the public path takes exceptions to EL1 alone")
    monkeypatch.setenv("EMU_TCG_PATH", path)
    reason, text = boot(board, "cat /proc/interrupts")
    assert reason == "guest-shutdown", text[-2000:]
    line = next(line for line in text.splitlines() if line.endswith("arch_timer"))
    assert line.split()[2:4] == [interrupts, str(timer)]
    assert ("kvm [1]: Hyp mode initialized successfully" in text) == ("virtualization" in board)


def test_a_compressed_kernel_and_its_command_line():
    _, text = boot("virt", "cat /proc/cmdline", kernel=gzip.compress(image(), 1), append="quiet only.here=17")
    assert text.startswith("console=ttyAMA0 quiet only.here=17\n")


def test_reboot_asks_for_a_reset():
    reason, text = boot("virt", "reboot -f", append="quiet")
    assert reason == "guest-reset", text[-2000:]
