"""Board: which parts a machine has, and where.

A board is a class whose table says what stands at which address; it is the same under every accelerator.
What a table cannot say (interrupt controllers, device trees, the state a CPU starts in) are methods.

    class Little(Board):
        arch = "riscv64"
        ram_base = 0x8000_0000
        parts = (Part("serial0", Uart16550, 0x1000_0000, irq=10, serial=0),)
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar

from accel.errors import AccelError, DeviceError, nearest
from accel.irq import IrqLine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from accel.api import Accelerator
    from emu.device import Device
    from emu.devices.pci import PciFunction
    from emu.machine import Cpu, Machine

# Board and architecture: the module and class.  The first architecture of a board is its default.
BOARDS = {
    ("virt", "aarch64"): ("emu.boards.virt", "VirtAarch64"),
    ("virt", "arm"): ("emu.boards.virt", "VirtArm"),
    ("virt", "riscv64"): ("emu.boards.virt", "VirtRiscv64"),
    ("microvm", "x86_64"): ("emu.boards.microvm", "Microvm"),
    ("pc", "x86_64"): ("emu.boards.pc", "Pc"),
    ("none", "aarch64"): ("emu.boards.none", "NoAarch64"),
    ("none", "x86_64"): ("emu.boards.none", "NoX86"),
}


class Part:
    """One line of a board's table.

    device: makes the device (its class will do); base: its address; irq: the interrupt controller's input;
    serial: which of the machine's serial lines it is the end of; ports: whether base is an x86 port.
    """

    __slots__ = ("base", "device", "irq", "name", "ports", "serial")

    def __init__(
        self,
        name: str,
        device: Callable[[], Device],
        base: int,
        *,
        irq: int | None = None,
        serial: int | None = None,
        ports: bool = False,
    ) -> None:
        self.name = name
        self.device = device
        self.base = base
        self.irq = irq
        self.serial = serial
        self.ports = ports


class Slots:
    """Room for virtio devices by MMIO: `count` places, `step` bytes and one interrupt apart."""

    __slots__ = ("base", "count", "irq", "step")

    def __init__(self, base: int, step: int, irq: int, count: int) -> None:
        self.base = base
        self.step = step
        self.irq = irq
        self.count = count


class Board:
    """Base of all boards.

    name: by which it was opened, "" for one that was not; ram_base: address of RAM; ram_limit: bytes of RAM
    the map has room for; default_ram: bytes if nobody says; ports: whether it has x86's port space;
    keeps_variables: whether firmware can write some that last; parts: what stands where; virtio: slots for
    virtio devices; virtio_by_pci: whether they are functions of its PCI bus instead; default_firmware: what
    it starts if it is given neither firmware nor a kernel, "" for nothing; shutdown: what the machine does,
    in QMP's word, when a CPU shuts down; options: those that configure() takes.
    """

    name: str = ""
    arch: ClassVar[str]
    options: ClassVar[tuple[str, ...]] = ()
    ram_base: ClassVar[int] = 0
    ram_limit: ClassVar[int] = 1 << 36
    default_ram: ClassVar[int] = 128 << 20
    max_cpus: ClassVar[int] = 1
    min_cpus: ClassVar[int] = 1
    cpus_reason: ClassVar[str] = ""  # why not more, for the message
    ports: ClassVar[bool] = False
    keeps_variables: ClassVar[bool] = False
    parts: ClassVar[tuple[Part, ...]] = ()
    virtio: ClassVar[Slots | None] = None
    virtio_by_pci: bool = False
    default_firmware: ClassVar[str] = ""
    shutdown: ClassVar[str] = "guest-shutdown"
    # What open_accelerator() is told besides.
    engine: dict[str, Any] = {}

    def configure(self, name: str, value: str) -> None:
        """Takes an option of `--machine BOARD,name=value`, before anything is built.  Raises DeviceError."""
        board = self.name or type(self).__name__.lower()
        remedy = f"it has {', '.join(self.options)}" if self.options else "leave it out"
        raise DeviceError(f"board {board} has no option {name!r}{nearest(name, self.options)}; {remedy}")

    def build(self, machine: Machine) -> None:
        """Attaches the parts; called once, after memory(), interrupts() and the CPUs."""
        for part in self.parts:
            bus = machine.ports if part.ports else machine.bus
            assert bus is not None
            chardev = None if part.serial is None else machine.serial_line(part.serial)
            bus.attach(part.name, part.device(), part.base, irq=part.irq, chardev=chardev)
        self.fill_slots(machine)

    def fill_slots(self, machine: Machine) -> None:
        """Attaches the machine's virtio devices.

        The first one is in the lowest slot, and first in the device tree: so Linux finds the first disk
        first, and calls it vda.
        """
        if self.virtio_by_pci:
            if machine.force_legacy:
                raise DeviceError("virtio over PCI has no legacy transport here; leave force_legacy out")
            return
        slots = self.virtio
        if len(machine.virtio) > (0 if slots is None else slots.count):
            most = "no virtio slots" if slots is None else f"{slots.count} virtio slots"
            raise DeviceError(f"{len(machine.virtio)} virtio devices: this board has {most}; leave some out")
        if slots is None or not machine.virtio:
            return
        from emu.virtio.mmio import VirtioMmio

        for number, device in enumerate(machine.virtio):
            transport = VirtioMmio(device, force_legacy=machine.force_legacy)
            base = slots.base + number * slots.step
            machine.bus.attach(f"virtio{number}", transport, base, irq=slots.irq + number)

    def pci_functions(self, machine: Machine) -> list[PciFunction]:
        """What is plugged into the PCI bus, in the order of its slots."""
        if not self.virtio_by_pci:
            return machine.pci
        from emu.virtio.pci import VirtioPci

        return [*machine.pci, *(VirtioPci(device) for device in machine.virtio)]

    def memory(self, machine: Machine) -> None:
        """RAM, ROM and flash."""
        machine.memory.add_ram("ram", self.ram_base, machine.ram)

    def interrupts(self, machine: Machine) -> None:
        """The interrupt controller, made before the parts; it may be the engine's."""

    def connect_cpu(self, machine: Machine, cpu: Cpu) -> None:
        """Connects the interrupt controller to a new CPU."""

    def may_hand_over(self, engine: Accelerator, state: dict[str, Any]) -> None:
        """Raises AccelError where a guest with a vCPU of that state cannot go to another engine."""
        raise AccelError(f"board {type(self).__name__.lower()} stays on the accelerator it was started on")

    def hand_over(self, engine: Accelerator, before: Any, after: Any, state: dict[str, Any]) -> int:
        """Takes the interrupts from a vCPU to that of another engine, whose `state` is about to be loaded.

        Returns the host's time (ns) before which the guest must not run, or 0.
        """
        return 0

    def save(self, machine: Machine, cpus: list[dict[str, Any]], devices: dict[str, Any]) -> Any:
        """What a snapshot has besides the devices' states, which it may complete, and the CPUs'."""
        return None

    def load_state(self, machine: Machine, cpus: list[dict[str, Any]], saved: Any) -> int:
        """Takes what save() gave, after the devices and before the CPUs, whose states it may complete.

        Returns the host's time (ns) before which the guest must not run, or 0.
        """
        return 0

    def line(self, number: int) -> IrqLine:
        """Input `number` of the interrupt controller."""
        raise DeviceError(f"this board has no interrupt controller for line {number}; attach without irq")

    def load(self, machine: Machine) -> None:
        """Fills memory with firmware, kernel and tables: at start, and again at every reset."""

    def tree(self, machine: Machine) -> bytes | None:
        """The flattened device tree that load() has given the guest; None where the board has none."""
        return None

    def powerdown(self, machine: Machine) -> None:
        """Presses the power button."""
        raise DeviceError("this board has no power button; shut the guest down from inside, or end it")

    def start_cpu(self, machine: Machine, index: int, vcpu: Any) -> None:
        """Sets what a vCPU starts with, besides its architectural reset state."""


def open_board(name: str, arch: str | None) -> Board:
    """The board of that name, with options after commas, for an architecture (None: the board's first).

    Raises DeviceError.
    """
    name, *options = name.split(",")
    known = [key for key in BOARDS if key[0] == name]
    if not known:
        names = dict.fromkeys(board for board, _ in BOARDS)
        raise DeviceError(f"no board is called {name!r}{nearest(name, names)}; use {', '.join(names)}")
    if arch is not None:
        from isa.arch import UnknownArch, canonical

        try:
            arch = canonical(arch)
        except UnknownArch as error:
            raise DeviceError(str(error)) from None
    key = known[0] if arch is None else (name, arch)
    if key not in BOARDS:
        raise DeviceError(f"board {name} is not made for {arch}; it is for {', '.join(a for _, a in known)}")
    module, cls = BOARDS[key]
    board: Board = getattr(import_module(module), cls)()
    board.name = name
    for option in options:
        word, _, value = option.partition("=")
        board.configure(word, value)
    return board
