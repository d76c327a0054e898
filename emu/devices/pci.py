"""PCI functions: configuration space, capabilities, base address registers, interrupts; and a bus of them.

PciFunction is a configuration space of 256 bytes and nothing else, which is enough for a bridge that firmware
looks for.  PciDevice has regions that the guest places by their base address registers (BARs), an interrupt
pin and messages (MSI-X).  PciBus is what host bridges share; PciBridge (pci_bridge.py) leads to another bus.

Source: PCI Local Bus Specification 3.0, chapter 6.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from accel.errors import DeviceError
from accel.irq import IrqLine
from emu.device import Context, Device
from emu.devices.native import cast, ffi, function, lib, opaque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from accel.memory import Region
    from emu.devices.pci_bridge import PciBridge

CONFIG_SIZE = 256
# Configuration registers, and bits of the command and status registers.
COMMAND, STATUS, BARS, SUBSYSTEM, CAPABILITIES, INTERRUPT_LINE, INTERRUPT_PIN = (
    *(0x04, 0x06, 0x10, 0x2C, 0x34, 0x3C, 0x3D),
)
MEMORY, PIN_DISABLED = 1 << 1, 1 << 10
HAS_CAPABILITIES = 1 << 4
FIRST_CAPABILITY = 0x40
# Capability identifiers; MSI-X's control register.
VENDOR_SPECIFIC, MSIX = 0x09, 0x11
MSIX_ENABLED, MSIX_MASKED = 1 << 15, 1 << 14
# BAR bits: 64 bits wide, prefetchable.
WIDE, PREFETCHABLE = 1 << 2, 1 << 3
HEADER_TYPE, MULTIFUNCTION = 0x0E, 0x80
SLOTS, FUNCTIONS = 32, 8


class Bus(Protocol):
    """What a function is plugged into.

    name: for the names of regions; number: of the bus; wires, msi, msi_opaque: where interrupts go;
    functions: by (device, function).
    """

    name: str
    functions: dict[tuple[int, int], PciFunction]

    @property
    def number(self) -> int: ...

    @property
    def wires(self) -> Any: ...

    @property
    def msi(self) -> Any: ...

    @property
    def msi_opaque(self) -> Any: ...

    def wire_of(self, device: int) -> int:
        """The wire, 0 to 3, that pin A of a device pulls."""

    def rank(self) -> int:
        """Another one at each call: which function's region is seen where a guest puts two at one place."""

    def forwards(self, base: int, size: int) -> bool:
        """Whether the guest's accesses to a whole range come here."""


class PciFunction:
    """A function's configuration space, of which `writable` bytes take what is written.

    place: the (device, function) on its bus that it is to have; None: any.
    """

    place: tuple[int, int] | None = None

    def __init__(
        self,
        vendor: int,
        device: int,
        class_code: int,
        *,
        header: int = 0,
        revision: int = 0,
        subsystem: tuple[int, int] = (0, 0),
        writable: tuple[range, ...] = (),
    ) -> None:
        self.config = bytearray(CONFIG_SIZE)
        self.masks = bytearray(CONFIG_SIZE)
        self.put(0, vendor | device << 16, 4)
        self.put(8, revision | class_code << 8, 4)
        self.put(0x0E, header, 1)
        self.put(SUBSYSTEM, subsystem[0] | subsystem[1] << 16, 4)
        # The command register: I/O, memory, bus master; and the interrupt line.
        self.masks[COMMAND] = 0x07
        self.masks[INTERRUPT_LINE] = 0xFF
        for places in writable:
            for at in places:
                self.masks[at] = 0xFF
        self.initial = bytes(self.config)

    def put(self, at: int, value: int, width: int) -> None:
        """Sets bytes of the configuration space."""
        self.config[at : at + width] = value.to_bytes(width, "little")

    def get(self, at: int, width: int) -> int:
        """Bytes of the configuration space."""
        return int.from_bytes(self.config[at : at + width], "little")

    def realize(self, bus: Bus, place: tuple[int, int], context: Context) -> None:
        """Takes what bus and machine lend; called once."""

    def moved(self) -> None:
        """The bus has another number, or is seen at other addresses."""

    def reset(self) -> None:
        """Back to the state after power-on."""
        self.config[:] = self.initial

    def read(self, at: int, width: int) -> int:
        """A guest's read of configuration space."""
        return self.get(at, width)

    def write(self, at: int, width: int, value: int) -> None:
        """A guest's write: changes what may be changed."""
        for n, byte in enumerate(value.to_bytes(width, "little")):
            mask = self.masks[at + n]
            self.config[at + n] = self.config[at + n] & ~mask | byte & mask

    def save(self) -> Any:
        """The state as a plain value."""
        return bytes(self.config)

    def load(self, saved: Any) -> None:
        """Takes what save() gave."""
        self.config[:] = saved

    def pause(self) -> None:
        """As Device.pause."""

    def resume(self) -> None:
        """As Device.resume."""

    def close(self) -> None:
        """As Device.close."""


class Bar:
    """A region of `size` bytes, a power of two, that the guest places; in the map while it may be seen."""

    __slots__ = ("flags", "index", "region", "size")

    def __init__(self, index: int, size: int, flags: int) -> None:
        self.index = index
        self.size = size
        self.flags = flags
        self.region: Region | None = None

    @property
    def at(self) -> int:
        """Of its register in configuration space."""
        return BARS + 4 * self.index


class PciDevice(PciFunction):
    """A function with regions, a pin (INTA#) and, with `vectors`, MSI-X in a BAR of its own.

    A subclass adds BARs and capabilities in __init__, and says in served() what answers for a BAR.
    """

    msix_bar: ClassVar[int] = 1

    def __init__(self, vendor: int, device: int, class_code: int, *, vectors: int = 0, **named: Any) -> None:
        super().__init__(vendor, device, class_code, **named)
        self.bars: list[Bar] = []
        self.vectors = vectors
        self.native: Any = ffi.NULL
        self._capability = CAPABILITIES
        self._end = FIRST_CAPABILITY
        self._msix = 0
        self._bus: Bus | None = None
        self._devfn = 0
        self.masks[COMMAND + 1] = PIN_DISABLED >> 8
        self.put(INTERRUPT_PIN, 1, 1)
        if vectors:
            if vectors > lib.EMU_MSIX_VECTORS:
                raise DeviceError(f"{vectors} vectors: a function has at most {lib.EMU_MSIX_VECTORS}")
            self.add_bar(self.msix_bar, lib.EMU_MSIX_SIZE)
            table, pending = self.msix_bar, self.msix_bar | lib.EMU_MSIX_PENDING
            body = b"".join(n.to_bytes(w, "little") for n, w in ((vectors - 1, 2), (table, 4), (pending, 4)))
            self._msix = self.add_capability(MSIX, body, {1: (MSIX_ENABLED | MSIX_MASKED) >> 8})
        self.initial = bytes(self.config)

    def add_bar(self, index: int, size: int, *, wide: bool = False, prefetchable: bool = False) -> Bar:
        """A memory BAR; a wide one takes the next register too."""
        bar = Bar(index, size, WIDE * wide | PREFETCHABLE * prefetchable)
        self.bars.append(bar)
        width = 8 if wide else 4
        self.put(bar.at, bar.flags, width)
        mask = (1 << 8 * width) - size
        self.masks[bar.at : bar.at + width] = mask.to_bytes(width, "little")
        self.initial = bytes(self.config)
        return bar

    def add_capability(self, kind: int, body: bytes, masks: dict[int, int] | None = None) -> int:
        """A capability; masks: writable bits by the body's byte.  Returns where the body begins."""
        at = self._end
        self.config[at : at + 2 + len(body)] = bytes([kind, 0]) + body
        for n, mask in (masks or {}).items():
            self.masks[at + 2 + n] = mask
        self.put(self._capability, at, 1)
        self._capability = at + 1
        self._end = at + 2 + len(body) + 3 & ~3
        self.put(STATUS, HAS_CAPABILITIES, 2)
        self.initial = bytes(self.config)
        return at + 2

    # -- what a subclass writes -----------------------------------------------------

    def served(self, bar: Bar, region: Region) -> None:
        """Gives a BAR's region what answers for it: hooks, registers, doorbells."""

    # -- what bus and machine call ----------------------------------------------------

    def realize(self, bus: Bus, place: tuple[int, int], context: Context) -> None:
        self._bus = bus
        device, number = place
        self._devfn = device << 3 | number
        wire, rank = bus.wire_of(device), bus.rank()
        made = lib.emu_pci_new(bus.wires, wire, self.vectors, bus.msi, bus.msi_opaque, self._devfn)
        if made == ffi.NULL:
            raise MemoryError(bus.name)
        self.native = ffi.gc(made, lib.emu_pci_free)
        for bar in self.bars:
            # Each has a priority of its own, so that a guest may put two at one place.
            name = f"{bus.name}-{device:02x}.{number}-bar{bar.index}"
            bar.region = context.memory.new_io(name, bar.size, priority=1 + 8 * rank + bar.index)
            if self.vectors and bar.index == self.msix_bar:
                read = function("emu_pci_msix_read", "emu_read_fn")
                write = function("emu_pci_msix_write", "emu_write_fn")
                bar.region.native_ops(read, write, opaque(self.native))
            else:
                self.served(bar, bar.region)

    def reset(self) -> None:
        super().reset()
        lib.emu_pci_reset(self.native)
        self._changed()

    def moved(self) -> None:
        assert self._bus is not None
        lib.emu_pci_renumber(self.native, self._bus.number << 8 | self._devfn)
        self._changed()

    def read(self, at: int, width: int) -> int:
        pulled = bool(lib.emu_pci_pulled(self.native))
        self.config[STATUS] = self.config[STATUS] & ~0x08 | pulled << 3
        return super().read(at, width)

    def write(self, at: int, width: int, value: int) -> None:
        super().write(at, width, value)
        self._changed()

    def save(self) -> Any:
        saved = ffi.new("emu_pci_saved *")
        lib.emu_pci_save(self.native, saved)
        return [bytes(self.config), bytes(ffi.buffer(saved)), self.save_own()]

    def load(self, saved: Any) -> None:
        config, interrupts, own = saved
        self.config[:] = config
        state = ffi.new("emu_pci_saved *")
        if len(interrupts) != ffi.sizeof("emu_pci_saved"):
            raise DeviceError("the saved state of a PCI function is another release's; start anew")
        ffi.buffer(state)[:] = interrupts
        lib.emu_pci_load(self.native, state)
        self._changed()
        self.load_own(own)

    def save_own(self) -> Any:
        """What a subclass remembers besides; None for nothing."""
        return None

    def load_own(self, own: Any) -> None:
        """Takes what save_own() gave."""

    def _changed(self) -> None:
        """Puts into effect what configuration space says."""
        assert self._bus is not None
        command = self.get(COMMAND, 2)
        control = self.get(self._msix, 2) if self._msix else 0
        lib.emu_pci_control(
            self.native,
            bool(command & PIN_DISABLED),
            bool(control & MSIX_ENABLED),
            bool(control & MSIX_MASKED),
        )
        for bar in self.bars:
            width = 8 if bar.flags & WIDE else 4
            base = self.get(bar.at, width) & -bar.size
            seen = bool(command & MEMORY) and self._bus.forwards(base, bar.size)
            self._map(bar, base if seen else None)

    def _map(self, bar: Bar, base: int | None) -> None:
        region = bar.region
        assert region is not None
        space = region.space
        if base is None:
            if region.mapped:
                space.remove(region)
        elif not region.mapped:
            space.place(region, base)
        elif region.base != base:
            space.move(region, base)


class PciBus(Device):
    """A host bridge with the functions of bus 0, by (device, function).

    windows: (base, size) of memory that it forwards to its functions.
    """

    state: ClassVar[tuple[str, ...]] = ("saved",)

    def __init__(
        self, functions: dict[tuple[int, int], PciFunction], windows: tuple[tuple[int, int], ...] = ()
    ) -> None:
        super().__init__()
        self.functions = functions
        self.windows = windows
        self.wires: Any = ffi.NULL
        self.msi: Any = ffi.NULL
        self.msi_opaque: Any = ffi.NULL
        self._keep: list[Any] = []
        self._ranks = 0

    @property
    def number(self) -> int:
        return 0

    def wire_of(self, device: int) -> int:
        return device % 4

    def rank(self) -> int:
        self._ranks += 1
        return self._ranks

    def at(self, bus: int, device: int, number: int) -> PciFunction | None:
        """The function that configuration accesses reach there, as the guest has numbered the buses."""
        on: Bus | None = self
        while on is not None and on.number != bus:
            on = next((one for one in bridges(on) if one.number <= bus <= one.last), None)
        return None if on is None else on.functions.get((device, number))

    def wire(self, lines: list[IrqLine], msi: tuple[str, Any] | None = None) -> None:
        """Connects the four wires, and messages; before the bus is attached.

        msi: name of a C function that takes messages (emu_msi_fn of native/pci.h), and its argument.
        """
        pointers = [cast("emu_irq *", line.pointer) for line in lines]
        self.wires = ffi.gc(lib.emu_pci_wires_new(*pointers), lib.emu_pci_wires_free)
        self._keep = [lines, msi]
        if msi is not None:
            self.msi = ffi.addressof(lib, msi[0])
            self.msi_opaque = msi[1]

    def forwards(self, base: int, size: int) -> bool:
        """Whether the bridge forwards a whole range to its functions."""
        return any(start <= base and base + size <= start + length for start, length in self.windows)

    @property
    def saved(self) -> list[Any]:
        """The state of each function."""
        return [self.functions[place].save() for place in sorted(self.functions)]

    @saved.setter
    def saved(self, states: list[Any]) -> None:
        for place, state in zip(sorted(self.functions), states, strict=True):
            self.functions[place].load(state)

    def realize(self, context: Context) -> None:
        for place, one in self.functions.items():
            one.realize(self, place, context)

    def ports(self) -> Iterator[PciBridge]:
        """All ports, those behind others too."""
        from emu.devices.pci_bridge import PciBridge

        waiting: list[PciFunction] = list(self.functions.values())
        while waiting:
            one = waiting.pop(0)
            if isinstance(one, PciBridge):
                yield one
                waiting += one.functions.values()

    def reset(self) -> None:
        for one in self.functions.values():
            one.reset()

    def pause(self) -> None:
        for one in self.functions.values():
            one.pause()

    def resume(self) -> None:
        for one in self.functions.values():
            one.resume()

    def close(self) -> None:
        for one in self.functions.values():
            one.close()


def bridges(bus: Bus) -> list[PciBridge]:
    """The bridges on a bus that lead somewhere."""
    from emu.devices.pci_bridge import PciBridge

    return [one for one in bus.functions.values() if isinstance(one, PciBridge) and one.number and one.live]


def settle(functions: Iterable[PciFunction], taken: dict[tuple[int, int], PciFunction]) -> None:
    """Adds functions to those of a bus: at the places they ask for, the others in the first free slots.

    Raises DeviceError for a place that is taken, or that nobody would find, and where no slot is left.
    """
    given = list(functions)
    for one in given:
        if one.place is None:
            continue
        device, number = one.place
        if not (0 <= device < SLOTS and 0 <= number < FUNCTIONS):
            raise DeviceError(
                f"PCI: there is no place {device:#x}.{number:#x}; a bus has 0x0.0x0 to 0x1f.0x7"
            )
        if one.place in taken:
            raise DeviceError(
                f"PCI: place {device:#x}.{number:#x} is taken; choose another, or leave addr out"
            )
        taken[one.place] = one
    for one in given:
        if one.place is None:
            free = [slot for slot in range(SLOTS) if all(place[0] != slot for place in taken)]
            if not free:
                raise DeviceError(f"PCI: a bus has {SLOTS} slots, and all are taken; leave some devices out")
            one.place = (free[0], 0)
            taken[one.place] = one
    for device, number in taken:
        if number and (device, 0) not in taken:
            raise DeviceError(
                f"PCI: slot {device:#x} has no function 0, so nobody would look for others in it"
            )
        if number:
            first = taken[device, 0]
            first.put(HEADER_TYPE, first.config[HEADER_TYPE] | MULTIFUNCTION, 1)
            first.initial = (
                first.initial[:HEADER_TYPE]
                + first.config[HEADER_TYPE : HEADER_TYPE + 1]
                + first.initial[HEADER_TYPE + 1 :]
            )
