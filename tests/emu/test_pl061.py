"""PL061, register by register as its manual (DDI 0190B, chapter 3) has it, and the power button behind it."""

import random

import pytest

from accel.errors import DeviceError
from emu import Machine
from emu.devices.pl061 import PRESS, Pl061
from tests.emu.linux_guest import Screen, image, initrd
from tests.emu.qtest import Qtest

DIR, IS, IBE, IEV, IE, RIS, MIS, IC, AFSEL = range(0x400, 0x424, 4)
BASE = 0x0903_0000


@pytest.fixture
def gpio(bench):
    return bench.attach(Pl061())


def test_the_address_of_a_data_access_masks_it(bench, gpio):
    bench.write(DIR, 0xFF)
    bench.write(0x3FC, 0xFF)
    bench.write(0x0F << 2, 0)
    assert bench.read(0x3FC) == 0xF0
    assert bench.read(0x30 << 2) == 0x30
    assert bench.read(0) == 0


def test_inputs_are_read_and_not_written(bench, gpio):
    bench.write(DIR, 0x0F)
    gpio.drive(5, 1)
    bench.write(0x3FC, 0xC3)
    assert bench.read(0x3FC) == 0x23


@pytest.mark.parametrize(("both", "rising", "wanted"), [(0, 0, [0, 1]), (0, 8, [1, 0]), (8, 0, [1, 1])])
def test_an_edge_interrupts_as_chosen_and_stays_until_it_is_cleared(bench, gpio, both, rising, wanted):
    bench.write(IBE, both)
    bench.write(IEV, rising)
    bench.write(IE, 8)
    for level, told in zip((1, 0), wanted, strict=True):
        gpio.drive(3, level)
        assert bench.read(RIS) == bench.read(MIS) == 8 * told
        assert bench.irq.level == told
        bench.write(IC, 8)
        assert bench.read(RIS) == bench.irq.level == 0


def test_a_level_interrupts_while_it_lasts(bench, gpio):
    bench.write(IS, 8)
    bench.write(IEV, 8)
    gpio.drive(3, 1)
    assert (bench.read(RIS), bench.read(MIS), bench.irq.level) == (8, 0, 0)
    bench.write(IE, 8)
    bench.write(IC, 8)
    assert bench.irq.level == 1
    gpio.drive(3, 0)
    assert (bench.read(RIS), bench.irq.level) == (0, 0)


def test_outputs_do_not_interrupt(bench, gpio):
    for register in (DIR, IBE, IE):
        bench.write(register, 0xFF)
    bench.write(0x3FC, 0xFF)
    assert bench.read(RIS) == 0


def test_a_pressed_key_is_released_after_a_moment(bench, gpio):
    bench.write(IBE, 8)
    gpio.press(3)
    assert bench.read(0x3FC) == 8
    bench.write(IC, 8)
    bench.advance(PRESS)
    assert bench.read(0x3FC) == 0
    assert bench.read(RIS) == 8


def test_its_state_comes_back(bench, gpio):
    bench.write(IBE, 0xFF)
    bench.write(DIR, 0x80)
    bench.write(0x3FC, 0x80)
    gpio.press(3)
    saved = gpio.save()
    gpio.power_on()
    assert bench.read(0x3FC) == 0
    gpio.load(saved)
    assert bench.read(0x3FC) == 0x88
    assert bench.read(RIS) == 8
    bench.advance(PRESS)
    assert bench.read(0x3FC) == 0x80


@pytest.mark.parametrize("seed", range(4))
def test_its_registers_answer_like_qemus(bench, gpio, seed):
    """Levels are left out: QEMU keeps their interrupts until they are cleared."""
    theirs = Qtest("aarch64", "-M", "virt")
    rng = random.Random(seed)
    direction = rng.getrandbits(8)
    theirs.write(BASE + DIR, direction)
    bench.write(DIR, direction)
    for _ in range(300):
        register = rng.choice((DIR, IBE, IEV, IE, RIS, MIS, AFSEL, 0xFE0, 0xFE4, 0xFF0, 0xFFC, None))
        mask = rng.getrandbits(8) & direction
        at = mask << 2 if register is None else register
        if rng.random() < 0.5 or register == DIR:
            assert theirs.read(BASE + at) == bench.read(at), hex(at)
        else:
            value = rng.getrandbits(8)
            theirs.write(BASE + at, value)
            bench.write(at, value)
    theirs.close()


def test_a_board_without_a_power_button_says_so():
    riscv = Machine("virt", arch="riscv64", accel="tcg")
    with riscv, pytest.raises(DeviceError, match="no power button"):
        riscv.powerdown()


def test_linux_sees_the_power_button_pressed():
    script = "exec 3< /dev/input/event0\necho WAITS\nhead -c 24 <&3 | od -t x2\necho PRESSED"
    line = Screen()
    with Machine(
        "virt", accel="tcg", ram=256 << 20, kernel=image(), serial=line,
        initrd=initrd(script, ("gpio_keys", "evdev")), append="console=ttyAMA0 quiet",
    ) as machine:  # fmt: skip
        assert machine.run(timeout=300, until=lambda: b"WAITS" in line.sent).reason == "until", line.text
        machine.powerdown()
        assert machine.run(timeout=100).reason == "guest-shutdown", line.text
    # A key event (EV_KEY), KEY_POWER, down.
    assert " 0001 0074 0001 0000" in line.text
    assert "PRESSED" in line.text
