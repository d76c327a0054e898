"""What all PCs here have: RAM, ISA's parts, firmware's and kernels' entry.

Serial ports, clock, timer and interrupt controllers stand where every PC has them; which of the controllers
are the engine's pc_interrupts.py says.  What is behind the PCI configuration ports, and where virtio devices
are, is a board's own affair (microvm.py, pc.py).

A kernel is entered in 64-bit mode, paging identity below 4 GiB, interrupts off, RSP at 7C00h, RSI 0 or at
Linux' zero page; by PVH, if its file says so, in 32-bit mode without paging, EBX at the start info.  A small
ROM at the reset vector brings the CPU there.  ACPI tables (pc_tables.py) tell it of CPUs, interrupts, the
power button and devices; with the option acpi=off, or that word on the command line, Intel's MP tables do.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, ClassVar

from accel.errors import BadImage, DeviceError
from emu.board import Board, Part
from emu.boards.pc_interrupts import PcInterrupts
from emu.boards.pc_tables import (
    ACPI_BASE,
    MP_BASE,
    PM_BASE,
    SCI,
    TABLES_SIZE,
    acpi_tables,
    mp_tables,
    placed_tables,
)
from emu.devices import debugcon
from emu.devices.acpi_pm import AcpiPm
from emu.devices.ata import EmptyAtaChannel
from emu.devices.debugcon import Debugcon
from emu.devices.fw_cfg import FwCfgIo
from emu.devices.i8042 import I8042, Port92
from emu.devices.mc146818 import Mc146818
from emu.devices.test_exit import DebugExit
from emu.devices.uart16550 import Uart16550
from emu.loader import x86_rom
from emu.loader.acpi import loader_files
from emu.loader.bzimage import RESERVED, USABLE, BzImage, parse_bzimage, zero_page
from emu.loader.elf import Elf, parse
from emu.loader.firmware import fill_rom
from emu.loader.kernel import ELF_MAGIC, LARGEST, check_arch, load_elf, naming
from emu.loader.pvh import pvh_entry, start_info
from emu.loader.raw import read_image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from accel.api import Accelerator
    from accel.irq import IrqLine
    from emu.devices.pci_host import PciHost
    from emu.loader.raw import Image
    from emu.machine import Cpu, Machine

# RAM below 4 GiB ends here at the latest; what is more begins at 4 GiB.
LOW_LIMIT = 0xC000_0000
FOUR_GIB = 1 << 32
ROM_LIMIT = 16 << 20
KERNEL_BASE = 0x10_0000
# What the kernel is told is below 640 KiB, tables (pc_tables.py) where PCs have ROMs.
ZERO_PAGE, GDT, COMMAND_LINE, LOW_END = 0x1_0000, 0x1_1000, 0x2_0000, 0x9_F000
START_INFO = ZERO_PAGE
COM1 = 0x3F8
I386 = (3, 1)  # e_machine and class


class PcBoard(Board):
    """What they share; see the module.

    level_lines: ISA's interrupts that are level-triggered.
    """

    level_lines: ClassVar[tuple[int, ...]] = (SCI,)

    arch = "x86_64"
    options = ("acpi",)
    ports = True
    ram_limit = 64 << 30
    max_cpus = 16
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

    # -- what a board says ------------------------------------------------------------

    def host_bridge(self, machine: Machine) -> PciHost:
        """What stands at the PCI configuration ports."""
        raise NotImplementedError

    def namespace(self, machine: Machine) -> list[bytes]:
        """The DSDT's terms for what the board has besides ISA's parts."""
        return []

    def events(self) -> list[bytes]:
        """The methods that serve general-purpose events, where there are any."""
        return []

    def inputs(self) -> tuple[int, ...]:
        """Inputs of the I/O APIC, above ISA's, that MP tables tell of."""
        return ()

    def announced(self, machine: Machine) -> list[str]:
        """Words that tell Linux of devices on its command line where ACPI does not."""
        return []

    # -- what they have ---------------------------------------------------------------

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
        firmware = self.firmware(machine)
        if firmware:
            size = max(size, len(read_image(firmware, "firmware", ROM_LIMIT)))
            size += -size % 4096
        self.rom = machine.memory.add_ram("rom", FOUR_GIB - size, size, readonly=True)
        self.low = low

    def firmware(self, machine: Machine) -> Image | None:
        """What the CPU starts with; None where it starts a kernel, or nothing."""
        if machine.firmware or machine.kernel or not self.default_firmware:
            return machine.firmware
        if not Path(self.default_firmware).exists():
            raise BadImage(
                f"{self.default_firmware}: not there, and nothing else to start; install seabios,"
                " or give firmware or a kernel"
            )
        return self.default_firmware

    def interrupts(self, machine: Machine) -> None:
        self.controllers = PcInterrupts(machine.accel, machine.cpu_count)

    def connect_cpu(self, machine: Machine, cpu: Cpu) -> None:
        self.controllers.connect_cpu(cpu)

    def may_hand_over(self, engine: Accelerator, state: dict[str, Any]) -> None:
        self.controllers.may_hand_over(engine, state)

    def hand_over(self, engine: Accelerator, before: Any, after: Any, state: dict[str, Any]) -> int:
        return self.controllers.hand_over(engine, before, after, state)

    def save(self, machine: Machine, cpus: list[dict[str, Any]], devices: dict[str, Any]) -> Any:
        return self.controllers.save(machine.cpus, cpus, devices)

    def load_state(self, machine: Machine, cpus: list[dict[str, Any]], saved: Any) -> int:
        return self.controllers.load_state(machine.cpus, cpus, saved)

    def line(self, number: int) -> IrqLine:
        return self.controllers.line(number)

    def build(self, machine: Machine) -> None:
        ports = machine.ports
        assert ports is not None
        self.controllers.attach(machine)
        ports.attach("keyboard", I8042(), 0x60, irq={"irq": 1, "auxiliary": 12})
        ports.attach("port-92", Port92(), 0x92)
        ports.attach("rtc", Mc146818(self.low, self.high), 0x70, irq=8)
        ports.attach("pci", self.host_bridge(machine), 0xCF8)
        self.fw_cfg = FwCfgIo()
        self.fw_cfg.describe(machine.ram, len(machine.cpus), machine.fw_cfg)
        self.fw_cfg.add_file("etc/e820", self._e820())
        # SeaBIOS' screen and keyboard are the first serial line.
        self.fw_cfg.add_file("etc/sercon-port", struct.pack("<Q", COM1))
        if self.acpi:
            for file, data in loader_files(*acpi_tables(self, machine)).items():
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
        firmware = self.firmware(machine)
        if firmware:
            self._load_firmware(machine, firmware)
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
        tables = placed_tables(self, machine) if self.rsdp else b""
        machine.memory.load(ACPI_BASE, tables.ljust(MP_BASE - ACPI_BASE, b"\0"))
        machine.memory.load(MP_BASE, mp_tables(self, machine))

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
        announced = [] if self.rsdp else self.announced(machine)
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
