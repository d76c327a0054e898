"""Where a machine's CPUs stop: hooks on addresses, and a debugger's breakpoints beside them.

An engine is told of all of them together (Vcpu.debug), each CPU before it enters the guest.  A hook is called
in the thread of the CPU that has come to its address, which then executes the instruction there by a single
step; other CPUs go on meanwhile.
"""

from __future__ import annotations

import threading

from accel.api import ExitKind
from accel.errors import AccelError, DeviceError, EmuError, MapError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from accel.api import Exit, Vcpu
    from emu.machine import Cpu, Machine
    from isa.arch import Arch

    Hook = Callable[["Hit"], object]
    Watched = Sequence[tuple[int, int, str]]

PAGE = 4096


class Registers:
    """A vCPU's registers by isa's names ("x0", "pc", "rip", "TTBR0_EL1"); values are unsigned.

    For when the CPU is out of the guest: in hooks, and while its machine is paused.
    """

    def __init__(self, vcpu: Vcpu, arch: Arch) -> None:
        self._vcpu = vcpu
        self._arch = arch

    def __iter__(self) -> Iterator[str]:
        """The names of general registers."""
        return iter([register.name for register in self._arch.registers])

    def __getitem__(self, name: str) -> int:
        try:
            (value,) = self._vcpu.get(name)
        except KeyError:
            raise self._unknown(name) from None
        return value

    def __setitem__(self, name: str, value: int) -> None:
        try:
            self._vcpu.set(**{name: value})
        except KeyError:
            raise self._unknown(name) from None

    def _unknown(self, name: str) -> EmuError:
        known = ", ".join(self)
        return EmuError(
            f"{self._arch.name} has no register {name!r}; there are {known}, and system registers"
        )


class VirtualMemory:
    """Memory as a CPU that is out of the guest sees it, through its page tables; devices are not touched."""

    def __init__(self, machine: Machine, vcpu: Vcpu) -> None:
        self._machine = machine
        self._vcpu = vcpu

    def _pieces(self, address: int, size: int) -> Iterator[tuple[int, int]]:
        mask = (1 << self._machine.accel.arch.bits) - 1
        while size > 0:
            length = min(size, PAGE - address % PAGE)
            physical = self._vcpu.translate(address & mask)
            if physical is None:
                raise MapError(f"no page is mapped at {address & mask:#x} for CPU {self._vcpu.index}")
            yield physical, length
            address, size = address + length, size - length

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes.  Raises MapError where no memory is."""
        found = bytearray()
        for physical, length in self._pieces(address, size):
            piece = self._machine.memory.peek(physical, length)
            found += piece
            if len(piece) < length:
                raise MapError(f"no memory is at {address + len(found):#x}")
        return bytes(found)

    def write(self, address: int, data: bytes) -> None:
        """Also where the guest may only read.  Raises MapError where no memory is."""
        at = 0
        for physical, length in list(self._pieces(address, len(data))):
            self._machine.memory.load(physical, data[at : at + length])
            at += length


class Hit:
    """A CPU that has come to the address of a hook; the instruction there has not been executed.

    address; registers, memory: the CPU's, which the hook may change (with another pc, it goes on there); cpu:
    its number; machine.
    """

    def __init__(self, machine: Machine, cpu: Cpu, address: int) -> None:
        self.machine = machine
        self.cpu = cpu.vcpu.index
        self.address = address
        self.registers = cpu.registers
        self.memory = cpu.memory

    def stop(self) -> None:
        """Has run() return a Result "hook", with the CPU here; run() again goes on behind this hook."""
        from emu.machine import Result

        self.machine.suspend(Result("hook", text=f"at {self.address:#x}"))

    def __repr__(self) -> str:
        return f"<Hit of {self.address:#x} by CPU {self.cpu}>"


class Table:
    """What an engine is told: as long as it is the machine's, nothing changes in it."""

    __slots__ = ("addresses", "watched")

    def __init__(self, addresses: list[int], watched: list[tuple[int, int, str]]) -> None:
        self.addresses = addresses
        self.watched = watched

    def __bool__(self) -> bool:
        return bool(self.addresses or self.watched)


class Stops:
    """A machine's."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._lock = threading.Lock()
        self._hooks: dict[int, list[Hook]] = {}
        self._breaks: list[int] = []
        self._watched: list[tuple[int, int, str]] = []
        self.table = Table([], [])

    def hook(self, address: int, function: Hook) -> Callable[[], None]:
        """As Machine.on_address."""
        if not self._machine.accel.caps.breakpoints:
            raise AccelError(
                f"{self._machine.accel_name} cannot stop at addresses on this host; use accel='tcg'"
            )
        with self._lock:
            self._hooks[address] = [*self._hooks.get(address, []), function]

        def remove() -> None:
            with self._lock:
                left = [each for each in self._hooks.get(address, []) if each is not function]
                if left:
                    self._hooks[address] = left
                else:
                    self._hooks.pop(address, None)
            self._changed()

        try:
            self._changed()
        except EmuError:
            remove()
            raise
        return remove

    def debugger(self, breakpoints: Sequence[int], watched: Watched) -> None:
        """Where a debugger wants stops, in place of what it said before.  Raises an EmuError: too many."""
        before = self._breaks, self._watched
        self._breaks, self._watched = list(breakpoints), list(watched)
        try:
            self._changed()
        except EmuError:
            self._breaks, self._watched = before
            self._changed()
            raise

    def _changed(self) -> None:
        with self._lock:
            addresses = sorted({*self._hooks, *self._breaks})
            self.table = Table(addresses, list(self._watched))
        for cpu in self._machine.cpus:
            if cpu.parked or cpu.thread is threading.current_thread():
                self.tell(cpu)
            else:
                cpu.kick()  # it does so itself before it goes on

    def tell(self, cpu: Cpu) -> None:
        """Tells a CPU's engine; nobody else enters the guest with it meanwhile."""
        table = self.table
        if table or cpu.told:
            cpu.told = True
            cpu.vcpu.debug(table.addresses, table.watched)
        cpu.stops = table

    def enter(self, cpu: Cpu) -> Exit | None:
        """Before a CPU's thread enters the guest; returns an exit where that has led to one already."""
        if cpu.stops is not self.table:
            self.tell(cpu)
        past, cpu.past = cpu.past, None
        if past is None or cpu.vcpu.get(self._machine.accel.arch.pc) != (past,):
            return None
        stepped = cpu.vcpu.step()
        if stepped.kind == ExitKind.KICKED:
            cpu.past = past
        return None if stepped.kind == ExitKind.DEBUG else stepped

    def call(self, cpu: Cpu) -> None:
        """Calls the hooks of where a CPU stands, for who steps it."""
        (pc,) = cpu.vcpu.get(self._machine.accel.arch.pc)
        for hook in self._hooks.get(pc, []):
            hook(Hit(self._machine, cpu, pc))

    def met(self, cpu: Cpu, exit: Exit) -> Exit | None:
        """Calls the hooks of an address that a CPU has come to, in its thread.

        Returns the exit that is the machine's or a debugger's business; None: the CPU goes on.
        """
        if cpu.vcpu.stopped_by(exit)[0] != "breakpoint":
            return exit
        hooks = self._hooks.get(exit.pc, [])
        if not hooks:
            # One that has been taken away meanwhile is nobody's.
            return exit if exit.pc in self._breaks or self._machine.debugger is not None else None
        for hook in hooks:
            hook(Hit(self._machine, cpu, exit.pc))
        self._machine.loop.wake()  # run()'s until() may be about what hooks have seen
        if cpu.vcpu.get(self._machine.accel.arch.pc) != (exit.pc,):
            return None
        if exit.pc in self._breaks:
            return exit  # the debugger steps by itself
        cpu.past = exit.pc
        return None


def address_of(machine: Machine, where: int | str) -> int:
    """An address, or that of a function of the kernel's or firmware's ELF file."""
    if isinstance(where, int):
        return where
    from emu.loader.raw import read_image
    from emu.trace.symbols import Image

    for image in (machine.kernel, machine.firmware):
        if image is not None:
            found = Image(read_image(image, "kernel")).find(where)
            if found:
                return found[0][0]
    raise DeviceError(f"no kernel or firmware with ELF symbols has a function {where!r}; give its address")
