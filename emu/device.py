"""Device: a part with declared registers, interrupt lines and state.

    class Blinker(Device):
        compatible = "emu,blinker"
        size = 0x1000
        irq = Irq()
        CTRL = Reg(0x00, write=0xFF1, fields={"enable": 0, "rate": (11, 4)})
        COUNT = Reg(0x04, reset=7)

        def write_CTRL(self, value):
            self.irq.set(value.enable)

A device knows neither its address nor who takes its interrupts: Bus.attach() gives it both, and the same
class runs under every accelerator and on every board.

Registers live in the C core.  One without a hook is served there and never enters Python; a hook is a method
called read_<REG> or write_<REG>.  `self.CTRL` is the live value, `self.CTRL.rate` one field of it.  On a
guest's write the core first applies the register's masks to the live value, then the hook is told the word
as it was written.

Hooks, timers and the host's input call a device from several threads, but never two at a time: `lock` is
held around each.  Lock order: a device before the controller its interrupt line ends at.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any, ClassVar

from accel.errors import DeviceError
from accel.irq import IrqLine
from accel.memory import WIDTHS, Register
from accel.native import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from accel.clock import Clock, Timer
    from accel.memory import AddressSpace, Region
    from emu.backends.chardev import Chardev
    from emu.loader.fdt import Node


class Word(int):
    """A register's value whose fields are attributes.

    Reading a field looks into this value; assigning one changes the live register, and no other bit of it.
    """

    _register: Any

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> int: ...


def _field(high: int, low: int) -> property:
    mask = (1 << (high - low + 1)) - 1

    def get(word: Word) -> int:
        return int(word) >> low & mask

    def put(word: Word, value: int) -> None:
        lib.emu_reg_change(word._register, mask << low, (value & mask) << low)

    return property(get, put)


class Reg:
    """A register, declared as a class attribute of a Device.

    offset: from the device's base, a multiple of width; width: 1, 2, 4 or 8 bytes (default: the device's
    `width`); reset: its value after reset; write: mask of the bits that a guest's write changes (default
    none: read-only, or all the hook's affair); w1c: bits that writing one clears; clear_on_read: a read
    leaves 0; fields: name to bit number, or to (highest, lowest) as manuals print them; state: whether it
    belongs into a snapshot (False for one that is only hooks).
    """

    name = ""

    def __init__(
        self,
        offset: int,
        width: int | None = None,
        *,
        reset: int = 0,
        write: int = 0,
        w1c: int = 0,
        clear_on_read: bool = False,
        fields: dict[str, int | tuple[int, int]] | None = None,
        state: bool = True,
    ) -> None:
        self.offset = offset
        self.given_width = width
        self.width = width or 4
        self.reset = reset
        self.write = write
        self.w1c = w1c
        self.clear_on_read = clear_on_read
        self.fields = {name: (at, at) if isinstance(at, int) else at for name, at in (fields or {}).items()}
        self.state = state
        self.word: type[Word] | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        if self.fields:
            self.word = type(name, (Word,), {field: _field(*at) for field, at in self.fields.items()})

    if TYPE_CHECKING:

        def __get__(self, device: Device, owner: type | None = None) -> Word: ...

    else:

        def __get__(self, device, owner=None):
            if device is None:
                return self
            register = device._live[self.name]
            if self.word is None:
                return register.value
            word = self.word(register.value)
            word._register = register
            return word

    def __set__(self, device: Device, value: int) -> None:
        device._live[self.name].value = value & (1 << 8 * self.width) - 1

    def told(self, register: Any, value: int) -> int:
        """A written value as the hook sees it: with fields, where the register has any."""
        if self.word is None:
            return value
        word = self.word(value)
        word._register = register
        return word


class Irq:
    """An interrupt output, declared as a class attribute; on the device it is an IrqLine.

    Bus.attach(irq=...) connects it; a device with several names each.
    """

    name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    if TYPE_CHECKING:

        def __get__(self, device: Device, owner: type | None = None) -> IrqLine: ...

    else:

        def __get__(self, device, owner=None):
            return self if device is None else device._lines[self.name]


class Context:
    """What a machine lends to its devices.

    clock: the guest's time; memory: what DMA reads and writes; chardev: the host end of this device's
    character stream (nobody's, if it was given none); shutdown(code) and reset() end the machine's run, as
    the guest's own wish; fail(error) ends it with an exception, out of a thread of the device's own;
    serve(end) has the machine open another host end, which the device closes; ahead: seconds that the guest's
    calendar is before the host's.
    """

    def __init__(
        self,
        clock: Clock,
        memory: AddressSpace,
        *,
        chardev: Chardev | None = None,
        shutdown: Callable[[int], None] = lambda code: None,
        reset: Callable[[], None] = lambda: None,
        fail: Callable[[BaseException], None] = lambda error: None,
        serve: Callable[[Chardev], None] = lambda end: None,
        ahead: int = 0,
    ) -> None:
        self.clock = clock
        self.memory = memory
        if chardev is None:
            from emu.backends.chardev import Chardev

            chardev = Chardev()
        self.chardev = chardev
        self.shutdown = shutdown
        self.reset = reset
        self.fail = fail
        self.serve = serve
        self.ahead = ahead


class Device:
    """Base of all devices; see the module for how one is written.

    compatible: device-tree names (vendor,part), most special first, with spaces between, or ""; node_name:
    the generic name of its node (default: the name of its attachment); size: bytes of address space; width:
    of registers that do not name their own; version: of what save() gives; state: attributes besides the
    registers that save() keeps (integers, strings, bytes, lists of them, None, and Timers).
    """

    compatible: ClassVar[str] = ""
    node_name: ClassVar[str] = ""
    size: ClassVar[int] = 0x1000
    width: ClassVar[int] = 4
    version: ClassVar[int] = 1
    state: ClassVar[tuple[str, ...]] = ()

    registers: ClassVar[dict[str, Reg]] = {}
    irqs: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.registers = {}
        irqs = []
        for base in reversed(cls.__mro__):
            for name, value in vars(base).items():
                if isinstance(value, Reg):
                    cls.registers[name] = value
                elif isinstance(value, Irq):
                    irqs.append(name)
        cls.registers = {name: reg for name, reg in cls.registers.items() if vars_of(cls, name) is reg}
        cls.irqs = tuple(dict.fromkeys(irqs))
        _check(cls)

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.name = type(self).__name__.lower()
        self.region: Region | None = None
        self.context: Context | None = None
        self._lines = {name: IrqLine() for name in self.irqs}
        self._live: dict[str, Any] = _Unattached()
        self._reads: dict[int, Callable[[], int]] = {}
        self._writes: dict[int, tuple[Reg, Any, Callable[[Any], None]]] = {}
        self._timers: list[Timer] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def interrupt_lines(self) -> dict[str, IrqLine]:
        """Its interrupt outputs by name."""
        return self._lines

    # -- what a device writes -------------------------------------------------

    def realize(self, context: Context) -> None:
        """Called once, when the machine is built: take what `context` lends."""

    def reset(self) -> None:
        """Back to the state after power-on.  The registers have their reset values already, lines are low."""

    def read(self, offset: int, width: int) -> int:
        """A guest's read where no register is."""
        return 0

    def write(self, offset: int, width: int, value: int) -> None:
        """A guest's write where no register is."""

    def native(self) -> tuple[Any, Any, Any] | None:
        """C functions that serve all accesses in place of the hooks: (emu_read_fn, emu_write_fn, opaque)."""
        return None

    def fdt(self, node: Node) -> None:
        """Adds to the device-tree node, which has compatible, reg and interrupts already."""

    def restored(self) -> None:
        """Called after load(): recompute what is not state."""

    def pause(self) -> None:
        """The machine pauses: threads of the device's own are to rest when this returns.  Maybe again."""

    def resume(self) -> None:
        """The machine runs, or runs on."""

    def close(self) -> None:
        """The machine is gone: end threads, close what was opened.  Maybe again."""

    # -- what a device may call ------------------------------------------------

    def timer(self, callback: Callable[[], None]) -> Timer:
        """A timer of the guest's clock whose callback holds the lock; for realize()."""
        assert self.context is not None, "timers are made in realize()"

        def fire() -> None:
            with self.lock:
                callback()

        made = self.context.clock.timer(fire)
        self._timers.append(made)
        return made

    def hook(self, name: str, *, read: bool) -> None:
        """Turns a register's read hook on or off while the machine runs.

        For a status register whose reading matters only at times: off, it is served by C.
        """
        register = self._live[name]
        flag = lib.EMU_REG_READ_HOOK
        register.flags = register.flags | flag if read else register.flags & ~flag

    # -- what bus and machine call ------------------------------------------------

    def declare(self, space: AddressSpace, name: str) -> Region:
        """Makes the device's region, not mapped yet.  Raises DeviceError for a device that is in use."""
        if self.region is not None:
            raise DeviceError(f"{name}: this device is attached already as {self.name}; make a second one")
        self.name = name
        cls = type(self)
        region = space.new_io(name, self.size)
        declared = [
            Register(
                reg.offset,
                reg.width,
                reset=reg.reset,
                write_mask=reg.write,
                w1c=reg.w1c,
                clear_on_read=reg.clear_on_read,
                read_hook=hasattr(cls, f"read_{key}"),
                write_hook=hasattr(cls, f"write_{key}"),
            )
            for key, reg in self.registers.items()
        ]
        self._live = dict(zip(self.registers, region.registers(declared), strict=True))
        for key, reg in self.registers.items():
            if hasattr(cls, f"read_{key}"):
                self._reads[reg.offset] = getattr(self, f"read_{key}")
            if hasattr(cls, f"write_{key}"):
                self._writes[reg.offset] = (reg, self._live[key], getattr(self, f"write_{key}"))
        native = self.native()
        if native is not None:
            region.native_ops(*native)
            self.region = region
            return region
        # Without hooks nothing must enter Python, not even for a hole between registers.
        reads = self._reads or cls.read is not Device.read
        writes = self._writes or cls.write is not Device.write
        if reads or writes:
            region.ops(self._serve_read if reads else None, self._serve_write if writes else None)
        self.region = region
        return region

    def _serve_read(self, offset: int, width: int) -> int:
        hook = self._reads.get(offset)
        with self.lock:
            return self.read(offset, width) if hook is None else hook()

    def _serve_write(self, offset: int, width: int, value: int) -> None:
        found = self._writes.get(offset)
        with self.lock:
            if found is None:
                self.write(offset, width, value)
            else:
                reg, live, hook = found
                hook(value if reg.word is None else reg.told(live, value))

    def connect(self, irq: IrqLine | dict[str, IrqLine]) -> None:
        """Gives the interrupt outputs the lines they end at."""
        given = irq if isinstance(irq, dict) else dict.fromkeys(self.irqs[:1], irq)
        if not given:
            raise DeviceError(f"{self.name}: {type(self).__name__} has no interrupt; attach it without irq")
        for name, line in given.items():
            if name not in self.irqs:
                part, has = type(self).__name__, ", ".join(self.irqs) or "none"
                raise DeviceError(f"{self.name}: {part} has no interrupt {name!r}; it has {has}")
            self._lines[name] = line

    def power_on(self) -> None:
        """Reset as the machine does it: registers as declared, lines low, timers off, then reset()."""
        with self.lock:
            for timer in self._timers:
                timer.cancel()
            for key, reg in self.registers.items():
                self._live[key].value = reg.reset
            for line in self._lines.values():
                line.set(0)
            self.reset()

    def save(self) -> dict[str, Any]:
        """The state as plain values: version, registers, interrupt levels, and what `state` names."""
        with self.lock:
            extra: dict[str, Any] = {}
            for name in self.state:
                value = getattr(self, name)
                if hasattr(value, "deadline"):
                    value = value.deadline
                elif isinstance(value, bytearray):
                    value = bytes(value)
                elif isinstance(value, list):
                    value = list(value)
                extra[name] = value
            kept = [key for key, reg in self.registers.items() if reg.state]
            return {
                "version": self.version,
                "registers": {key: int(self._live[key].value) for key in kept},
                "irqs": {name: line.level for name, line in self._lines.items()},
                "state": extra,
            }

    def load(self, saved: dict[str, Any]) -> None:
        """Takes a state that save() gave.  Raises DeviceError when it is another version's or incomplete."""
        part = type(self).__name__
        version = saved.get("version")
        if version != self.version:
            raise DeviceError(
                f"{self.name}: saved by version {version} of {part}, and this is version {self.version};"
                " restore it with the release that saved it"
            )
        kept = {key for key, reg in self.registers.items() if reg.state}
        for section, wanted in (("registers", kept), ("irqs", set(self.irqs)), ("state", set(self.state))):
            unlike = wanted ^ set(saved.get(section, ()))
            if unlike:
                names = ", ".join(sorted(unlike))
                raise DeviceError(f"{self.name}: the {section} of the saved {part} do not fit: {names}")
        with self.lock:
            for key, value in saved["registers"].items():
                self._live[key].value = value
            for name, level in saved["irqs"].items():
                self._lines[name].restore(level)
            for name, value in saved["state"].items():
                now = getattr(self, name)
                if hasattr(now, "deadline"):
                    now.cancel()
                    if value is not None:
                        now.arm(value)
                else:
                    setattr(self, name, type(now)(value) if isinstance(now, bytearray | list) else value)
            self.restored()


class _Unattached(dict[str, Any]):
    """The registers of a device that no bus has."""

    def __missing__(self, name: str) -> Any:
        raise DeviceError(f"register {name} of a device that is not attached; attach it to a bus first")


def vars_of(cls: type, name: str) -> Any:
    """The class attribute as it was declared, without descriptors."""
    return next(vars(base)[name] for base in cls.__mro__ if name in vars(base))


# What the bus and the machine call: a device that defined one of these would not work any more.
_OURS = ("timer", "hook", "declare", "connect", "power_on", "save", "load", "_serve_read", "_serve_write")


def _check(cls: type[Device]) -> None:
    """Raises DeviceError for a device that cannot work: when the class is made, not when a guest runs."""
    part = cls.__name__
    for name in _OURS:
        if name in vars(cls):
            raise DeviceError(f"{part}.{name}: every Device has a method of that name; rename yours")
    if cls.size <= 0:
        raise DeviceError(f"{part}: size is {cls.size}; a device takes at least 1 byte of address space")
    for name, reg in cls.registers.items():
        reg.width = reg.given_width or cls.width
        here = f"{part}.{name}"
        if reg.width not in WIDTHS:
            raise DeviceError(f"{here}: width is {reg.width}; use 1, 2, 4 or 8 bytes")
        if reg.offset < 0 or reg.offset + reg.width > cls.size:
            raise DeviceError(
                f"{here}: offset {reg.offset:#x} is outside the {cls.size:#x} bytes of the device"
            )
        if reg.offset % reg.width:
            raise DeviceError(f"{here}: offset {reg.offset:#x} is not a multiple of its width, {reg.width}")
        bits = 8 * reg.width
        for what in ("reset", "write", "w1c"):
            if not 0 <= getattr(reg, what) < 1 << bits:
                raise DeviceError(f"{here}: {what}={getattr(reg, what):#x} does not fit into {bits} bits")
        taken: dict[int, str] = {}
        for field, (high, low) in reg.fields.items():
            if not 0 <= low <= high < bits:
                raise DeviceError(
                    f"{here}.{field}: bits {high} to {low} are no field of {bits} bits; give (high, low)"
                )
            if hasattr(int, field):
                raise DeviceError(f"{here}.{field}: int has an attribute of that name; rename the field")
            for bit in range(low, high + 1):
                if bit in taken:
                    raise DeviceError(f"{here}: fields {taken[bit]} and {field} share bit {bit}; move one")
                taken[bit] = field
    by_offset = sorted(cls.registers.values(), key=lambda reg: reg.offset)
    for low_reg, high_reg in pairwise(by_offset):
        if low_reg.offset + low_reg.width > high_reg.offset:
            raise DeviceError(
                f"{part}: {low_reg.name} at {low_reg.offset:#x} and {high_reg.name} at {high_reg.offset:#x}"
                " overlap; move one"
            )
    for name in dir(cls):
        kind, _, register = name.partition("_")
        if kind in ("read", "write") and register.isupper() and register not in cls.registers:
            known = ", ".join(cls.registers) or "none"
            raise DeviceError(f"{part}.{name}: there is no register {register}; this device has {known}")
