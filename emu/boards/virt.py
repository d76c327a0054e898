"""virt: a board that no hardware has, made for guests; aarch64, arm and riscv64.

Its memory map is that of QEMU's boards of the same name (hw/arm/virt.c, hw/riscv/virt.c), so firmware and
kernels built for those run here.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

from accel.errors import DeviceError
from accel.irq import IrqLine
from emu.board import Board, Part, Slots
from emu.devices.clint import Clint
from emu.devices.fw_cfg import FwCfgMmio
from emu.devices.gic import Gic
from emu.devices.gic_its import GicIts
from emu.devices.gicv2 import Gicv2
from emu.devices.gicv2m import Gicv2m
from emu.devices.gicv3 import Gicv3, Gicv3Redistributors
from emu.devices.goldfish_rtc import GoldfishRtc
from emu.devices.pci import PciFunction, settle
from emu.devices.pci_ecam import BUS_SIZE, PciEcam
from emu.devices.pflash import Pflash, PflashRom
from emu.devices.pl011 import Pl011
from emu.devices.pl031 import Pl031
from emu.devices.pl061 import Pl061
from emu.devices.plic import Plic
from emu.devices.test_exit import PASS, RESET, SifiveTest
from emu.devices.uart16550 import Uart16550
from emu.loader.arm64_image import GZIP, parse_arm64
from emu.loader.fdt import LONGEST, Node, flatten, read_tree, reg
from emu.loader.firmware import fill_rom
from emu.loader.kernel import LARGEST, load_kernel
from emu.loader.raw import read_image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.loader.raw import Image
    from emu.machine import Cpu, Machine

# Device-tree interrupt cells of a GIC: kind, number, flags.
SPI, PPI = 0, 1
# Interrupt IDs of the CPU's timers, as all boards have them (Arm BSA, section 3.8.1).
TIMER_PPIS = {"physical": 30, "virtual": 27}
EDGE_RISING, LEVEL_HIGH = 1, 4
# The pin of the power button, and its key: KEY_POWER of Linux' input-event-codes.h.
POWER_PIN, POWER_KEY = 3, 116
GIC_BASE, REDISTRIBUTOR_BASE = 0x0800_0000, 0x080A_0000
MSI_BASE, ITS_BASE = 0x0802_0000, 0x0808_0000
# PCI: configuration space, memory, I/O ports; the first of the four wires' interrupts; the host bridge.
ECAM_BASE = 0x3F00_0000
PCI_MEMORY, PCI_PORTS = (0x1000_0000, 0x2EFF_0000), (0x3EFF_0000, 0x1_0000)
PCI_IRQ = 3
HOST_BRIDGE = (0x1B36, 0x0008, 0x060000)
# Bytes of the device tree left for firmware to add to it.
FDT_ROOM = 0x2000
# The initial RAM disk begins behind the kernel, within what every kernel has mapped early.
INITRD_ALIGN = 2 << 20
INITRD_WITHIN = 32 << 30


class SmallPflash(Pflash):
    """A bank of half the size, as the riscv64 board has it."""

    size = 32 << 20


class SmallPflashRom(PflashRom):
    """The firmware's bank beside it."""

    size = 32 << 20


class Virt(Board):
    """What the architectures share: flash with the firmware, the device tree, the kernel's place."""

    keeps_variables = True
    firmware_starts_kernels: ClassVar[bool] = True
    flash_base: ClassVar[int]
    bank: ClassVar[type[Pflash]] = Pflash
    rom_bank: ClassVar[type[PflashRom]] = PflashRom
    kernel_offset: ClassVar[int]
    cpus_reason = ", since Unicorn carries one CPU; use --cpus 1"
    fdt_offset: int = 0
    initrd: tuple[int, int] | None = None

    fw_cfg_base: ClassVar[int]

    def build(self, machine: Machine) -> None:
        super().build(machine)
        self.fw_cfg = FwCfgMmio()
        self.fw_cfg.describe(machine.ram, len(machine.cpus), machine.fw_cfg)
        machine.bus.attach("fw-cfg", self.fw_cfg, self.fw_cfg_base)
        # Two banks: the firmware, and its variables.
        for n, bank in enumerate((self.rom_bank(self.flash), self.bank(machine.firmware_vars))):
            machine.bus.attach(f"flash{n}", bank, self.flash_base + n * bank.size, priority=1 - n)

    def memory(self, machine: Machine) -> None:
        super().memory(machine)
        self.flash = machine.memory.add_ram("flash", self.flash_base, self.rom_bank.size, readonly=True)

    def load(self, machine: Machine) -> None:
        self.fdt_base = self.ram_base + self.fdt_offset
        self.entry: int | None = None
        self.initrd: tuple[int, int] | None = None
        if machine.firmware:
            self.load_firmware(machine, machine.firmware)
        if machine.kernel and machine.firmware and self.firmware_starts_kernels:
            self._offer(machine, machine.kernel)
        elif machine.kernel:
            loaded = load_kernel(machine, machine.kernel, self.ram_base + self.kernel_offset)
            self.entry = loaded.entry
            if machine.initrd:
                self.initrd = self._load_initrd(machine, machine.initrd, loaded.end)
        below_kernel = self.kernel_offset - self.fdt_offset
        room = below_kernel if below_kernel > 0 else LONGEST
        self.blob = read_tree(machine.dtb, room) if machine.dtb else self.device_tree(machine)
        machine.memory.load(self.fdt_base, self.blob)

    def tree(self, machine: Machine) -> bytes:
        return self.blob

    def device_tree(self, machine: Machine) -> bytes:
        """The flattened device tree of the machine."""
        return flatten(self.fdt(machine), room=FDT_ROOM)

    def _load_initrd(self, machine: Machine, initrd: Image, end: int) -> tuple[int, int]:
        """Puts the initial RAM disk behind the kernel; its first address and the first one behind it."""
        at = (end + INITRD_ALIGN - 1) & -INITRD_ALIGN
        room = self.ram_base + min(machine.ram, INITRD_WITHIN) - at
        image = read_image(initrd, "initrd", max(room, 0))
        machine.memory.load(at, image)
        return at, at + len(image)

    def _offer(self, machine: Machine, kernel: Image) -> None:
        """Leaves the kernel to the firmware; unpacked, where it is in gzip, which firmware cannot read."""
        image = read_image(kernel, "kernel", LARGEST)
        if image[:2] == GZIP:
            unpacked = parse_arm64(image)
            image = image if unpacked is None else unpacked.data
        initrd = read_image(machine.initrd, "initrd") if machine.initrd else b""
        self.fw_cfg.offer(image, initrd, machine.append)

    def load_firmware(self, machine: Machine, firmware: Image) -> None:
        """Puts the firmware where the CPU starts."""
        fill_rom(self.flash, firmware)

    # -- the device tree ---------------------------------------------------------

    def fdt(self, machine: Machine) -> Node:
        """The tree of this machine, devices included."""
        root = Node()
        root["#address-cells"] = 2
        root["#size-cells"] = 2
        root["compatible"] = self.compatible
        root["model"] = self.compatible
        chosen = root.node("chosen")
        if machine.append:
            chosen["bootargs"] = machine.append
        if self.initrd is not None:
            for name, address in zip(("start", "end"), self.initrd, strict=True):
                chosen[f"linux,initrd-{name}"] = reg(address)
        # Entropy for the guest's first random numbers; new at every start.
        chosen["rng-seed"] = os.urandom(32)
        chosen["kaslr-seed"] = os.urandom(8)
        memory = root.node(f"memory@{self.ram_base:x}")
        memory["device_type"] = "memory"
        memory["reg"] = reg(self.ram_base, machine.ram)
        self.describe(machine, root)
        flash = root.node(f"flash@{self.flash_base:x}")
        flash["compatible"] = "cfi-flash"
        size = self.bank.size
        flash["reg"] = reg(self.flash_base, size, self.flash_base + size, size)
        flash["bank-width"] = 4
        serial = machine.bus.attached["serial0"]
        soc = root.node("soc") if self.soc else root
        path = f"{'/soc' if self.soc else ''}/{serial.device.node_name}@{serial.base:x}"
        chosen["stdout-path"] = path
        root.node("aliases")["serial0"] = path
        machine.bus.fdt(soc, self.interrupt_cells)
        return root

    compatible: ClassVar[str]
    soc: ClassVar[bool] = False

    def describe(self, machine: Machine, root: Node) -> None:
        """Adds CPUs, timer and interrupt controller."""

    def interrupt_cells(self, number: int) -> list[int]:
        """A line as the tree names it."""
        raise DeviceError(f"no interrupt {number}")


class VirtArmBase(Virt):
    """What aarch64 and arm share."""

    ram_base = 0x4000_0000
    ram_limit = 255 << 30
    flash_base = 0
    fw_cfg_base = 0x0902_0000
    compatible = "linux,dummy-virt"
    options: ClassVar[tuple[str, ...]] = ("gic-version", "its", "virtio")
    cpu_compatible: ClassVar[str]
    timer_compatible: ClassVar[str]
    psci_method: ClassVar[str]
    virtio = Slots(0x0A00_0000, 0x200, irq=16, count=32)

    parts = (
        Part("serial0", Pl011, 0x0900_0000, irq=1, serial=0),
        Part("rtc", Pl031, 0x0901_0000, irq=2),
        Part("gpio", Pl061, 0x0903_0000, irq=7),
    )

    gic_version = 2
    its = True  # where the GIC is one that can have it

    def configure(self, name: str, value: str) -> None:
        if name == "virtio":
            if value not in ("mmio", "pci"):
                raise DeviceError(f"virtio={value}: virtio devices are found by mmio or by pci")
            self.virtio_by_pci = value == "pci"
            return
        if name == "its":
            if value not in ("on", "off"):
                raise DeviceError(
                    f"its={value}: on gives a GIC of version 3 an ITS, off a frame of version 2's"
                )
            self.its = value == "on"
            return
        if name != "gic-version":
            super().configure(name, value)
        if value not in ("2", "3"):
            raise DeviceError(f"gic-version={value}: this board has a GIC of version 2 or 3")
        self.gic_version = int(value)

    def interrupts(self, machine: Machine) -> None:
        self.gic: Gic = Gicv3() if self.gic_version == 3 else Gicv2()

    def connect_cpu(self, machine: Machine, cpu: Cpu) -> None:
        self.gic.connect_cpu(cpu)
        # The engine's generic timers, where it has them.
        for name, line in getattr(cpu.vcpu, "timers", {}).items():
            self.gic.wire(TIMER_PPIS[name], line)

    def build(self, machine: Machine) -> None:
        machine.bus.attach("gic", self.gic, GIC_BASE)
        if isinstance(self.gic, Gicv3):
            redistributors = Gicv3Redistributors(self.gic, len(machine.cpus))
            machine.bus.attach("gic-redistributors", redistributors, REDISTRIBUTOR_BASE)
        messages: Gicv2m | GicIts
        if isinstance(self.gic, Gicv3) and self.its:
            messages = GicIts(self.gic, ITS_BASE)
            machine.bus.attach("its", messages, ITS_BASE)
        else:
            messages = Gicv2m(self.gic, MSI_BASE)
            machine.bus.attach("v2m", messages, MSI_BASE)
        super().build(machine)
        functions = {(0, 0): PciFunction(*HOST_BRIDGE)}
        settle(self.pci_functions(machine), functions)
        pci = PciEcam(functions, (PCI_MEMORY, PCI_PORTS))
        pci.wire([self.gic.line(PCI_IRQ + n) for n in range(4)], messages.msi)
        machine.bus.attach("pci", pci, ECAM_BASE)

    def line(self, number: int) -> IrqLine:
        return self.gic.line(number)

    def interrupt_cells(self, number: int) -> list[int]:
        slot = number - self.virtio.irq
        return [SPI, number, EDGE_RISING if 0 <= slot < self.virtio.count else LEVEL_HIGH]

    def describe(self, machine: Machine, root: Node) -> None:
        cpus = root.node("cpus")
        cpus["#address-cells"] = 1
        cpus["#size-cells"] = 0
        for index in range(len(machine.cpus)):
            cpu = cpus.node(f"cpu@{index:x}")
            cpu["device_type"] = "cpu"
            cpu["compatible"] = self.cpu_compatible
            cpu["reg"] = index
            cpu["enable-method"] = "psci"
        psci = root.node("psci")
        psci["compatible"] = ["arm,psci-1.0", "arm,psci-0.2"]
        psci["method"] = self.psci_method if self.engine.get("level", 1) < 2 else "smc"
        timer = root.node("timer")
        timer["compatible"] = self.timer_compatible.split()
        timer["interrupts"] = [cell for ppi in (13, 14, 11, 10) for cell in (PPI, ppi, 0x104)]
        timer["always-on"] = True
        clock = root.node("apb-pclk")
        clock["compatible"] = "fixed-clock"
        clock["#clock-cells"] = 0
        clock["clock-frequency"] = 24_000_000
        clock["clock-output-names"] = "clk24mhz"
        gic = root.node("intc@8000000")
        gic["interrupt-controller"] = True
        gic["#interrupt-cells"] = 3
        if self.gic_version == 3:
            gic["compatible"] = "arm,gic-v3"
            gic["#redistributor-regions"] = 1
            gic["reg"] = reg(GIC_BASE, 0x1_0000, REDISTRIBUTOR_BASE, 0x2_0000 * len(machine.cpus))
        else:
            gic["compatible"] = "arm,cortex-a15-gic"
            gic["reg"] = reg(GIC_BASE, 0x1_0000, GIC_BASE + 0x1_0000, 0x1_0000)
        # Cells of an address, for the node below and in the PCI bus' map of interrupts.
        gic["#address-cells"] = 2
        gic["#size-cells"] = 2
        gic["ranges"] = True
        if "its" in machine.bus.attached:
            messages = gic.node(f"its@{ITS_BASE:x}")
            messages["compatible"] = "arm,gic-v3-its"
            messages["#msi-cells"] = 1
            messages["reg"] = reg(ITS_BASE, GicIts.size)
        else:
            messages = gic.node(f"v2m@{MSI_BASE:x}")
            messages["compatible"] = "arm,gic-v2m-frame"
            messages["reg"] = reg(MSI_BASE, Gicv2m.size)
        messages["msi-controller"] = True
        root["interrupt-parent"] = gic
        self._describe_pci(root, gic, messages)

    def _describe_pci(self, root: Node, gic: Node, messages: Node) -> None:
        """The bus: Linux' binding pci/host-generic-pci.yaml, and IEEE 1275's for PCI."""
        pci = root.node(f"pcie@{PCI_MEMORY[0]:x}")
        pci["compatible"] = "pci-host-ecam-generic"
        pci["device_type"] = "pci"
        pci["#address-cells"] = 3
        pci["#size-cells"] = 2
        pci["#interrupt-cells"] = 1
        pci["linux,pci-domain"] = 0
        pci["bus-range"] = [0, PciEcam.size // BUS_SIZE - 1]
        pci["dma-coherent"] = True
        pci["reg"] = reg(ECAM_BASE, PciEcam.size)
        # Kind of space, address on the bus, address here, size: ports, and memory of 32 bits.
        pci["ranges"] = [
            *(0x0100_0000, *reg(0, PCI_PORTS[0], PCI_PORTS[1])),
            *(0x0200_0000, *reg(PCI_MEMORY[0], PCI_MEMORY[0], PCI_MEMORY[1])),
        ]
        # Wire A of slot n is the bus' wire n, B the next, and so on around.
        pci["interrupt-map-mask"] = [0x1800, 0, 0, 7]
        pci["interrupt-map"] = [
            cell
            for slot in range(4)
            for pin in range(4)
            for cell in (
                *(slot << 11, 0, 0, pin + 1),
                *(gic, 0, 0, SPI, PCI_IRQ + (slot + pin) % 4, LEVEL_HIGH),
            )
        ]
        pci["msi-map"] = [0, messages, 0, 0x1_0000]

    def fdt(self, machine: Machine) -> Node:
        root = super().fdt(machine)
        clock = root.node("apb-pclk")
        for node in root.children:
            if "arm,primecell" in str(node.properties.get("compatible")):
                serial = "arm,pl011" in str(node["compatible"])
                node["clocks"] = [clock, clock] if serial else [clock]
                node["clock-names"] = ["uartclk", "apb_pclk"] if serial else ["apb_pclk"]
        gpio = machine.bus.attached["gpio"]
        keys = root.node("gpio-keys")
        keys["compatible"] = "gpio-keys"
        power = keys.node("poweroff")
        power["label"] = "GPIO Key Poweroff"
        power["linux,code"] = POWER_KEY
        power["gpios"] = [root.node(f"{gpio.device.node_name}@{gpio.base:x}"), POWER_PIN, 0]
        return root

    def powerdown(self, machine: Machine) -> None:
        gpio = machine.bus.attached["gpio"].device
        assert isinstance(gpio, Pl061)
        gpio.press(POWER_PIN)


class VirtAarch64(VirtArmBase):
    """aarch64 virt."""

    arch = "aarch64"
    kernel_offset = 0x8_0000
    cpu_compatible = "arm,cortex-a53"
    timer_compatible = "arm,armv8-timer arm,armv7-timer"
    psci_method = "hvc"
    options = ("gic-version", "its", "virtio", "virtualization")

    def configure(self, name: str, value: str) -> None:
        if name != "virtualization":
            super().configure(name, value)
        elif value not in ("on", "off"):
            raise DeviceError(f"virtualization={value}: on starts the CPU at EL2, off at EL1")
        else:
            self.engine = {"level": 2 if value == "on" else 1}

    def start_cpu(self, machine: Machine, index: int, vcpu: Any) -> None:
        """A kernel finds the device tree by x0 (Linux' Documentation/arch/arm64/booting.rst)."""
        if self.entry is not None:
            vcpu.set(pc=self.entry, x0=self.fdt_base, x1=0, x2=0, x3=0)


class VirtArm(VirtArmBase):
    """arm virt."""

    arch = "arm"
    ram_limit = 3 << 30
    kernel_offset = 0x1_0000
    cpu_compatible = "arm,cortex-a15"
    timer_compatible = "arm,armv7-timer"
    psci_method = "smc"  # in secure state, where it starts, HVC is undefined (Arm ARM for v7-A, B9.3, HVC)

    def start_cpu(self, machine: Machine, index: int, vcpu: Any) -> None:
        """A kernel finds the device tree by r2 (Linux' Documentation/arch/arm/booting.rst)."""
        if self.entry is not None:
            vcpu.set(pc=self.entry, r0=0, r1=0xFFFF_FFFF, r2=self.fdt_base)


class VirtRiscv64(Virt):
    """riscv64 virt, which starts in machine mode."""

    arch = "riscv64"
    firmware_starts_kernels = False
    ram_base = 0x8000_0000
    ram_limit = 64 << 30
    flash_base = 0x2000_0000
    bank = SmallPflash
    rom_bank = SmallPflashRom
    kernel_offset = 0
    fw_cfg_base = 0x1010_0000
    compatible = "riscv-virtio"
    soc = True
    timebase = 10_000_000
    virtio = Slots(0x1000_1000, 0x1000, irq=1, count=8)

    parts = (
        Part("test", SifiveTest, 0x10_0000),
        Part("rtc", GoldfishRtc, 0x10_1000, irq=11),
        Part("serial0", lambda: Uart16550(clock=3_686_400), 0x1000_0000, irq=10, serial=0),
    )

    def interrupts(self, machine: Machine) -> None:
        self.plic = Plic(sources=96, harts=1)
        self.clint = Clint(self.timebase)

    def connect_cpu(self, machine: Machine, cpu: Cpu) -> None:
        self.plic.connect_cpu(cpu)
        self.clint.connect_cpu(cpu)

    def build(self, machine: Machine) -> None:
        machine.bus.attach("clint", self.clint, 0x0200_0000)
        machine.bus.attach("plic", self.plic, 0x0C00_0000)
        super().build(machine)

    def line(self, number: int) -> IrqLine:
        return self.plic.line(number)

    def interrupt_cells(self, number: int) -> list[int]:
        return [number]

    def load(self, machine: Machine) -> None:
        # The tree is at the end of RAM, where neither firmware nor a kernel at the start of it grows.
        self.fdt_offset = min(machine.ram, 3 << 30) - 0x20_0000 & ~0x1F_FFFF
        super().load(machine)

    def load_firmware(self, machine: Machine, firmware: Image) -> None:
        """Firmware is in RAM here, where the reset code jumps to."""
        image = read_image(firmware, "firmware", machine.ram)
        machine.memory.load(self.ram_base, image)
        self.entry = self.ram_base

    def start_cpu(self, machine: Machine, index: int, vcpu: Any) -> None:
        """a0 is the hart's number, a1 the device tree."""
        vcpu.set(pc=self.ram_base if self.entry is None else self.entry, a0=index, a1=self.fdt_base)

    def fdt(self, machine: Machine) -> Node:
        root = super().fdt(machine)
        test = machine.bus.attached["test"]
        regmap = root.node("soc").node(f"{test.device.node_name}@{test.base:x}")
        for name, value in (("reboot", RESET), ("poweroff", PASS)):
            node = root.node(name)
            node["compatible"] = f"syscon-{name}"
            node["regmap"] = regmap
            node["offset"] = 0
            node["value"] = value
        return root

    def describe(self, machine: Machine, root: Node) -> None:
        cpus = root.node("cpus")
        cpus["#address-cells"] = 1
        cpus["#size-cells"] = 0
        cpus["timebase-frequency"] = self.timebase
        outputs: list[list[Any]] = []
        for index in range(len(machine.cpus)):
            cpu = cpus.node(f"cpu@{index:x}")
            cpu["device_type"] = "cpu"
            cpu["compatible"] = "riscv"
            cpu["reg"] = index
            cpu["status"] = "okay"
            cpu["riscv,isa"] = "rv64imafdc"
            cpu["mmu-type"] = "riscv,sv48"
            intc = cpu.node("interrupt-controller")
            intc["#interrupt-cells"] = 1
            intc["interrupt-controller"] = True
            intc["compatible"] = "riscv,cpu-intc"
            outputs.append([intc])
        soc = root.node("soc")
        soc["#address-cells"] = 2
        soc["#size-cells"] = 2
        soc["compatible"] = "simple-bus"
        soc["ranges"] = True
        clint = soc.node("clint@2000000")
        clint["compatible"] = ["sifive,clint0", "riscv,clint0"]
        clint["reg"] = reg(0x0200_0000, 0x1_0000)
        clint["interrupts-extended"] = [cell for (intc,) in outputs for cell in (intc, 3, intc, 7)]
        plic = soc.node("plic@c000000")
        plic["compatible"] = ["sifive,plic-1.0.0", "riscv,plic0"]
        plic["reg"] = reg(0x0C00_0000, 0x60_0000)
        plic["interrupts-extended"] = [cell for (intc,) in outputs for cell in (intc, 11, intc, 9)]
        plic["interrupt-controller"] = True
        plic["#interrupt-cells"] = 1
        plic["#address-cells"] = 0
        plic["riscv,ndev"] = 95
        soc["interrupt-parent"] = plic
