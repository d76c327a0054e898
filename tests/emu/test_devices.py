"""Devices by their data sheets, as a guest's driver meets them."""

import struct
import time

import pytest

from accel.irq import IrqLine
from emu.devices.clint import Clint
from emu.devices.debugcon import Debugcon
from emu.devices.fw_cfg import FILE_DIR, RAM_SIZE, FwCfgIo, FwCfgMmio
from emu.devices.gicv2 import Gicv2
from emu.devices.goldfish_rtc import GoldfishRtc
from emu.devices.i8042 import I8042, Port92
from emu.devices.i8254 import HZ, I8254, PortB
from emu.devices.i8259 import Pics
from emu.devices.mc146818 import Mc146818
from emu.devices.pci import PciFunction
from emu.devices.pci_host import PciHost
from emu.devices.pl011 import Pl011
from emu.devices.pl031 import Pl031
from emu.devices.plic import Plic
from emu.devices.test_exit import DebugExit, SifiveTest
from emu.devices.uart16550 import Uart16550
from tests.emu.conftest import BASE

SECOND = 1_000_000_000


class Cpu:
    """Remembers the levels of its inputs."""

    def __init__(self):
        self.vcpu = self
        self.inputs = {}

    def interrupt(self, line, level):
        self.inputs[line] = level

    def wire(self, number, line):
        line.connect(lambda level: self.interrupt(number, level))


# -- UART 16550A ------------------------------------------------------------------


def test_uart16550_sends_what_is_written_to_the_holding_register(bench):
    bench.attach(Uart16550())
    for byte in b"hi\n":
        bench.write(0, byte, 1)
    assert bench.serial.sent == b"hi\n"


def test_uart16550_takes_one_character_without_fifo_and_sixteen_with(bench):
    bench.attach(Uart16550())
    assert bench.type(b"abc") == 1
    assert bench.read(0, 1) == ord("a")
    bench.write(2, 0x07, 1)
    assert bench.type(b"0123456789abcdefXYZ") == 16
    assert bytes(bench.read(0, 1) for _ in range(16)) == b"0123456789abcdef"
    assert bench.read(5, 1) & 1 == 0


def test_uart16550_asks_for_more_input_when_the_guest_reads(bench):
    bench.attach(Uart16550())
    bench.type(b"a")
    before = bench.serial.accepted
    bench.read(0, 1)
    assert bench.serial.accepted > before


def test_uart16550_interrupts_at_the_trigger_level(bench):
    bench.attach(Uart16550())
    bench.write(2, 0x41, 1)  # four characters
    bench.write(1, 0x01, 1)
    bench.type(b"abc")
    assert bench.edges == []
    bench.type(b"d")
    assert bench.edges == [1]
    assert bench.read(2, 1) == 0xC4
    bench.read(0, 1)
    assert bench.edges == [1, 0]


def test_uart16550_interrupts_after_four_character_times_below_the_trigger_level(bench):
    bench.attach(Uart16550())
    bench.write(2, 0x81, 1)
    bench.write(1, 0x01, 1)
    bench.type(b"a")
    four_characters = 4 * 10 * SECOND // 9600  # the divisor after reset is 12
    bench.advance(four_characters - 100_000)
    assert bench.edges == []
    bench.advance(200_000)
    assert bench.edges == [1]
    assert bench.read(2, 1) == 0xCC
    assert bench.read(0, 1) == ord("a")
    assert bench.edges == [1, 0]


def test_uart16550_pulses_its_interrupt_for_each_character_sent(bench):
    bench.attach(Uart16550())
    bench.write(1, 0x02, 1)
    assert bench.edges == [1]
    assert bench.read(2, 1) == 0x02
    assert bench.edges == [1, 0]
    bench.write(0, ord("x"), 1)
    assert bench.edges[-1] == 1


def test_uart16550_holds_its_transmitter_while_the_host_takes_nothing(bench):
    bench.attach(Uart16550())
    bench.serial.full = True
    bench.write(0, ord("x"), 1)
    assert bench.read(5, 1) & 0x60 == 0
    bench.serial.full = False
    bench.serial.front.drained()
    assert bench.read(5, 1) & 0x60 == 0x60


def test_uart16550_tells_an_overrun_in_loopback_once(bench):
    bench.attach(Uart16550())
    bench.write(4, 0x10, 1)
    bench.write(0, 1, 1)
    bench.write(0, 2, 1)
    assert bench.read(5, 1) & 0x02
    assert bench.read(5, 1) & 0x02 == 0
    assert (bench.read(0, 1), bench.serial.sent) == (2, b"")


def test_uart16550_keeps_its_state_through_save_and_load(bench):
    device = bench.attach(Uart16550())
    bench.write(2, 0x81, 1)
    bench.write(1, 0x01, 1)
    bench.type(b"abc")
    saved = device.save()
    device.power_on()
    device.load(saved)
    assert device.save() == saved
    bench.advance(SECOND)
    assert bench.edges[-1] == 1
    assert bytes(bench.read(0, 1) for _ in range(3)) == b"abc"


# -- PL011 --------------------------------------------------------------------------


def test_pl011_sends_and_receives(bench):
    bench.attach(Pl011())
    bench.write(0x2C, 0x70)
    for byte in b"hello":
        bench.write(0, byte)
    assert bench.serial.sent == b"hello"
    assert bench.type(bytes(20)) == 16
    assert bench.read(0x18) & 0x50 == 0x40  # full
    for _ in range(16):
        bench.read(0)
    assert bench.read(0x18) & 0x50 == 0x10  # empty


def test_pl011_interrupts_at_the_level_of_ifls_and_after_32_bit_periods(bench):
    bench.attach(Pl011())
    bench.write(0x24, 13)  # 115200 baud
    bench.write(0x2C, 0x70)
    bench.write(0x38, 0x50)
    bench.type(b"1234567")
    assert bench.edges == []
    bench.type(b"8")
    assert (bench.edges, bench.read(0x40)) == ([1], 0x10)
    bench.read(0)
    assert bench.edges == [1, 0]
    bench.advance(32 * SECOND // 115200 + 10_000)
    assert (bench.edges, bench.read(0x40)) == ([1, 0, 1], 0x40)
    bench.write(0x44, 0x40)
    assert bench.edges == [1, 0, 1, 0]


def test_pl011_holds_its_transmitter_while_the_host_takes_nothing(bench):
    bench.attach(Pl011())
    bench.serial.full = True
    bench.write(0, 1)
    assert bench.read(0x18) & 0xA8 == 0x28  # busy and full, not empty
    bench.serial.full = False
    bench.serial.front.drained()
    assert bench.read(0x18) & 0xA8 == 0x80


def test_pl011_loops_back(bench):
    bench.attach(Pl011())
    bench.write(0x30, 0x381)
    bench.write(0, 0x5A)
    assert (bench.read(0), bench.serial.sent) == (0x5A, b"")


# -- clocks --------------------------------------------------------------------------


def test_pl031_tells_the_hosts_time_and_rings(bench):
    bench.attach(Pl031())
    assert abs(bench.read(0) - time.time()) < 3
    bench.write(8, 1000)
    bench.advance(2 * SECOND)
    assert bench.read(0) == 1002
    bench.write(4, 1005)
    bench.write(0x10, 1)
    bench.advance(3 * SECOND - 1)
    assert bench.edges == []
    bench.advance(1)
    assert (bench.edges, bench.read(0x18)) == ([1], 1)
    bench.write(0x1C, 1)
    assert bench.edges == [1, 0]


def test_goldfish_rtc_tells_the_hosts_time_and_rings(bench):
    bench.attach(GoldfishRtc())
    now = bench.read(0) | bench.read(4) << 32
    assert abs(now - time.time_ns()) < 3 * SECOND
    due = now + SECOND
    bench.write(0x0C, due >> 32)
    bench.write(0x08, due & 0xFFFF_FFFF)
    bench.write(0x10, 1)
    assert bench.read(0x18) == 1
    bench.advance(SECOND - 1)
    assert bench.edges == []
    bench.advance(1)
    assert bench.edges == [1]
    bench.write(0x1C, 1)
    assert bench.edges == [1, 0]


def cmos(bench, at):
    bench.write(0, at, 1)
    return bench.read(1, 1)


def test_mc146818_tells_the_hosts_time_in_bcd(bench):
    bench.attach(Mc146818())
    before = time.gmtime()
    got = tuple(int(f"{cmos(bench, at):x}") for at in (0x32, 9, 8, 7, 4, 2))
    after = time.gmtime()

    def parts(t):
        return (t.tm_year // 100, t.tm_year % 100, t.tm_mon, t.tm_mday, t.tm_hour, t.tm_min)

    assert got in (parts(before), parts(after))


def test_mc146818_can_be_set_and_goes_on(bench):
    bench.attach(Mc146818())
    for at, value in (
        (11, 0x82),
        (0x32, 0x19),
        (9, 0x99),
        (8, 0x12),
        (7, 0x31),
        (4, 0x23),
        (2, 0x59),
        (0, 0x58),
    ):
        bench.write(0, at, 1)
        bench.write(1, value, 1)
    bench.write(0, 11, 1)
    bench.write(1, 0x02, 1)
    bench.advance(2 * SECOND)
    assert [cmos(bench, at) for at in (0x32, 9, 8, 7, 4, 2, 0)] == [0x20, 0, 1, 1, 0, 0, 0]


def test_mc146818_knows_the_memorys_size(bench):
    bench.attach(Mc146818(128 << 20, 3 << 32))
    assert cmos(bench, 0x34) | cmos(bench, 0x35) << 8 == (112 << 20) >> 16
    assert cmos(bench, 0x5B) | cmos(bench, 0x5C) << 8 | cmos(bench, 0x5D) << 16 == (3 << 32) >> 16


def test_mc146818_interrupts_periodically_until_c_is_read(bench):
    bench.attach(Mc146818())
    bench.write(0, 11, 1)
    bench.write(1, 0x42, 1)
    bench.advance(SECOND // 1024 + 1000)
    assert bench.edges == [1]
    assert cmos(bench, 12) == 0xC0
    assert bench.edges == [1, 0]
    bench.advance(SECOND // 1024 + 1000)
    assert bench.edges == [1, 0, 1]


def test_i8254_counts_down_and_interrupts_once_a_period(bench):
    bench.attach(I8254())
    bench.write(3, 0x34, 1)
    bench.write(0, 1193 & 0xFF, 1)
    bench.write(0, 1193 >> 8, 1)
    bench.edges.clear()
    bench.advance(10 * SECOND * 1193 // HZ + 1000)
    assert bench.edges.count(1) == 10
    bench.write(3, 0x00, 1)
    first = bench.read(0, 1) | bench.read(0, 1) << 8
    bench.advance(100_000)
    bench.write(3, 0x00, 1)
    second = bench.read(0, 1) | bench.read(0, 1) << 8
    assert first - second in (119, 120)


@pytest.mark.parametrize("late", [0, 1, 1_000_000])
def test_i8254_strobes_once_however_late_the_host_is(bench, late):
    bench.attach(I8254())
    bench.write(3, 0x38, 1)  # mode 4
    bench.edges.clear()
    bench.write(0, 100, 1)
    bench.write(0, 0, 1)
    bench.clock.restore(bench.clock.now() + 100 * SECOND // HZ + 1 + late)
    bench.clock.due()
    bench.advance(SECOND)
    assert bench.edges.count(1) == 1


def test_port_61h_shows_counter_2_run_out(bench):
    timer = bench.attach(I8254())
    port = PortB(timer)
    bench.bus.attach("b", port, 0x61)
    port.power_on()
    bench.space.write(0x61, 1, 1)
    bench.write(3, 0xB0, 1)  # mode 0
    bench.write(2, 0x10, 1)
    bench.write(2, 0x00, 1)
    assert bench.space.read(0x61, 1) & 0x20 == 0
    bench.advance(20 * SECOND // HZ)
    assert bench.space.read(0x61, 1) & 0x20


def test_clint_interrupts_at_mtimecmp(bench):
    clint = Clint(10_000_000)
    cpu = Cpu()
    clint.connect_cpu(cpu)
    bench.attach(clint, irq=False)
    start = bench.read(0xBFF8, 8)
    bench.write(0x4000, start + 100, 8)
    assert cpu.inputs[7] == 0
    bench.advance(9_999)
    assert cpu.inputs[7] == 0
    bench.advance(1)
    assert cpu.inputs[7] == 1
    bench.write(0x4000, 0xFFFF_FFFF)
    bench.write(0x4004, 0xFFFF_FFFF)
    assert cpu.inputs[7] == 0
    bench.write(0, 1)
    assert cpu.inputs[3] == 1
    bench.write(0, 0)
    assert cpu.inputs[3] == 0


# -- interrupt controllers -----------------------------------------------------------------


def test_plic_gives_the_most_urgent_source_and_takes_it_back(bench):
    plic = Plic(sources=96, harts=1)
    cpu = Cpu()
    plic.connect_cpu(cpu)
    bench.attach(plic, irq=False)
    bench.write(4 * 3, 1)
    bench.write(4 * 40, 2)
    bench.write(0x2000, 1 << 3)
    bench.write(0x2004, 1 << 8)
    plic.line(3).set(1)
    plic.line(40).set(1)
    assert cpu.inputs == {11: 1, 9: 0}
    assert bench.read(0x20_0004) == 40
    assert bench.read(0x20_0004) == 3
    assert bench.read(0x20_0004) == 0
    assert cpu.inputs[11] == 0
    plic.line(3).set(0)
    bench.write(0x20_0004, 3)
    bench.write(0x20_0004, 40)
    assert cpu.inputs[11] == 1  # 40's line is still high
    bench.write(0x20_0000, 2)
    assert cpu.inputs[11] == 0  # and not above the threshold


def gic(bench):
    made = Gicv2()
    cpu = Cpu()
    made.connect_cpu(cpu)
    bench.attach(made, irq=False)
    bench.write(0, 1)
    bench.write(0x1_0000, 1)
    bench.write(0x1_0004, 0xFF)
    bench.write(0x100 + 4, 0xFFFF_FFFF)
    return made, cpu


def test_gicv2_hands_out_a_level_interrupt_until_its_line_falls(bench):
    made, cpu = gic(bench)
    made.line(1).set(1)
    assert cpu.inputs[0] == 1
    assert bench.read(0x1_000C) == 33
    assert cpu.inputs[0] == 0
    bench.write(0x1_0010, 33)
    assert cpu.inputs[0] == 1
    made.line(1).set(0)
    assert cpu.inputs[0] == 0
    assert bench.read(0x1_000C) == 1023


def test_gicv2_remembers_an_edge(bench):
    made, cpu = gic(bench)
    bench.write(0xC08, 2 << 2 * 1)  # interrupt 33: edge
    made.line(1).pulse()
    assert cpu.inputs[0] == 1
    assert bench.read(0x1_000C) == 33
    bench.write(0x1_0010, 33)
    assert bench.read(0x1_000C) == 1023


def test_gicv2_nests_by_priority_and_obeys_the_mask(bench):
    made, cpu = gic(bench)
    bench.write(0x420, 0x40, 1)
    bench.write(0x421, 0x80, 1)
    made.line(1).set(1)
    assert bench.read(0x1_000C) == 33
    made.line(0).set(1)
    assert cpu.inputs[0] == 1
    assert bench.read(0x1_000C) == 32
    assert bench.read(0x1_0014) == 0x40
    bench.write(0x1_0010, 32)
    assert bench.read(0x1_0014) == 0x80
    bench.write(0x1_0004, 0x40)
    assert cpu.inputs[0] == 0


def test_gicv2_software_interrupts(bench):
    _, cpu = gic(bench)
    bench.write(0xF00, 2 << 24 | 5)
    assert cpu.inputs[0] == 1
    assert bench.read(0x1_000C) == 5


class Lint0:
    """The local APIC's input for the older controllers, straight to the CPU."""

    def __init__(self, cpu):
        self.cpu = cpu

    def external(self, vector):
        self.cpu.inputs[0] = vector

    def acknowledged(self, function):
        self.cpu.taken = function


def pics(bench):
    made = Pics()
    cpu = Cpu()
    for name, device, base in (("m", made.master, 0x20), ("s", made.slave, 0xA0), ("e", made.elcr, 0x4D0)):
        bench.bus.attach(name, device, base)
        device.power_on()
    made.connect_apic(Lint0(cpu))
    for base, cascade, vector in ((0x20, 4, 0x20), (0xA0, 2, 0x28)):
        for offset, value in ((0, 0x11), (1, vector), (1, cascade), (1, 1), (1, 0)):
            bench.space.write(base + offset, 1, value)
    return made, cpu


def test_the_pics_offer_vectors_by_priority(bench):
    made, cpu = pics(bench)
    made.line(4).set(1)
    assert cpu.inputs[0] == 0x24 + 1
    made.line(8).set(1)  # through input 2, above 4
    assert cpu.inputs[0] == 0x28 + 1
    cpu.taken(0x28)
    assert cpu.inputs[0] == 0
    bench.space.write(0xA0, 1, 0x20)
    bench.space.write(0x20, 1, 0x20)
    assert cpu.inputs[0] == 0x24 + 1
    cpu.taken(0x24)
    bench.space.write(0x20, 1, 0x20)
    assert cpu.inputs[0] == 0  # an edge counts once
    made.line(4).set(0)
    made.line(4).set(1)
    assert cpu.inputs[0] == 0x24 + 1


def test_what_the_cpu_has_taken_is_in_service_whatever_came_since(bench):
    made, cpu = pics(bench)
    made.line(10).set(1)
    assert cpu.inputs[0] == 0x2A + 1
    made.line(0).set(1)
    made.line(8).set(1)
    cpu.taken(0x2A)
    assert (made.master.isr, made.slave.isr) == (1 << 2, 1 << 2)
    assert cpu.inputs[0] == 0x20 + 1
    cpu.taken(0x20)
    assert (made.master.isr, made.slave.isr) == (1 << 2 | 1, 1 << 2)
    bench.space.write(0x20, 1, 0x60)
    bench.space.write(0xA0, 1, 0x62)
    bench.space.write(0x20, 1, 0x62)
    assert cpu.inputs[0] == 0x28 + 1
    made.line(8).set(0)  # gone as the CPU takes it
    cpu.taken(0x28)
    assert (made.master.isr, made.slave.isr) == (1 << 2, 1)


def test_a_level_triggered_input_asks_again_until_it_falls(bench):
    made, cpu = pics(bench)
    bench.space.write(0x4D1, 1, 0x08)  # line 11
    made.line(11).set(1)
    cpu.taken(0x2B)
    bench.space.write(0xA0, 1, 0x20)
    bench.space.write(0x20, 1, 0x20)
    assert cpu.inputs[0] == 0x2B + 1
    made.line(11).set(0)
    assert cpu.inputs[0] == 0


def test_a_request_that_goes_away_is_answered_as_spurious(bench):
    made, cpu = pics(bench)
    made.line(3).set(1)
    made.line(3).set(0)
    assert cpu.inputs[0] == 0
    assert made.master.acknowledge() == 0x27
    assert bench.space.read(0x20, 1) == 0


# -- the rest ------------------------------------------------------------------------------


def test_fw_cfg_on_ports_gives_its_signature_and_items(bench):
    device = bench.attach(FwCfgIo(), irq=False)
    device.describe(128 << 20, 1)
    device.add_file("etc/one", b"first")
    device.add_file("etc/two", b"second")

    def item(key, count):
        bench.write(0, key, 2)
        return bytes(bench.read(1, 1) for _ in range(count))

    assert item(0, 6) == b"QEMU\0\0"
    assert item(RAM_SIZE, 8) == struct.pack("<Q", 128 << 20)
    assert item(FILE_DIR, 4) == struct.pack(">I", 2)
    size, key, _ = struct.unpack(">IHH", item(FILE_DIR, 12)[4:])
    assert item(key, size) == b"first"


def test_fw_cfg_in_memory_takes_a_big_endian_selector(bench):
    bench.attach(FwCfgMmio(), irq=False)
    bench.write(8, 0x0100, 2)
    assert bench.read(0, 4) == 3
    bench.write(8, 0, 2)
    assert bench.read(0, 4).to_bytes(4, "little") == b"QEMU"


def dma(bench, control, length, address):
    bench.space.load(0x10_0000, struct.pack(">IIQ", control, length, address))
    bench.write(16, int.from_bytes((0x10_0000).to_bytes(8, "big"), "little"), 8)
    return struct.unpack(">I", bench.space.peek(0x10_0000, 4))[0]


def test_fw_cfg_dma_copies_and_tells_errors(bench):
    bench.space.add_ram("ram", 0x10_0000, 0x10_0000)
    bench.attach(FwCfgMmio(), irq=False)
    assert dma(bench, 0 << 16 | 8 | 2, 8, 0x11_0000) == 0
    assert bench.space.peek(0x11_0000, 8) == b"QEMU\0\0\0\0"
    assert dma(bench, 0 << 16 | 8 | 4, 2, 0) == 0
    assert dma(bench, 2, 2, 0x11_0000) == 0
    assert bench.space.peek(0x11_0000, 2) == b"MU"
    assert dma(bench, 2, 0xFFFF_FFFF, 0x11_0000) == 1  # beyond RAM
    assert dma(bench, 0x10, 4, 0x11_0000) == 1  # writing items
    bench.write(16, 0, 8)  # a request where nothing is


def test_the_test_finisher_ends_the_machine(bench):
    bench.attach(SifiveTest(), irq=False)
    bench.write(0, 0x5555)
    bench.write(0, 7 << 16 | 0x3333)
    bench.write(0, 0x7777)
    bench.write(0, 1)
    assert bench.ended == [0, 7, "reset"]


def test_the_debug_exit_ends_the_machine_with_an_odd_code(bench):
    bench.attach(DebugExit(), irq=False)
    bench.write(0, 0, 1)
    bench.write(0, 0x10)
    assert bench.ended == [1, 0x21]


def test_the_debug_port_tells_that_it_is_there_and_passes_on_what_is_written(bench):
    bench.attach(Debugcon(), irq=False)
    assert bench.read(0, 1) == 0xE9
    for byte in b"SeaBIOS\n":
        bench.write(0, byte, 1)
    assert bench.serial.sent == b"SeaBIOS\n"
    bench.serial.full = True
    bench.write(0, 0x21, 1)
    assert bench.serial.sent == b"SeaBIOS\n"


def test_fw_cfgs_items_of_the_architecture_are_others_than_the_common_ones(bench):
    bench.attach(FwCfgIo(), irq=False)
    for key, found in ((0, b"QEMU"), (0x4000, b"QEMU"), (0x8000, bytes(4))):
        bench.write(0, key, 2)
        assert bytes(bench.read(1, 1) for _ in range(4)) == found


def test_pci_configuration_by_mechanism_1(bench):
    bench.attach(
        PciHost({(0, 0): PciFunction(0x8086, 0x1237, 0x060000, writable=(range(0x59, 0x60),))}), irq=False
    )
    bench.write(0, 0x8000_0000)
    assert bench.read(4) == 0x1237_8086
    assert bench.read(6, 2) == 0x1237
    bench.write(0, 0x8000_0008)
    assert bench.read(4) >> 8 == 0x060000
    bench.write(0, 0x8000_0058)
    bench.write(5, 0x33, 1)
    assert bench.read(4) == 0x3300
    bench.write(0, 0x8000_0800)
    assert bench.read(4) == 0xFFFF_FFFF
    bench.write(0, 0)
    assert bench.read(4) == 0xFFFF_FFFF
    bench.write(1, 2, 1)
    assert bench.ended == []
    bench.write(1, 6, 1)
    bench.write(1, 6, 1)
    assert bench.read(1, 1) == 6
    assert bench.ended == ["reset"]


@pytest.mark.parametrize(
    "make",
    [
        Uart16550,
        Pl011,
        Pl031,
        GoldfishRtc,
        Mc146818,
        I8254,
        Gicv2,
        FwCfgIo,
        lambda: Plic(96, 1),
        lambda: Clint(10_000_000),
        lambda: PciHost({(0, 0): PciFunction(1, 2, 3)}),
        lambda: Pics().master,
        I8042,
        Port92,
    ],
)
def test_every_devices_state_comes_back_whatever_a_guest_wrote(bench, make):
    import random

    device = make()
    device.connect(IrqLine()) if device.irqs else None
    bench.attach(device, irq=False)
    rng = random.Random(1)
    for _ in range(400):
        width = rng.choice([n for n in (1, 2, 4) if n <= device.size])
        offset = rng.randrange(0, min(device.size, 0x2100) - width + 1)
        if rng.random() < 0.5:
            bench.read(offset, width)
        else:
            bench.write(offset, rng.getrandbits(8 * width), width)
    saved = device.save()
    assert eval(repr(saved)) == saved
    device.power_on()
    device.load(saved)
    assert device.save() == saved


def test_the_bench_is_where_devices_are(bench):
    assert bench.attach(DebugExit(), irq=False).region.base == BASE
