"""The contract of an accelerator, the same for KVM and for translation.

An Accelerator is one guest: created for an architecture, a memory map and (x86) a port map.  Optional
powers are capabilities that are asked for first, never methods that raise.  Vcpu.run() returns one of a
short closed list of exits.
"""

from __future__ import annotations

from enum import IntEnum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

    from accel.clock import Clock
    from accel.irq import InterruptController
    from accel.memory import AddressSpace, Region
    from isa.arch import Arch
else:
    Protocol = object  # typing costs every start 5 ms


class ExitKind(IntEnum):
    """Why run() returned; the numbers are core.h's emu_exit_kind."""

    HALT = 1
    SHUTDOWN = 2
    RESET = 3
    DEBUG = 4
    SYSCALL = 5
    FAULT = 6
    KICKED = 7
    BUDGET = 8


class Exit:
    """Why a vCPU stopped.

    pc: guest address; address: of the access that failed, for FAULT; code: the engine's own number; data:
    the instruction's bytes where known; text: one line for people, for FAULT, a triple fault's SHUTDOWN and a
    HALT that nothing is to end.
    """

    __slots__ = ("address", "code", "data", "kind", "pc", "text")

    def __init__(
        self,
        kind: ExitKind,
        *,
        pc: int = 0,
        address: int = 0,
        code: int = 0,
        data: bytes = b"",
        text: str = "",
    ) -> None:
        self.kind = kind
        self.pc = pc
        self.address = address
        self.code = code
        self.data = data
        self.text = text

    def __repr__(self) -> str:
        return f"<Exit {self.kind.name} pc={self.pc:#x}{' ' + self.text if self.text else ''}>"


class Caps:
    """What an accelerator can do for a guest.

    name: "kvm" or "tcg"; max_vcpus; irqchips: kinds of in-kernel interrupt controllers ("pc" = PIC, IOAPIC,
    LAPIC and PIT; "lapic" = the LAPICs alone); single_step, breakpoints, watchpoints: step() and debug();
    user_breakpoints: breakpoints in the guest's user mode, too;
    instruction_budget: run(budget) counts instructions (else exits); ioeventfd: doorbells bypass the run
    loop; dirty_log: track() and dirty(); notes: what a person should know, one line each.
    """

    __slots__ = (
        "breakpoints",
        "dirty_log",
        "instruction_budget",
        "ioeventfd",
        "irqchips",
        "max_vcpus",
        "name",
        "notes",
        "single_step",
        "user_breakpoints",
        "watchpoints",
    )

    def __init__(
        self,
        name: str,
        *,
        max_vcpus: int = 1,
        irqchips: tuple[str, ...] = (),
        single_step: bool = False,
        breakpoints: bool = False,
        watchpoints: bool = False,
        user_breakpoints: bool | None = None,
        instruction_budget: bool = False,
        ioeventfd: bool = False,
        dirty_log: bool = False,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.max_vcpus = max_vcpus
        self.irqchips = irqchips
        self.single_step = single_step
        self.breakpoints = breakpoints
        self.user_breakpoints = breakpoints if user_breakpoints is None else user_breakpoints
        self.watchpoints = watchpoints
        self.instruction_budget = instruction_budget
        self.ioeventfd = ioeventfd
        self.dirty_log = dirty_log
        self.notes = notes


class Vcpu(Protocol):
    """One virtual CPU.  run() in one thread; kick() and interrupt() from any."""

    index: int

    def run(self, budget: int | None = None) -> Exit:
        """Runs until something concerns the machine.

        budget: stop after so many instructions (or exits, see Caps.instruction_budget).  Python's lock
        is released while the guest runs.  An exception raised by a device's hook is raised here.
        """

    def kick(self) -> None:
        """Makes the running, or else the next, run() return KICKED soon."""

    def get(self, *names: str) -> tuple[int, ...]:
        """Registers by their isa names (system registers too).  Raises KeyError for an unknown one."""

    def set(self, **values: int) -> None:
        """Sets registers by name."""

    def step(self) -> Exit:
        """Executes one instruction, without interrupts where that can be; DEBUG or HALT, or KICKED."""

    def debug(
        self, breakpoints: Sequence[int] = (), watchpoints: Sequence[tuple[int, int, str]] = ()
    ) -> None:
        """From now on run() returns DEBUG before these addresses, and at accesses: (address, size, kind).

        Virtual addresses; kind: "w", "rw", or "r" where the CPU has it.  No arguments end it.
        """

    def stopped_by(self, exit: Exit) -> tuple[str, int]:
        """What a DEBUG exit is about: "breakpoint", or "r", "w", "rw" and the address."""

    def interrupt(self, line: int, level: int) -> None:
        """Drives an input of the CPU itself.

        x86: line 0 is INTR with `level` = vector + 1 (0 withdraws), line 1 NMI; of a local APIC outside the
        engine also 2 INIT, 3 a start-up interrupt with its vector, 4 the task priority.  ARM: 0 IRQ, 1 FIQ,
        2 virtual timer input is internal.  RISC-V: the bit number in mip (3 software, 7 timer, 11 external).
        """

    def translate(self, address: int) -> int | None:
        """The physical address of a virtual (x86: linear) one, by the guest's tables; None for none."""

    def save(self) -> dict[str, Any]:
        """The whole state as plain values by name; no engine's private bytes."""

    def load(self, state: dict[str, Any]) -> None:
        """Takes a state that save() gave, of this or another engine."""

    def done(self) -> list[str]:
        """What the engine counted of its work so far, for people; nothing where it counts nothing."""


class Accelerator(Protocol):
    """One guest under one engine."""

    caps: Caps
    arch: Arch
    cpu_notes: list[str]  # what the CPU lacks of what was asked for, a line each
    memory: AddressSpace
    ports: AddressSpace | None

    def vcpu(self, index: int, **features: Any) -> Vcpu:
        """Creates vCPU number `index` (0 first), in its architectural reset state."""

    def irqchip(self, kind: str) -> InterruptController | None:
        """The engine's own controller where it has one of that kind, else None: the board brings its own."""

    def clock(self) -> Clock:
        """The guest's time."""

    def track(self, region: Region, on: bool = True) -> None:
        """Notes from now on which pages of a region of RAM are written, by the guest and by devices.

        Where caps.dirty_log says so; no vCPU may be running.  Raises MapError for what is no RAM.
        """

    def dirty(self, region: Region) -> bytes:
        """The pages of a tracked region that were written since track(), or since the last call.

        A bit each, the first page's the lowest of the first byte; no vCPU may be running.
        """

    def enter(self) -> None:
        """The guest comes here from another engine on the same maps: pages tracked there are here, too."""

    def leave(self) -> None:
        """The guest goes to another engine; pages that were written are told of there."""

    def close(self) -> None:
        """Frees the engine.  No vCPU may be running."""


def open_accelerator(
    name: str, arch: Arch, memory: AddressSpace, ports: AddressSpace | None = None, **options: Any
) -> Accelerator:
    """An accelerator by name: "kvm" or "tcg".

    Raises Unavailable when the host lacks it, Unsupported when it cannot run this architecture; the choice
    between several (`auto`, `kvm:tcg`) is accel.choice's.
    """
    if name == "kvm":
        from accel.kvm.vm import KvmAccelerator

        return KvmAccelerator(arch, memory, ports, **options)
    if name == "tcg":
        from accel.tcg.unicorn import UnicornAccelerator

        return UnicornAccelerator(arch, memory, ports, **options)
    from accel.errors import AccelError

    raise AccelError(f"no accelerator is called {name!r}; use kvm, tcg, kvm:tcg or auto")
