"""microvm: a small x86-64 PC without disks or screen.

Serial ports, clock, timer and interrupt controllers stand where every PC has them; which of the controllers
are the engine's pc_interrupts.py says.  Enough of the i440FX's configuration space is there for firmware
that was built for QEMU's pc to find its way.

A kernel is entered in 64-bit mode, paging identity below 4 GiB, interrupts off, RSP at 7C00h, RSI 0 or at
Linux' zero page; by PVH, if its file says so, in 32-bit mode without paging, EBX at the start info.  A small
ROM at the reset vector brings the CPU there.  ACPI tables tell it of CPUs, interrupts, the power button and
virtio devices; with the option acpi=off, or that word on the command line, Intel's MP tables and the command
line do.
"""

from __future__ import annotations

import struct
from typing import Any

from accel.errors import BadImage, DeviceError
from emu.board import Board, Part, Slots
from emu.boards.pc_interrupts import PIT_INPUT, PcInterrupts
from emu.devices import debugcon
from emu.devices.acpi_pm import SOFT_OFF, AcpiPm
from emu.devices.apic import IO_BASE, LOCAL_BASE
from emu.devices.ata import EmptyAtaChannel
from emu.devices.debugcon import Debugcon
from emu.devices.fw_cfg import FwCfgIo
from emu.devices.i8042 import I8042, Port92
from emu.devices.mc146818 import Mc146818
from emu.devices.pci import PciFunction
from emu.devices.pci_host import PciHost
from emu.devices.test_exit import DebugExit
from emu.devices.uart16550 import Uart16550
from emu.loader import x86_rom
from emu.loader.acpi import (
    Tables,
    device,
    eisa_id,
    facs,
    integer,
    interrupt,
    io_address,
    isa_interrupt,
    loader_files,
    madt,
    memory32,
    name,
    package,
    ports,
    resources,
    rsdp,
    scope,
    string,
    table,
)
from emu.loader.bzimage import RESERVED, USABLE, BzImage, parse_bzimage, zero_page
from emu.loader.elf import Elf, parse
from emu.loader.firmware import fill_rom
from emu.loader.kernel import ELF_MAGIC, LARGEST, check_arch, load_elf, naming
from emu.loader.mptable import mp_table
from emu.loader.pvh import pvh_entry, start_info
from emu.loader.raw import read_image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from accel.api import Accelerator
    from accel.irq import IrqLine
    from emu.loader.raw import Image
    from emu.machine import Cpu, Machine

# RAM below 4 GiB ends here at the latest; what is more begins at 4 GiB.
LOW_LIMIT = 0xC000_0000
FOUR_GIB = 1 << 32
ROM_LIMIT = 16 << 20
KERNEL_BASE = 0x10_0000
# What the kernel is told is below 640 KiB, tables where PCs have ROMs: ACPI's, and Intel's old ones.
ZERO_PAGE, GDT, COMMAND_LINE, LOW_END = 0x1_0000, 0x1_1000, 0x2_0000, 0x9_F000
START_INFO = ZERO_PAGE
ACPI_BASE, MP_BASE, TABLES_SIZE = 0xE_0000, 0xF_0000, 0x2_0000
COM1 = 0x3F8
PM_BASE = 0x600
SCI = 9
I386 = (3, 1)  # e_machine and class
ACTIVE_HIGH_LEVEL = 0xD


class Microvm(Board):
    """The board; see the module."""

    arch = "x86_64"
    ports = True
    ram_limit = 64 << 30
    max_cpus = 16
    virtio = Slots(0xFEB0_0000, 0x200, irq=16, count=8)
    shutdown = (
        "guest-reset"  # a PC's chipset answers a CPU's shutdown cycle, a triple fault's end, with a reset
    )

    parts = (
        Part("serial0", Uart16550, COM1, irq=4, serial=0, ports=True),
        Part("serial1", Uart16550, 0x2F8, irq=3, serial=1, ports=True),
        Part("ata0", EmptyAtaChannel, 0x1F0, ports=True),
        Part("ata1", EmptyAtaChannel, 0x170, ports=True),
        Part("debug-exit", DebugExit, 0xF4, ports=True),
    )

    acpi = True

    def configure(self, name: str, value: str) -> None:
        if name != "acpi":
            super().configure(name, value)
        if value not in ("on", "off"):
            raise DeviceError(f"acpi={value}: the board has them or not; use on or off")
        self.acpi = value == "on"

    def memory(self, machine: Machine) -> None:
        low = min(machine.ram, LOW_LIMIT)
        machine.memory.add_ram("ram", 0, low)
        self.high = machine.ram - low
        if self.high:
            machine.memory.add_ram("ram-high", FOUR_GIB, self.high)
        size = x86_rom.SIZE
        if machine.firmware:
            size = max(size, len(read_image(machine.firmware, "firmware", ROM_LIMIT)))
            size += -size % 4096
        self.rom = machine.memory.add_ram("rom", FOUR_GIB - size, size, readonly=True)
        self.low = low

    def interrupts(self, machine: Machine) -> None:
        self.controllers = PcInterrupts(machine.accel, machine.cpu_count)

    def connect_cpu(self, machine: Machine, cpu: Cpu) -> None:
        self.controllers.connect_cpu(cpu)

    def may_hand_over(self, engine: Accelerator, state: dict[str, Any]) -> None:
        self.controllers.may_hand_over(engine, state)

    def hand_over(self, engine: Accelerator, before: Any, after: Any, state: dict[str, Any]) -> int:
        return self.controllers.hand_over(engine, before, after, state)

    def line(self, number: int) -> IrqLine:
        return self.controllers.line(number)

    def build(self, machine: Machine) -> None:
        ports = machine.ports
        assert ports is not None
        self.controllers.attach(machine)
        ports.attach("keyboard", I8042(), 0x60, irq={"irq": 1, "auxiliary": 12})
        ports.attach("port-92", Port92(), 0x92)
        ports.attach("rtc", Mc146818(self.low, self.high), 0x70, irq=8)
        ports.attach("pci", PciHost(_i440fx()), 0xCF8)
        self.fw_cfg = FwCfgIo()
        self.fw_cfg.describe(machine.ram, len(machine.cpus), machine.fw_cfg)
        self.fw_cfg.add_file("etc/e820", self._e820())
        # SeaBIOS' screen and keyboard are the first serial line.
        self.fw_cfg.add_file("etc/sercon-port", struct.pack("<Q", COM1))
        if self.acpi:
            for file, data in loader_files(*acpi_tables(machine)).items():
                self.fw_cfg.add_file(file, data)
        ports.attach("fw-cfg", self.fw_cfg, 0x510)
        if machine.debugcon is not None:
            for port in debugcon.PORTS:
                ports.attach(f"debugcon-{port:x}", Debugcon(), port, chardev=machine.debugcon)
        self.pm = AcpiPm()
        ports.attach("acpi-pm", self.pm, PM_BASE, irq=SCI)
        super().build(machine)

    def _e820(self) -> bytes:
        usable = [(0, self.low)] + ([(FOUR_GIB, self.high)] if self.high else [])
        return b"".join(struct.pack("<QQI", base, size, 1) for base, size in usable)

    def load(self, machine: Machine) -> None:
        self.controllers.power_on()
        if machine.firmware:
            self._load_firmware(machine, machine.firmware)
        elif machine.kernel:
            self._load_tables(machine)
            image = read_image(machine.kernel, "kernel", LARGEST)
            with naming(machine.kernel):
                self.rom.buffer[:] = self._start(machine, image)

    def _load_firmware(self, machine: Machine, firmware: Image) -> None:
        fill_rom(self.rom, firmware, at_end=True)
        # PCs have its end below 1 MiB too; here as if it had been copied to RAM already.
        end = self.rom.buffer[-TABLES_SIZE:]
        machine.memory.load(ACPI_BASE + TABLES_SIZE - len(end), end)
        if machine.kernel:
            kernel = read_image(machine.kernel, "kernel", LARGEST)
            initrd = read_image(machine.initrd, "initrd", LARGEST) if machine.initrd else b""
            self.fw_cfg.offer(kernel, initrd, machine.append)

    def _load_tables(self, machine: Machine) -> None:
        # A kernel that is told not to use ACPI's tables must not find them: it would not look for others.
        self.rsdp = ACPI_BASE if self.acpi and "acpi=off" not in machine.append.split() else 0
        tables = placed_tables(machine) if self.rsdp else b""
        machine.memory.load(ACPI_BASE, tables.ljust(MP_BASE - ACPI_BASE, b"\0"))
        machine.memory.load(MP_BASE, mp_tables(machine))

    def _start(self, machine: Machine, image: bytes) -> bytes:
        """Loads the kernel; the ROM that enters it."""
        linux = parse_bzimage(image)
        if linux is not None:
            self._load_linux(machine, linux)
            return x86_rom.long_mode(linux.entry, ZERO_PAGE)
        elf = parse(image) if image.startswith(ELF_MAGIC) else None
        entry = None if elf is None else pvh_entry(elf)
        if elf is not None and entry is not None:
            self._load_pvh(machine, elf)
            return x86_rom.protected_mode(entry, START_INFO, GDT)
        if machine.initrd or machine.append:
            what = "initrd" if machine.initrd else "command line (--append)"
            raise BadImage(
                f"it takes no {what}: it is neither Linux' bzImage nor has it a PVH entry; leave that out"
            )
        if elf is None:
            machine.memory.load(KERNEL_BASE, image)
            return x86_rom.long_mode(KERNEL_BASE)
        check_arch(self.arch, elf)
        load_elf(machine, elf, self._taken())
        return x86_rom.long_mode(elf.physical(elf.entry))

    def _taken(self) -> list[tuple[int, int, str]]:
        """What no kernel's segment may lie over."""
        return [
            (ACPI_BASE, TABLES_SIZE, "the machine's tables"),
            (self.rom.base, self.rom.size, "the boot ROM"),
        ]

    def _load_pvh(self, machine: Machine, elf: Elf) -> None:
        words = self._command_line(machine, LOW_END - COMMAND_LINE - 1)
        told = (START_INFO, COMMAND_LINE + len(words) - START_INFO, "what the kernel is told")
        # The entry is for 32 bits: whether the rest of the file is for 64 is the kernel's affair.
        if (elf.machine, elf.elf_class) != I386:
            check_arch(self.arch, elf)
        load_elf(machine, elf, [*self._taken(), told])
        ends = [part.paddr + part.memsz for part in elf.segments if part.paddr < self.low]
        initrd = self._load_initrd(machine, max(ends, default=0), self.low)
        info = start_info(
            START_INFO,
            command_line=COMMAND_LINE,
            initrd=initrd,
            rsdp=self.rsdp,
            memory=self._memory_map(),
        )
        machine.memory.load(START_INFO, info)
        machine.memory.load(GDT, x86_rom.FLAT)

    def _load_linux(self, machine: Machine, linux: BzImage) -> None:
        end = linux.address + linux.room
        if end > self.low:
            raise BadImage(f"it wants memory up to {end:#x}; give the machine more (-m)")
        machine.memory.load(linux.address, linux.kernel)
        self._command_line(machine, linux.command_line)
        initrd = self._load_initrd(machine, end, min(self.low, linux.initrd_limit))
        page = zero_page(
            linux, command_line=COMMAND_LINE, initrd=initrd, rsdp=self.rsdp, memory=self._memory_map()
        )
        machine.memory.load(ZERO_PAGE, page)

    def _command_line(self, machine: Machine, most: int) -> bytes:
        """Puts the command line into memory, with its end; at most so many bytes besides."""
        # Where ACPI does not tell of virtio's devices the command line does; first, since it may end in "--".
        announced = [] if self.rsdp else _announced(machine)
        words = " ".join((*announced, machine.append)).encode()
        if len(words) > most:
            raise BadImage(f"the command line has {len(words)} bytes; this kernel takes {most}")
        machine.memory.load(COMMAND_LINE, words + b"\0")
        return words + b"\0"

    def _load_initrd(self, machine: Machine, end: int, top: int) -> tuple[int, int]:
        """Puts the initial RAM disk below `top`; its address and size, 0 without one.  end: the kernel's."""
        if not machine.initrd:
            return 0, 0
        data = read_image(machine.initrd, "initrd", max(top - end, 0))
        at = top - len(data) & ~0xFFF
        if at < end:
            raise BadImage("the initrd does not fit beside it; give the machine more memory (-m)")
        machine.memory.load(at, data)
        return at, len(data)

    def _memory_map(self) -> list[tuple[int, int, int]]:
        """What a kernel may use: base, size and kind."""
        memory = [
            (0, LOW_END, USABLE),
            (ACPI_BASE, TABLES_SIZE, RESERVED),
            (KERNEL_BASE, self.low - KERNEL_BASE, USABLE),
        ]
        if self.high:
            memory.append((FOUR_GIB, self.high, USABLE))
        return memory

    def powerdown(self, machine: Machine) -> None:
        self.pm.press()

    def start_cpu(self, machine: Machine, index: int, vcpu: Any) -> None:
        """The reset vector leads into the ROM."""
        self.controllers.start_cpu(index, vcpu)


def acpi_tables(machine: Machine) -> tuple[Tables, int]:
    """The tables, and where among them the XSDT is."""
    tables = Tables()
    facs_at = tables.add(facs(), summed=False)
    dsdt_at = tables.add(table(b"DSDT", 2, _namespace(machine)))
    overrides = [(0, PIT_INPUT, 0), (SCI, SCI, ACTIVE_HIGH_LEVEL)]
    madt_at = tables.add(madt(LOCAL_BASE, len(machine.cpus), IO_BASE, overrides))
    to_facs, to_dsdt = ((36, 4), (132, 8)), ((40, 4), (140, 8))
    pointers = [(*place, facs_at) for place in to_facs] + [(*place, dsdt_at) for place in to_dsdt]
    fadt_at = tables.add(table(b"FACP", 6, _fadt()), pointers)
    root = table(b"XSDT", 1, bytes(16))
    return tables, tables.add(root, [(36, 8, fadt_at), (44, 8, madt_at)])


def placed_tables(machine: Machine) -> bytes:
    """All tables as they are at ACPI_BASE, the root pointer first."""
    tables, root = acpi_tables(machine)
    first = ACPI_BASE + Tables.ALIGN
    whole = rsdp(first + root).ljust(Tables.ALIGN, b"\0") + tables.placed(first)
    assert len(whole) <= MP_BASE - ACPI_BASE
    return whole


def mp_tables(machine: Machine) -> bytes:
    """The tables for a kernel without ACPI, as they are at MP_BASE."""
    flags = {SCI: ACTIVE_HIGH_LEVEL}
    interrupts = [(n, n or PIT_INPUT, flags.get(n, 0)) for n in range(16) if n != PIT_INPUT]
    slots = Microvm.virtio
    interrupts += [(slots.irq + n, slots.irq + n, ACTIVE_HIGH_LEVEL) for n in range(slots.count)]
    return mp_table(
        MP_BASE,
        local_apic=LOCAL_BASE,
        io_apic=IO_BASE,
        cpus=len(machine.cpus),
        interrupts=interrupts,
    )


def _announced(machine: Machine) -> list[str]:
    """The words by which Linux' command line tells of virtio devices."""
    slots = Microvm.virtio
    return [
        f"virtio_mmio.device={slots.step:#x}@{slots.base + n * slots.step:#x}:{slots.irq + n}"
        for n in range(len(machine.virtio))
    ]


def _fadt() -> bytes:
    """The fixed description (ACPI 6.4, 5.2.9) without its header and its pointers."""
    body = bytearray(276 - 36)

    def put(offset: int, form: str, *values: int) -> None:
        struct.pack_into("<" + form, body, offset - 36, *values)

    put(46, "H", SCI)
    put(56, "I", PM_BASE)
    put(64, "I", PM_BASE + 4)
    put(76, "I", PM_BASE + 8)
    put(88, "BBBB", 4, 2, 0, 4)
    put(96, "HH", 0xFFFF, 0xFFFF)  # no C2, no C3
    put(108, "B", 0x32)  # the clock's century
    put(109, "H", 1)  # devices of the ISA bus; no keyboard controller
    # WBINVD works; no sleep button; the timer has 32 bits; there is a reset register.
    put(112, "I", 1 << 0 | 1 << 5 | 1 << 8 | 1 << 10)
    body[116 - 36 : 128 - 36] = io_address(PM_BASE + 12, 1)
    put(128, "B", 1)
    for offset, port, width in ((148, PM_BASE, 4), (172, PM_BASE + 4, 2), (208, PM_BASE + 8, 4)):
        body[offset - 36 : offset - 24] = io_address(port, width)
    return bytes(body)


def _namespace(machine: Machine) -> bytes:
    """The DSDT's terms: serial lines, the clock, virtio devices, and what switching off is."""
    terms = []
    for number, (base, irq) in enumerate(((0x3F8, 4), (0x2F8, 3))):
        terms.append(
            device(
                f"COM{number + 1}",
                name("_HID", eisa_id("PNP0501")),
                name("_UID", integer(number)),
                name("_CRS", resources(ports(base, 8), isa_interrupt(irq))),
            )
        )
    terms.append(
        device(
            "RTC", name("_HID", eisa_id("PNP0B00")), name("_CRS", resources(ports(0x70, 2), isa_interrupt(8)))
        )
    )
    slots = Microvm.virtio
    for number in range(len(machine.virtio)):
        where = memory32(slots.base + number * slots.step, slots.step)
        terms.append(
            device(
                f"VR{number:02X}",
                name("_HID", string("LNRO0005")),
                name("_UID", integer(number)),
                name("_CCA", integer(1)),
                name("_CRS", resources(where, interrupt(slots.irq + number))),
            )
        )
    off = package(integer(SOFT_OFF), integer(0), integer(0), integer(0))
    return scope("\\_SB", *terms) + name("\\_S5", off)


def _i440fx() -> dict[tuple[int, int], PciFunction]:
    """The host bridge, its PAM and SMRAM registers writable, and the PIIX3's ISA bridge."""
    return {
        (0, 0): PciFunction(0x8086, 0x1237, 0x060000, writable=(range(0x50, 0x80),)),
        (1, 0): PciFunction(0x8086, 0x7000, 0x060100, header=0x80, writable=(range(0x4C, 0x90),)),
    }
