"""The keyboard controller without a keyboard, port 92h, and the ways in which a PC is reset."""

import pytest

from accel.irq import IrqLine
from emu import Machine
from emu.devices.i8042 import I8042, Port92
from tests.conftest import usable
from tests.emu.linux_guest import Screen
from tests.emu.test_pc_linux import PATIENCE, machine

OUTPUT, TESTED, COMMAND, AUXILIARY, TIME_OUT = 0x01, 0x04, 0x08, 0x20, 0x40


def answer(bench):
    """The status' bits besides the lock, and the byte that waits."""
    return bench.read(4, 1) & ~0x10, bench.read(0, 1)


@pytest.fixture
def controller(bench):
    return bench.attach(I8042(), irq=False)


def test_the_self_test_passes(bench, controller):
    assert bench.read(4, 1) == 0x10
    bench.write(4, 0xAA, 1)
    assert answer(bench) == (OUTPUT | TESTED | COMMAND, 0x55)
    assert bench.read(4, 1) & OUTPUT == 0


@pytest.mark.parametrize(("port", "bits"), [(0, 0), (0xD4, AUXILIARY)])
def test_a_device_that_is_not_there_is_told_at_once(bench, controller, port, bits):
    if port:
        bench.write(4, port, 1)
    bench.write(0, 0xFF, 1)
    assert answer(bench) == (OUTPUT | TIME_OUT | bits, 0xFE)
    assert answer(bench)[0] == 0


def test_both_interrupts_follow_the_output_and_the_command_byte(bench):
    lines = {"irq": IrqLine(), "auxiliary": IrqLine()}
    levels = dict.fromkeys(lines, 0)
    for name, line in lines.items():
        line.connect(lambda level, name=name: levels.update({name: level}))
    device = I8042()
    bench.attach(device, irq=False)
    device.connect(lines)
    device.power_on()
    for command, name in ((0xD2, "irq"), (0xD3, "auxiliary")):
        bench.write(4, command, 1)
        bench.write(0, 0x5A, 1)
        assert levels == {**dict.fromkeys(lines, 0), name: 1}
        assert bench.read(0, 1) == 0x5A
        assert levels == dict.fromkeys(lines, 0)
    bench.write(4, 0x60, 1)
    bench.write(0, 0, 1)
    bench.write(4, 0xD2, 1)
    bench.write(0, 0x5A, 1)
    assert levels == dict.fromkeys(lines, 0)


def test_a20_is_open_whatever_is_written(bench, controller):
    for value in (0xDD, 0xDF):
        bench.write(4, value, 1)
    bench.write(4, 0xD1, 1)
    bench.write(0, 0xDD, 1)
    bench.write(4, 0xD0, 1)
    assert answer(bench)[1] & 3 == 3
    assert bench.ended == []


@pytest.mark.parametrize("writes", [[(4, 0xFE)], [(4, 0xF0)], [(4, 0xD1), (0, 0xFE)]])
def test_the_pin_that_resets(bench, controller, writes):
    for offset, value in writes:
        bench.write(offset, value, 1)
    assert bench.ended == ["reset"]


def test_port_92_resets_on_a_rise_and_has_a20_on(bench):
    bench.attach(Port92(), irq=False)
    assert bench.read(0, 1) == 2
    bench.write(0, 0, 1)
    assert bench.read(0, 1) == 2
    bench.write(0, 3, 1)
    bench.write(0, 3, 1)
    assert bench.ended == ["reset"]


# Each ends in a jump to itself, should nothing happen.
RESETS = {
    "keyboard controller": "b0fe e664",  # mov al, 0xfe; out 0x64, al
    "output port": "b0d1 e664 b0fe e660",  # 0xd1 to 0x64, 0xfe to 0x60
    "port 92h": "b001 e692",  # mov al, 1; out 0x92, al
    "port CF9h": "66baf90c b006 ee",  # mov dx, 0xcf9; mov al, 6; out dx, al
    "ACPI": "66ba0c06 b001 ee",  # mov dx, 0x60c; mov al, 1; out dx, al
    "triple fault": "0f011d05000000 0f0b",  # lidt [zeros]; ud2
}


@pytest.mark.parametrize("way", RESETS)
def test_every_way_resets_the_machine_under_every_accelerator(accel, way):
    code = bytes.fromhex(RESETS[way]) + b"\xeb\xfe"
    with Machine("microvm", accel=accel.name, kernel=code + bytes(32)) as guest:
        for _ in range(2):
            result = guest.run(timeout=PATIENCE)
            assert (result.reason, result.text.partition(" at ")[0]) == (
                "guest-reset",
                way if way == "triple fault" else "",
            )
            guest.reset()


@pytest.mark.parametrize(("way", "part"), [("k", "keyboard"), ("p", "pci"), ("t", None)])
def test_linux_reboots_in_every_way(way, part):
    usable("tcg")
    screen, used = Screen(), []
    with machine("echo up; reboot -f", screen, append=f"quiet reboot={way}") as guest:
        for name, attached in guest.ports.attached.items():
            context = attached.device.context
            context.reset = lambda name=name, reset=context.reset: (used.append(name), reset())
        result = guest.run(timeout=PATIENCE)
    assert "up\n" in screen.text
    assert (result.reason, "triple" in result.text) == ("guest-reset", way == "t"), screen.text[-2000:]
    assert used[:1] == ([part] if part else [])
