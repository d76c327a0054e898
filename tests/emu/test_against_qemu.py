"""The same random accesses on QEMU's devices and on ours give the same answers.

QEMU's machine does not run, so its guest time stands still, as ours does.
"""

import random
from collections.abc import Iterator

import pytest

from emu.devices.gicv2 import Gicv2
from emu.devices.gicv3 import Gicv3, Gicv3Redistributors
from emu.devices.i8042 import I8042
from emu.devices.i8254 import I8254
from emu.devices.i8259 import Pics
from emu.devices.pl011 import Pl011
from emu.devices.plic import Plic
from emu.devices.uart16550 import Uart16550
from tests.emu.conftest import BASE, Bench
from tests.emu.qtest import Qtest

SEEDS = range(4)
BYTES = (0, 1, 0x10, 0x80, 0xFF)


@pytest.fixture
def pc() -> Iterator[Qtest]:
    made = Qtest("x86_64", "-M", "pc", "-serial", "null")
    yield made
    made.close()


@pytest.fixture
def virt() -> Iterator[Qtest]:
    made = Qtest("aarch64", "-M", "virt", "-serial", "null")
    yield made
    made.close()


@pytest.fixture
def riscv() -> Iterator[Qtest]:
    made = Qtest("riscv64", "-M", "virt", "-serial", "null")
    yield made
    made.close()


class Twins:
    """One access on both, with a log for the message when they differ."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def same(self, what: str, theirs: int, ours: int) -> None:
        self.log.append(f"{what} {theirs:#x}")
        assert theirs == ours, f"QEMU {theirs:#x}, ours {ours:#x}, after {self.log[-12:]}"


@pytest.mark.parametrize("seed", SEEDS)
def test_uart16550_answers_like_qemus(bench: Bench, pc: Qtest, seed: int) -> None:
    bench.attach(Uart16550())
    rng = random.Random(seed)
    twins = Twins()
    pc.outb(0x3FC, 0)  # QEMU starts with OUT2 set, the data sheet with none
    bench.write(4, 0, 1)
    for _ in range(300):
        register = rng.randrange(8)
        value = rng.choice((*BYTES, rng.randrange(256)))
        if rng.random() < 0.5:
            if register == 0 and not bench.read(3, 1) & 0x80 and not bench.space.peek(BASE + 5, 1)[0] & 1:
                continue  # what an empty receiver reads as is not defined
            # QEMU's loopback has no changes of modem lines; the data sheet's (8.6.7) has.
            mask = 0xF0 if register == 6 else 0xFF
            twins.same(f"read {register}", pc.inb(0x3F8 + register) & mask, bench.read(register, 1) & mask)
        else:
            value &= {1: 0xF7, 2: 0xF7, 4: 0x1F}.get(register, 0xFF)
            if register == 3 and rng.random() < 0.7:
                value &= 0x7F
            twins.log.append(f"write {register} {value:#x}")
            pc.outb(0x3F8 + register, value)
            bench.write(register, value, 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_pl011_registers_answer_like_qemus(bench: Bench, virt: Qtest, seed: int) -> None:
    bench.attach(Pl011())
    rng = random.Random(seed)
    twins = Twins()
    registers = (0x18, 0x20, 0x24, 0x28, 0x2C, 0x30, 0x34, 0x38, 0x3C, 0x40, 0x44, 0xFE0, 0xFE4, 0xFF0, 0xFFC)
    for _ in range(300):
        register = rng.choice(registers)
        if rng.random() < 0.5:
            if register == 0x44:
                continue
            twins.same(f"read {register:#x}", virt.read(0x0900_0000 + register), bench.read(register))
        else:
            # What is written in reserved bits, and loopback, which QEMU 7.2 has not, is left out.
            mask = {0x20: 0xFF, 0x24: 0xFFFF, 0x28: 0x3F, 0x2C: 0xFE, 0x30: 0x301, 0x34: 0x3F}.get(
                register, 0x7FF
            )
            value = rng.getrandbits(32) & mask
            twins.log.append(f"write {register:#x} {value:#x}")
            virt.write(0x0900_0000 + register, value)
            bench.write(register, value)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_keyboard_controller_answers_like_qemus(bench: Bench, pc: Qtest, seed: int) -> None:
    bench.attach(I8042(), irq=False)
    rng = random.Random(seed)
    twins = Twins()

    def put(offset: int, value: int) -> None:
        twins.log.append(f"write {offset} {value:#x}")
        pc.outb(0x60 + offset, value)
        bench.write(offset, value, 1)

    for _ in range(200):
        command = rng.choice((0x20, 0x60, 0xA7, 0xA8, 0xA9, 0xAA, 0xAB, 0xAD, 0xAE, 0xC0, 0xD0, 0xD2, 0xD3))
        put(4, command)
        if command in (0x60, 0xD2, 0xD3):
            put(0, rng.choice((*BYTES, rng.randrange(256))))
        # QEMU's never tells what was written last, a command or data.
        twins.same("status", pc.inb(0x64) & 0xF7, bench.read(4, 1) & 0xF7)
        if bench.space.peek(BASE + 4, 1)[0] & 1:
            twins.same("data", pc.inb(0x60), bench.read(0, 1))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_pics_answer_like_qemus(bench: Bench, pc: Qtest, seed: int) -> None:
    pics = Pics()
    for name, device, base in (("m", pics.master, 0x20), ("s", pics.slave, 0xA0), ("e", pics.elcr, 0x4D0)):
        bench.bus.attach(name, device, base)
        device.power_on()
    rng = random.Random(seed)
    twins = Twins()

    def put(port: int, value: int) -> None:
        twins.log.append(f"out {port:#x} {value:#x}")
        pc.outb(port, value)
        bench.space.write(port, 1, value)

    for base, cascade, vector in ((0x20, 4, 0x08), (0xA0, 2, 0x70)):
        for offset, value in ((0, 0x11), (1, vector), (1, cascade), (1, 1)):
            put(base + offset, value)
    for _ in range(300):
        port = rng.choice((0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1))
        if rng.random() < 0.5:
            twins.same(f"in {port:#x}", pc.inb(port), bench.space.read(port, 1))
        else:
            value = rng.getrandbits(8)
            if port in (0x20, 0xA0):
                value &= 0xEB  # neither ICW1 nor poll: their answers depend on the lines of QEMU's board
            put(port, value)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_timers_control_words_and_latches_answer_like_qemus(bench: Bench, pc: Qtest, seed: int) -> None:
    bench.attach(I8254())
    rng = random.Random(seed)
    twins = Twins()

    def put(port: int, value: int) -> None:
        twins.log.append(f"out {port} {value:#x}")
        pc.outb(0x40 + port, value)
        bench.write(port, value, 1)

    for _ in range(60):
        counter = rng.randrange(3)
        access = rng.choice((1, 2, 3))
        put(3, counter << 6 | access << 4 | rng.choice((2, 3)) << 1)
        for _ in range(2 if access == 3 else 1):
            put(counter, rng.getrandbits(8) | 2)
        if rng.random() < 0.5:
            put(3, counter << 6)
        for _ in range(2 if access == 3 else 1):
            twins.same(f"in {counter}", pc.inb(0x40 + counter), bench.read(counter, 1))
        put(3, 0xE0 | 2 << counter)  # read back: the status
        # Bit 7, the output: QEMU's is low where the data sheet's mode 2 has it high.
        twins.same(f"status {counter}", pc.inb(0x40 + counter) & 0x7F, bench.read(counter, 1) & 0x7F)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_plics_registers_answer_like_qemus(bench: Bench, riscv: Qtest, seed: int) -> None:
    bench.attach(Plic(sources=96, harts=1), irq=False, base=0x0C00_0000)
    rng = random.Random(seed)
    twins = Twins()
    places = [4 * n for n in (1, 2, 10, 95)] + [
        0x1000,
        0x1004,
        0x2000,
        0x2004,
        0x2080,
        0x20_0000,
        0x20_1000,
        0x20_0004,
    ]
    for _ in range(200):
        place = 0x0C00_0000 + rng.choice(places)
        if rng.random() < 0.5:
            twins.same(f"read {place:#x}", riscv.read(place), bench.space.read(place, 4))
        else:
            value = rng.choice((0, 2, 6, rng.getrandbits(32) & ~1))  # there is no source 0
            if place & 0xFFF_FFF < 0x1000 or place & 0xFFFFF == 0:
                value &= 7
            twins.log.append(f"write {place:#x} {value:#x}")
            riscv.write(place, value)
            bench.space.write(place, 4, value)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_gics_distributor_answers_like_qemus(bench: Bench, virt: Qtest, seed: int) -> None:
    bench.attach(Gicv2(), irq=False, base=0x0800_0000)
    rng = random.Random(seed)
    twins = Twins()
    places = (
        *range(0x000, 0x00C, 4),
        *range(0x080, 0x0A4, 4),
        *range(0x104, 0x124, 4),
        *range(0x184, 0x1A4, 4),
        *range(0x204, 0x224, 4),
        *range(0x284, 0x2A4, 4),
        *range(0x304, 0x324, 4),
        *range(0x420, 0x520, 4),
        *range(0xC08, 0xC48, 4),
    )
    for _ in range(300):
        place = 0x0800_0000 + rng.choice(places)
        if rng.random() < 0.5:
            if place & 0xFFFF == 8:
                continue  # IIDR names the implementer
            twins.same(f"read {place:#x}", virt.read(place), bench.space.read(place, 4))
        else:
            value = rng.getrandbits(32)
            if place & 0xFFFF == 0:
                value &= 3
            if 0x400 <= place & 0xFFFF < 0x800:
                value &= 0xF8F8_F8F8
            twins.log.append(f"write {place:#x} {value:#x}")
            virt.write(place, value)
            bench.space.write(place, 4, value)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_gicv3s_distributor_and_redistributor_answer_like_qemus(bench: Bench, seed: int) -> None:
    qemu = Qtest("aarch64", "-M", "virt,gic-version=3", "-serial", "null")
    gic = Gicv3()
    bench.bus.attach("gic", gic, 0x0800_0000)
    bench.bus.attach("redistributors", Gicv3Redistributors(gic), 0x080A_0000)
    gic.power_on()
    rng = random.Random(seed)
    twins = Twins()
    bits = [first + 4 * n for first in range(0x080, 0x400, 0x80) for n in range(8)]
    distributor = [0x000, 0x004, *bits, *range(0x400, 0x500, 4), *range(0xC00, 0xC40, 4), 0xFFE8]
    routes = range(0x6100, 0x6800, 8)
    own = [0x1_0000 + at for at in (*range(0x080, 0x400, 0x80), *range(0x400, 0x420, 4), 0xC00, 0xC04)]
    places = [0x0800_0000 + at for at in (*distributor, *routes)]
    places += [0x080A_0000 + at for at in (0x008, 0x00C, 0x014, 0xFFE8, *own, *own)]
    # QEMU's has an ITS' features, and one word of interrupts less.
    known = {0x0800_0004: 0, 0x080A_0008: 0x00FF_FF10}
    try:
        for _ in range(400):
            place = rng.choice(places)
            width = 8 if place & 0xFFFF >= 0x6000 and place < 0x0801_0000 and place & 0xFFFF != 0xFFE8 else 4
            if rng.random() < 0.5:
                mask = known.get(place, (1 << 8 * width) - 1)
                theirs, ours = qemu.read(place, width) & mask, bench.space.read(place, width) & mask
                twins.same(f"read {place:#x}", theirs, ours)
            else:
                value = rng.getrandbits(8 * width)
                at = place & 0x1_FFFF
                if place == 0x0800_0000:
                    value &= 3
                if 0x400 <= at & 0xFFFF < 0x800:
                    value &= 0xF8F8_F8F8
                if width == 8:
                    value &= 0xFF_80FF_FFFF
                twins.log.append(f"write {place:#x} {value:#x}")
                qemu.write(place, value, width)
                bench.space.write(place, width, value)
    finally:
        qemu.close()
