"""microvm: a small x86-64 PC without disks or screen.

Serial ports, clock, timer and interrupt controllers stand where every PC has them; the engine's own interrupt
controllers are taken where it has them.  Enough of the i440FX's configuration space is there for firmware
that was built for QEMU's pc to find its way.

A kernel is entered in 64-bit mode, paging identity below 4 GiB, interrupts off, RSP at 7C00h, RSI 0: a small
ROM at the reset vector brings the CPU there.
"""

from __future__ import annotations

import struct
from typing import Any

from accel.errors import DeviceError
from accel.irq import IrqLine
from emu.board import Board, Part
from emu.devices.ata import EmptyAtaChannel
from emu.devices.fw_cfg import FwCfgIo
from emu.devices.i8254 import I8254, PortB
from emu.devices.i8259 import Pics
from emu.devices.mc146818 import Mc146818
from emu.devices.pci import PciFunction
from emu.devices.pci_host import PciHost
from emu.devices.test_exit import DebugExit
from emu.devices.uart16550 import Uart16550
from emu.loader.firmware import fill_rom
from emu.loader.kernel import load_kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.machine import Cpu, Machine

# RAM below 4 GiB ends here at the latest; what is more begins at 4 GiB.
LOW_LIMIT = 0xC000_0000
FOUR_GIB = 1 << 32
ROM_LIMIT = 16 << 20
ROM_MINIMUM = 64 << 10
KERNEL_BASE = 0x10_0000
STACK = 0x7C00


class Microvm(Board):
    """The board; see the module."""

    arch = "x86_64"
    ports = True
    ram_limit = 64 << 30
    max_cpus = 16

    parts = (
        Part("serial0", Uart16550, 0x3F8, irq=4, serial=0, ports=True),
        Part("serial1", Uart16550, 0x2F8, irq=3, serial=1, ports=True),
        Part("ata0", EmptyAtaChannel, 0x1F0, ports=True),
        Part("ata1", EmptyAtaChannel, 0x170, ports=True),
        Part("debug-exit", DebugExit, 0xF4, ports=True),
    )

    def memory(self, machine: Machine) -> None:
        low = min(machine.ram, LOW_LIMIT)
        machine.memory.add_ram("ram", 0, low)
        self.high = machine.ram - low
        if self.high:
            machine.memory.add_ram("ram-high", FOUR_GIB, self.high)
        size = ROM_MINIMUM
        if machine.firmware:
            from emu.loader.raw import read_image

            size = max(size, len(read_image(machine.firmware, "firmware", ROM_LIMIT)))
            size += -size % 4096
        self.rom = machine.memory.add_ram("rom", FOUR_GIB - size, size, readonly=True)
        self.low = low

    def interrupts(self, machine: Machine) -> None:
        self.chip = machine.accel.irqchip("pc")
        self.pics = Pics() if self.chip is None else None

    def connect_cpu(self, machine: Machine, cpu: Cpu) -> None:
        if self.chip is not None:
            self.chip.attach(cpu.vcpu)
        elif self.pics is not None and cpu.vcpu.index == 0:
            self.pics.connect_cpu(cpu)

    def line(self, number: int) -> IrqLine:
        if self.chip is not None:
            return self.chip.line(number)
        assert self.pics is not None
        if not 0 <= number <= 15:
            raise DeviceError(f"the PC's interrupt controllers have lines 0 to 15, not {number}")
        return self.pics.line(number)

    def build(self, machine: Machine) -> None:
        ports = machine.ports
        assert ports is not None
        if self.pics is not None:
            ports.attach("pic0", self.pics.master, 0x20)
            ports.attach("pic1", self.pics.slave, 0xA0)
            ports.attach("elcr", self.pics.elcr, 0x4D0)
            timer = I8254()
            ports.attach("pit", timer, 0x40, irq=0)
            ports.attach("port-b", PortB(timer), 0x61)
        ports.attach("rtc", Mc146818(self.low, self.high), 0x70, irq=8)
        ports.attach("pci", PciHost(_i440fx()), 0xCF8)
        fw_cfg = FwCfgIo()
        fw_cfg.describe(machine.ram, len(machine.cpus))
        fw_cfg.add_file("etc/e820", self._e820())
        ports.attach("fw-cfg", fw_cfg, 0x510)
        super().build(machine)

    def _e820(self) -> bytes:
        usable = [(0, self.low)] + ([(FOUR_GIB, self.high)] if self.high else [])
        return b"".join(struct.pack("<QQI", base, size, 1) for base, size in usable)

    def load(self, machine: Machine) -> None:
        if machine.firmware:
            fill_rom(self.rom, machine.firmware, at_end=True)
        elif machine.kernel:
            entry = load_kernel(machine, machine.kernel, KERNEL_BASE).entry
            self.rom.buffer[:] = boot_rom(entry)

    def start_cpu(self, machine: Machine, index: int, vcpu: Any) -> None:
        """The reset vector leads into the ROM."""


def _i440fx() -> dict[tuple[int, int], PciFunction]:
    """The host bridge, its PAM and SMRAM registers writable, and the PIIX3's ISA bridge."""
    return {
        (0, 0): PciFunction(0x8086, 0x1237, 0x060000, writable=(range(0x50, 0x80),)),
        (1, 0): PciFunction(0x8086, 0x7000, 0x060100, header=0x80, writable=(range(0x4C, 0x90),)),
    }


def boot_rom(entry: int) -> bytes:
    """64 KiB below 4 GiB: page tables, a GDT, and code from the reset vector to `entry` in 64-bit mode.

    Intel SDM volume 3, sections 9.9.1 and 9.8.5.  The tables are in the ROM, with the accessed and dirty bits
    set, so that nothing has to be written there.
    """
    base = FOUR_GIB - ROM_MINIMUM
    rom = bytearray(ROM_MINIMUM)
    present = 0x63  # present, writable, accessed, dirty
    # One PML4, one table of pointers, four directories of 2 MiB pages.
    struct.pack_into("<Q", rom, 0x0000, base + 0x1000 | present)
    for n in range(4):
        struct.pack_into("<Q", rom, 0x1000 + 8 * n, base + 0x2000 + 0x1000 * n | present)
    for n in range(4 * 512):
        struct.pack_into("<Q", rom, 0x2000 + 8 * n, n << 21 | present | 0x80)
    gdt, gdtr, code = 0x8000, 0x8020, 0x8040
    # Null, 64-bit code, data; accessed, for the same reason.
    struct.pack_into("<QQQ", rom, gdt, 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF)
    struct.pack_into("<HI", rom, gdtr, 0x17, base + gdt)
    long_mode = code + 0x40
    start = b"".join(
        (
            b"\xfa",  # cli
            b"\x2e\x66\x0f\x01\x16" + struct.pack("<H", gdtr),  # lgdtl cs:[gdtr]
            b"\x66\xb8" + struct.pack("<I", base),  # mov eax, the PML4
            b"\x0f\x22\xd8",  # mov cr3, eax
            b"\x66\xb8\x20\x06\x00\x00",  # mov eax, PAE | OSFXSR | OSXMMEXCPT
            b"\x0f\x22\xe0",  # mov cr4, eax
            b"\x66\xb9\x80\x00\x00\xc0",  # mov ecx, EFER
            b"\x0f\x32",  # rdmsr
            b"\x80\xcc\x01",  # or ah, LME
            b"\x0f\x30",  # wrmsr
            b"\x66\xb8\x33\x00\x00\x80",  # mov eax, PG | NE | ET | MP | PE
            b"\x0f\x22\xc0",  # mov cr0, eax
            b"\x66\xea" + struct.pack("<IH", base + long_mode, 8),  # ljmpl 8:long_mode
        )
    )
    assert len(start) <= long_mode - code
    rom[code : code + len(start)] = start
    inside = b"".join(
        (
            b"\xb8\x10\x00\x00\x00",  # mov eax, the data segment
            b"\x8e\xd8\x8e\xc0\x8e\xd0",  # mov ds, es, ss
            b"\x8e\xe0\x8e\xe8",  # mov fs, gs
            b"\xbc" + struct.pack("<I", STACK),  # mov esp, STACK
            b"\x31\xf6",  # xor esi, esi
            b"\x48\xb8" + struct.pack("<Q", entry),  # mov rax, entry
            b"\xff\xe0",  # jmp rax
        )
    )
    rom[long_mode : long_mode + len(inside)] = inside
    # The reset vector: jmp near, in 16-bit code.
    rom[0xFFF0:0xFFF3] = b"\xe9" + struct.pack("<h", _signed(code - 0xFFF3))
    return bytes(rom)


def _signed(offset: int) -> int:
    return (offset + 0x8000 & 0xFFFF) - 0x8000
