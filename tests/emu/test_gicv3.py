"""The GICv3's CPU interface, register by register as IHI 0069H describes it, and its snapshot."""

import pytest

from accel.errors import DeviceError
from emu.devices.gicv2 import Gicv2
from emu.devices.gicv3 import Gicv3
from emu.devices.native import ffi, lib
from tests.emu.test_devices import Cpu

NAMES = {
    "PMR": (4, 6, 0), "IAR0": (12, 8, 0), "EOIR0": (12, 8, 1), "HPPIR1": (12, 12, 2), "BPR1": (12, 12, 3),
    "AP1R0": (12, 9, 0), "DIR": (12, 11, 1), "RPR": (12, 11, 3), "SGI1R": (12, 11, 5), "IAR1": (12, 12, 0),
    "EOIR1": (12, 12, 1), "CTLR": (12, 12, 4), "SRE": (12, 12, 5), "IGRPEN0": (12, 12, 6),
    "IGRPEN1": (12, 12, 7),
}  # fmt: skip
NONE = 1023


class Interface(Cpu):
    """A CPU that a GICv3 is connected to, with its system registers by name."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = {0: 0, 1: 0}
        self.gic = Gicv3(spis=64)
        self.gic.connect_cpu(self)
        self.place = self.gic._interfaces[0]

    def system_registers(self, read, write, opaque):
        """The engine's part; the test calls the functions itself."""

    def code(self, name):
        crn, crm, op2 = NAMES[name]
        return 3 << 14 | crn << 7 | crm << 3 | op2

    def __getitem__(self, name):
        value = ffi.new("uint64_t *")
        lib.emu_gic_read_system(self.place, self.code(name), value)
        return value[0]

    def __setitem__(self, name, value):
        lib.emu_gic_write_system(self.place, self.code(name), value)

    def distributor(self, offset, value, width=4):
        lib.emu_gic_write_distributor(self.gic.pointer, offset, width, value)


@pytest.fixture
def cpu():
    """All interrupts in group 1, enabled, of the highest priority; nothing masked."""
    made = Interface()
    made.distributor(0x000, 3)
    for word in (1, 2):
        made.distributor(0x080 + 4 * word, 0xFFFF_FFFF)
        made.distributor(0x100 + 4 * word, 0xFFFF_FFFF)
    for at in (0x080, 0x100):
        lib.emu_gic_write_redistributors(made.gic.pointer, 0x1_0000 + at, 4, 0xFFFF_FFFF)
    made["PMR"] = 0xF8
    made["IGRPEN1"] = 1
    return made


def test_system_registers_are_the_only_way_and_five_bits_of_priority_exist(cpu):
    assert cpu["SRE"] == 7
    assert cpu["CTLR"] >> 8 & 7 == 4
    cpu["PMR"] = 0xFF
    assert cpu["PMR"] == 0xF8


def test_a_level_is_handed_out_until_its_line_falls(cpu):
    cpu.gic.line(1).set(1)
    assert cpu.inputs[0] == 1
    assert cpu["HPPIR1"] == 33
    assert cpu["IAR0"] == NONE
    assert cpu["IAR1"] == 33
    assert (cpu.inputs[0], cpu["RPR"]) == (0, 0)
    cpu["EOIR1"] = 33
    assert (cpu.inputs[0], cpu["RPR"]) == (1, 0xFF)
    cpu.gic.line(1).set(0)
    assert cpu.inputs[0] == 0
    assert cpu["IAR1"] == NONE


def test_group_0_is_fiq_and_its_acknowledge_is_its_own(cpu):
    cpu.distributor(0x084, ~2 & 0xFFFF_FFFF)
    cpu["IGRPEN0"] = 1
    cpu.gic.line(1).set(1)
    assert (cpu.inputs[0], cpu.inputs[1]) == (0, 1)
    assert cpu["IAR1"] == NONE
    assert cpu["IAR0"] == 33
    cpu["EOIR0"] = 33
    cpu["IGRPEN0"] = 0
    assert cpu.inputs[1] == 0


def test_a_higher_priority_preempts_where_the_binary_point_lets_it(cpu):
    cpu.distributor(0x420, 0x80, 1)
    cpu.distributor(0x421, 0x40, 1)
    cpu.gic.line(0).set(1)
    assert cpu["IAR1"] == 32
    assert cpu["AP1R0"] == 1 << 16
    cpu.gic.line(1).set(1)
    assert cpu.inputs[0] == 1
    cpu["BPR1"] = 7  # 0x80 and 0x40: one bit of group priority still tells them apart
    assert cpu.inputs[0] == 1
    assert cpu["IAR1"] == 33
    assert cpu["RPR"] == 0
    cpu["EOIR1"] = 33
    assert cpu["RPR"] == 0x80


def test_priority_drop_and_deactivation_are_apart_in_eoi_mode_1(cpu):
    cpu["CTLR"] = 2
    cpu.gic.line(0).set(1)
    assert cpu["IAR1"] == 32
    cpu["EOIR1"] = 32
    assert (cpu["RPR"], cpu.inputs[0]) == (0xFF, 0)  # active still
    cpu["DIR"] = 32
    assert cpu.inputs[0] == 1


def test_a_software_interrupt_comes_by_its_list_and_not_by_all_others(cpu):
    cpu["SGI1R"] = 1 << 40 | 5 << 24  # all but this CPU
    assert cpu.inputs[0] == 0
    cpu["SGI1R"] = 5 << 24 | 1 << 0
    assert cpu["IAR1"] == 5
    cpu["EOIR1"] = 5
    cpu["SGI1R"] = 5 << 24 | 1 << 16 | 1  # of another cluster
    assert cpu["IAR1"] == NONE


def test_a_message_sets_an_interrupt_by_its_number(cpu):
    cpu.distributor(0xC08, 0xFFFF_FFFF)
    cpu.distributor(0x040, 40)
    assert cpu["IAR1"] == 40


@pytest.mark.parametrize("kind", [Gicv2, Gicv3])
def test_a_saved_controller_goes_on_where_it_was(kind):
    first, second = kind(), kind()
    lines = []
    for gic in (first, second):
        cpu = Cpu()
        cpu.system_registers = lambda *_: None
        gic.connect_cpu(cpu)
        lines.append(cpu.inputs)
    for offset, value in ((0, 3), (0x084, 0 if kind is Gicv2 else 0xFFFF_FFFF), (0x104, 2)):
        lib.emu_gic_write_distributor(first.pointer, offset, 4, value)
    if kind is Gicv2:
        for offset, value in ((0x1_0000, 1), (0x1_0004, 0xF8)):
            lib.emu_gic_write_v2(first.pointer, offset, 4, value)
    else:
        cpu_interface = first._interfaces[0]
        lib.emu_gic_write_system(cpu_interface, 3 << 14 | 4 << 7 | 6 << 3, 0xF8)
        lib.emu_gic_write_system(cpu_interface, 3 << 14 | 12 << 7 | 12 << 3 | 7, 1)
    first.line(1).set(1)
    assert lines[0][0] == 1
    assert lines[1].get(0, 0) == 0
    second.load(first.save())
    assert lines[1][0] == 1


def test_a_state_of_another_size_is_refused():
    gic = Gicv2()
    saved = gic.save()
    saved["state"]["contents"] = b"x"
    with pytest.raises(DeviceError, match="another release"):
        gic.load(saved)
