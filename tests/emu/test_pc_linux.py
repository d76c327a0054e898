"""Debian's amd64 kernel on microvm, without KVM: from its first instruction to its last."""

from __future__ import annotations

from pathlib import Path

import pytest

from accel.choice import choose, kvm_obstacle, kvm_slow
from emu import Machine
from emu.drive import open_drive
from emu.net import open_net
from emu.virtio.balloon import VirtioBalloon
from emu.virtio.net import VirtioNet
from emu.virtio.rng import VirtioRng
from tests.emu.linux_guest import Screen, image, initrd

# Seconds; it takes about five on a machine that does nothing else.
PATIENCE = 300


def machine(script, screen, *, virtio=(), append="", modules=(), accel="tcg"):
    return Machine(
        "microvm",
        accel=accel,
        ram=256 << 20,
        kernel=image("amd64"),
        initrd=initrd(script, modules, "amd64"),
        append=f"console=ttyS0 {append}",
        serial=screen,
        virtio=virtio,
    )


def test_the_kernel_boots_with_its_devices_and_powers_off(tmp_path):
    disk = tmp_path / "disk"
    disk.write_bytes(b"from outside".ljust(1 << 20, b"\0"))
    screen = Screen()
    script = """
head -c 12 /dev/vda; echo
echo from inside | dd of=/dev/vda bs=512 seek=1 conv=notrunc 2> /dev/null
sync
head -c 16 /dev/hwrng | wc -c
cat /sys/bus/virtio/drivers/virtio_balloon/*/status
ip -o -4 address show dev eth0
cat /proc/interrupts /sys/class/rtc/rtc0/name /sys/devices/system/clocksource/clocksource0/current_clocksource
dmesg | grep -iE 'bug:|warning|unstable'
"""
    end = open_net("user")
    assert end is not None
    devices = [VirtioRng(), VirtioBalloon(), open_drive(f"{disk},format=raw"), VirtioNet(*end)]
    with machine(script, screen, virtio=devices, append="quiet", modules=None) as guest:
        result = guest.run(timeout=PATIENCE)
    text = screen.text
    assert result.reason == "guest-shutdown", text[-2000:]
    assert disk.read_bytes()[512:523] == b"from inside"
    lines = text.splitlines()
    for line in ("from outside", "16", "0x0000000f", "rtc_cmos 00:02", "tsc"):
        assert any(line in found for found in lines), text
    assert any("10.0.2.15/24" in line for line in lines), text
    chips = {words[-1]: words[2] for words in map(str.split, lines) if len(words) == 5 and "-" in words[3]}
    assert chips["ttyS0"] == "IO-APIC"
    assert "timer" not in chips  # its own APIC's is enough
    assert sum(name.startswith("virtio") for name in chips) == 4, text
    assert int(next(line for line in lines if line.startswith("LOC:")).split()[1]) > 10
    assert not any(word in text for word in ("BUG:", "WARNING", "nstable")), text


def test_the_kernel_boots_under_kvm_and_powers_off():
    """Where KVM emulates kernel mode, with the crossing's help: QEMU ends there with an internal error."""
    if cause := kvm_obstacle():
        pytest.skip(cause)
    screen = Screen()
    script = "sha256sum /proc/version > /dev/null; echo userland; dmesg | grep -iE 'bug:|warning'"
    with machine(script, screen, append="quiet", accel="kvm") as guest:
        result = guest.run(timeout=PATIENCE)
    assert result.reason == "guest-shutdown", screen.text[-2000:]
    assert "userland" in screen.text
    assert not any(word in screen.text for word in ("BUG:", "WARNING")), screen.text


def test_reboot_asks_for_a_reset_and_the_power_button_switches_off():
    screen = Screen()
    with machine(None, screen, append="quiet", modules=("button", "evdev")) as guest:
        result = guest.run(timeout=PATIENCE, until=lambda: "root@emu" in screen.text)
        assert result.reason == "until", screen.text[-2000:]
        screen.type(b"reboot -f\n")
        assert guest.run(timeout=PATIENCE).reason == "guest-reset", screen.text[-2000:]
        guest.reset()
        screen.sent.clear()
        guest.run(timeout=PATIENCE, until=lambda: "root@emu" in screen.text)
        for _ in range(60):  # pressed before anybody listens it does nothing
            guest.powerdown()
            result = guest.run(timeout=5)
            if result.reason != "timeout":
                break
    assert result.reason == "guest-shutdown", screen.text[-2000:]


def test_without_acpi_the_old_parts_are_enough():
    """Its time comes from the 8254 then, one shot at a time, through the 8259s."""
    screen = Screen()
    script = "sleep 0.3; cat /proc/interrupts; ls /sys/bus/serio/devices; reboot -f"
    with machine(script, screen, append="quiet acpi=off") as guest:
        result = guest.run(timeout=PATIENCE)
    lines = screen.text.splitlines()
    assert result.reason == "guest-reset", screen.text[-2000:]
    timer = next(line.split() for line in lines if line.endswith("timer"))
    assert (timer[0], timer[2], int(timer[1]) > 50) == ("0:", "XT-PIC", True)
    assert any(line.split()[-2:] == ["XT-PIC", "ttyS0"] for line in lines)
    assert any("serio0" in line for line in lines)


def test_the_memory_that_it_was_given_is_there_also_above_4_gib():
    screen = Screen()
    with Machine(
        "microvm",
        accel="tcg",
        ram=5 << 30,
        kernel=image("amd64"),
        initrd=initrd("grep MemTotal /proc/meminfo", (), "amd64"),
        append="console=ttyS0 quiet",
        serial=screen,
    ) as guest:
        assert guest.run(timeout=PATIENCE).reason == "guest-shutdown", screen.text[-2000:]
    kib = next(int(line.split()[1]) for line in screen.text.splitlines() if "MemTotal" in line)
    assert kib > 4.8 * (1 << 20)


def test_auto_takes_what_is_faster_and_says_so():
    if kvm_obstacle() or not Path("/sys/module/kvm_pvm").is_dir():
        pytest.skip("only kvm_pvm may emulate a guest's kernel mode, and it is not loaded here")
    slow = kvm_slow()
    name, note = choose("auto", "x86_64", "machine")
    if slow:
        assert (name, note[: note.index(",")]) == ("tcg", f"running under tcg: {slow[: slow.index(',')]}")
    else:
        assert (name, note) == ("kvm", "")
    assert choose("kvm:tcg", "x86_64", "machine") == ("kvm", "")
