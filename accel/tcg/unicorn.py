"""The tcg accelerator: a guest of one vCPU on Unicorn."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

from accel.api import Caps, Exit, ExitKind
from accel.clock import Clock
from accel.errors import AccelError, Unavailable, Unsupported, nearest
from accel.native import ffi, lib
from accel.tcg.library import library
from accel.tcg.state_x86 import Aside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from accel.irq import InterruptController, IrqLine
    from accel.memory import AddressSpace, Range, Region
    from accel.tcg.promise import Promise
    from accel.tcg.signals import Waker
    from isa.arch import Arch

ISAS = {"aarch64": 1, "arm": 2, "riscv64": 3, "x86_64": 4}  # engine.h's emu_isa

# UC_CPU_*: models that boot; the first is the default.
MODELS = {
    "aarch64": {"cortex-a53": 1, "cortex-a57": 0, "cortex-a72": 2},
    "arm": {"cortex-a15": 17, "cortex-a7": 14, "cortex-a8": 15, "cortex-a9": 16},
    "riscv64": {"sifive-u54": 3},
    "x86_64": {"nehalem": 15, "qemu64": 0},  # of newer ones it does not get the reset state right
}


class UnicornVcpu:
    """The guest's CPU.  Made by UnicornAccelerator.vcpu()."""

    def __init__(self, accelerator: UnicornAccelerator, index: int, machine: Any) -> None:
        self.index = index
        self.accelerator = accelerator
        self.passed_over: tuple[str, ...] = ()
        self._pointer: Any = machine  # None once the accelerator is closed
        self._lock = threading.RLock()  # kick() and interrupt() against close()
        self._exit = ffi.new("emu_exit *")
        self._value = ffi.new("uint64_t[8]")
        self._registers: dict[str, tuple[Any, int]] = {}
        self._taken: Callable[[int], None] | None = None
        self._line: Any = None
        self._timers: dict[str, IrqLine] | None = None
        self._waker: Waker | None = None
        self._wired: list[IrqLine] = []
        self._sleeps = False
        self.aside = Aside()
        self.promise: Promise | None = None  # x86, of a guest that comes from another engine

    def run(self, budget: int | None = None) -> Exit:
        """Runs until something concerns the machine; see accel.api.Vcpu.  budget: instructions, 1 or more.

        A host signal that Python handles ends a run in the main thread as KICKED, so that its handler
        gets its turn.
        """
        if budget is not None and budget < 1:
            raise AccelError(f"a budget of {budget} instructions; give at least 1, or None for no limit")
        raw = self._exit
        if threading.current_thread() is threading.main_thread():
            if self._waker is None:
                from accel.tcg.signals import Waker

                self._waker = Waker(self.kick)
            self._waker.enter()
            try:
                kind = lib.emu_uc_machine_run(self._machine, budget or 0, raw)
            finally:
                self._waker.leave()
        else:
            kind = lib.emu_uc_machine_run(self._machine, budget or 0, raw)
        return self._explained(kind, raw)

    def _explained(self, kind: int, raw: Any) -> Exit:
        if self._line is not None:
            self._line.reraise()
        if kind == lib.EMU_EXIT_RAISED:
            self.accelerator.memory.reraise()
            if self.accelerator.ports is not None:
                self.accelerator.ports.reraise()
            raise AccelError("a device's hook failed without an exception; it must answer EMU_OK")
        return Exit(
            ExitKind(kind),
            pc=raw.pc,
            address=raw.address,
            code=raw.code,
            data=bytes(ffi.buffer(raw.bytes, raw.nbytes)),
            text=ffi.string(raw.text).decode(errors="replace"),
        )

    def step(self) -> Exit:
        """Executes one instruction, without interrupts; DEBUG, or KICKED with nothing done."""
        raw = self._exit
        kind = lib.emu_uc_machine_step(self._machine, raw)
        if kind == lib.EMU_EXIT_DEBUG:
            return Exit(ExitKind.DEBUG, pc=raw.pc)
        return self._explained(kind, raw)

    def debug(
        self, breakpoints: Sequence[int] = (), watchpoints: Sequence[tuple[int, int, str]] = ()
    ) -> None:
        """From now on run() ends with DEBUG before these addresses, and before accesses to these ranges.

        breakpoints: virtual addresses; a run from one stops there again: step first.  watchpoints: address,
        size and "r", "w" or "rw".  No arguments end it.  Raises Unsupported where the engine cannot.
        """
        stops = ffi.new("uint64_t[]", list(breakpoints))
        kinds = {"r": lib.EMU_UC_WATCH_READ, "w": lib.EMU_UC_WATCH_WRITE, "rw": 3}
        watched = ffi.new("emu_uc_watch[]", [(at, size, kinds[kind]) for at, size, kind in watchpoints])
        if lib.emu_uc_machine_debug(self._machine, stops, len(stops), watched, len(watched)) != 0:
            raise Unsupported("this libunicorn is not the 2.1.4 whose breakpoints are known; install that")

    def stopped_by(self, exit: Exit) -> tuple[str, int]:
        """What a DEBUG exit of run() is about: "breakpoint", or "r" or "w" and the address accessed."""
        return {lib.EMU_UC_AT_READ: "r", lib.EMU_UC_AT_WRITE: "w"}.get(exit.code, "breakpoint"), exit.address

    def kick(self) -> None:
        """Makes the running, or else the next, run() return KICKED soon.  After close() it does nothing."""
        with self._lock:
            if self._pointer is not None:
                lib.emu_uc_machine_kick(self._pointer)

    def close(self) -> None:
        """Ends the thread that waits for signals, and the lines; the accelerator's close() calls it."""
        if self.promise is not None:
            self.promise.close()
            self.promise = None
        for line in self._wired:
            line.disconnect()
        self._wired.clear()
        if self._waker is not None:
            self._waker.close()
            self._waker = None

    def interrupt(self, line: int, level: int) -> None:
        """Drives an input of the CPU; see accel.api.Vcpu.interrupt.  After close() it does nothing."""
        with self._lock:
            if self._pointer is not None:
                lib.emu_uc_machine_interrupt(self._pointer, line, level)

    def wire(self, number: int, line: IrqLine) -> None:
        """Ends a line at an input of the CPU, as interrupt() drives it; until close()."""
        line.connect_native(ffi.addressof(lib, "emu_uc_machine_input"), self._machine, number)
        self._wired.append(line)

    def input(self) -> tuple[Any, Any]:
        """interrupt() as a C function and its opaque, for a controller in C; good until the engine closes."""
        return ffi.addressof(lib, "emu_uc_machine_input"), self._machine

    def accepted(self, function: Any, opaque: Any) -> None:
        """As `taken`, with an emu_irq_fn of core.h, for a controller in C; `opaque` outlives the vCPU."""
        lib.emu_uc_machine_accepted(self._machine, function, opaque)

    @property
    def sleeps(self) -> bool:
        """Whether run() sleeps while the CPU does (WFI, HLT), in place of returning HALT."""
        return self._sleeps

    @sleeps.setter
    def sleeps(self, value: bool) -> None:
        self._sleeps = value
        lib.emu_uc_machine_sleep(self._machine, value)

    def system_registers(self, read: Any, write: Any, opaque: Any) -> None:
        """Gives a GICv3's system registers (aarch64) to C: emu_sysreg_read_fn and _write_fn of core.h.

        `opaque` outlives the vCPU.  Raises Unsupported where the library's insides are not as expected.
        """
        if lib.emu_uc_machine_system(self._machine, read, write, opaque) != 0:
            raise Unsupported("this libunicorn cannot be given a GICv3's registers; use a GICv2")

    @property
    def _machine(self) -> Any:
        if self._pointer is None:
            raise AccelError("this vCPU's accelerator is closed; make a new one")
        return self._pointer

    @property
    def taken(self) -> Callable[[int], None] | None:
        """Called with the vector when the CPU takes an external interrupt given by interrupt(0, ...) (x86).

        It runs in the vCPU's thread; this is when a controller sees the acknowledge cycle.
        """
        return self._taken

    @taken.setter
    def taken(self, function: Callable[[int], None] | None) -> None:
        from accel.irq import IrqLine

        self._taken = function
        self._line = IrqLine() if function is not None else None
        if self._line is None or function is None:
            lib.emu_uc_machine_accepted(self._machine, ffi.NULL, ffi.NULL)
            return
        self._line._sink = function
        self._line._handle = ffi.new_handle(self._line)
        lib.emu_uc_machine_accepted(self._machine, lib.emu_py_irq, self._line._handle)

    # -- registers -----------------------------------------------------------------

    def _place(self, name: str) -> tuple[Any, int]:
        known = self._registers.get(name)
        if known is None:
            places = self.accelerator.places()
            width = 64
            try:
                register = self.accelerator.arch.register(name)
                place = places[register.name]
                width = register.width
            except LookupError:
                if name not in places:  # a part of a segment, which isa does not list
                    raise KeyError(name) from None
                place = places[name]
            known = (ffi.new("emu_uc_reg *", {"id": place[0], "code": list(place[1:])}), width)
            self._registers[name] = known
        return known

    def get(self, *names: str) -> tuple[int, ...]:
        """Registers by their isa names.  Raises KeyError for one that Unicorn does not have."""
        values = []
        for name in names:
            place, width = self._place(name)
            if lib.emu_uc_machine_read(self._machine, place, self._value) != 0:
                raise KeyError(name)
            values.append(self._joined(width))
        return tuple(values)

    def _joined(self, width: int) -> int:
        value = 0
        for n in range((width + 63) // 64):
            value |= int(self._value[n]) << (64 * n)
        return value & ((1 << width) - 1)

    def set(self, **values: int) -> None:
        """Sets registers by name, in the order given."""
        for name, value in values.items():
            place, width = self._place(name)
            value &= (1 << width) - 1
            for n in range(8):
                self._value[n] = value >> (64 * n) & 0xFFFF_FFFF_FFFF_FFFF
            if lib.emu_uc_machine_write(self._machine, place, self._value) != 0:
                raise KeyError(name)

    def translate(self, address: int) -> int | None:
        """The physical address of a virtual one, by the guest's present tables; None where it has none."""
        if lib.emu_uc_machine_translate(self._machine, address & (1 << 64) - 1, self._value) != 0:
            return None
        return int(self._value[0])

    @property
    def timers(self) -> dict[str, IrqLine]:
        """The lines that the CPU's generic timers drive, "physical" and "virtual"; empty where it has none.

        A board connects them to its controller's private inputs: interrupts 30 and 27 of a GIC by custom.
        They change in the vCPU's thread and in one of the timers' own.
        """
        if self._timers is None:
            from accel.irq import IrqLine

            self._timers = {}
            for number, name in enumerate(("physical", "virtual")):
                line = IrqLine()
                if lib.emu_uc_machine_timer(self._machine, number, line.pointer) == 0:
                    self._timers[name] = line
        return self._timers

    @property
    def count(self) -> int | None:
        """What the counter of the CPU's generic timers is (Arm); None where it has none.  It runs always."""
        known = lib.emu_uc_machine_count(self._machine, self._value, False) == 0
        return int(self._value[0]) if known else None

    @count.setter
    def count(self, value: int) -> None:
        self._value[0] = value
        lib.emu_uc_machine_count(self._machine, self._value, True)

    @property
    def halted(self) -> bool:
        """Whether the CPU sleeps until an interrupt that it takes (x86's HLT; Arm's WFI is a hint)."""
        return bool(lib.emu_uc_machine_halted(self._machine))

    @halted.setter
    def halted(self, value: bool) -> None:
        lib.emu_uc_machine_halt(self._machine, value)

    def forget(self) -> None:
        """Drops what was derived from memory, which something else may have written.  Not while it runs."""
        lib.emu_uc_machine_forget(self._machine)

    def save(self) -> dict[str, Any]:
        """The whole state as plain values by name; accel.tcg.state says what they are."""
        from accel.tcg.state import save

        return save(self)

    def load(self, state: dict[str, Any]) -> None:
        """Takes a state of save(), of this or another engine.

        `passed_over` then names what this engine does not take.
        """
        from accel.tcg.state import load

        self.passed_over = load(self, state)

    def done(self) -> list[str]:
        """What the host's CPU did for it; translated code is not counted."""
        return self.promise.crossings().lines() if self.promise is not None else []

    def keep_promise(self, rows: Sequence[Sequence[int]] | None) -> None:
        """The guest was told that of its CPU (`cpuid` of accel.kvm.state); None: what Unicorn tells."""
        from accel.tcg.promise import Promise

        if self.promise is not None:
            self.promise.close()
            self.promise = None
        if rows is not None:
            self.promise = Promise.make(self._machine, self.accelerator.memory.pointer, rows)
        self.forget()  # translations that know of nothing else


def _model(words: str, arch: str) -> str | None:
    """The model that --cpu names; None for the default."""
    name, *features = words.split(",")
    if features:
        raise AccelError(f"--cpu {words}: tcg has its CPU models as they are; leave {','.join(features)} out")
    if name == "host":
        raise AccelError(
            "--cpu host is the host's own CPU, which kvm has; under tcg use max, or leave it out"
        )
    return None if name == "max" else name.lower()


class UnicornAccelerator:
    """One guest on Unicorn; see accel.api.Accelerator.

    options: cpu, a model of MODELS; level, the exception level after reset (aarch64, 1 to 3; 1 by default);
    path, "private" or "public" (only declared calls of the library; aarch64 alone; EMU_TCG_PATH in the
    environment sets it too); breakpoints, whether breakpoint instructions end run() with DEBUG.
    Raises Unavailable, Unsupported.
    """

    def __init__(
        self,
        arch: Arch,
        memory: AddressSpace,
        ports: AddressSpace | None = None,
        *,
        cpu: str | None = None,
        level: int = 1,
        path: str | None = None,
        breakpoints: bool = False,
    ) -> None:
        if arch.name not in ISAS:
            raise Unsupported(f"tcg runs {', '.join(ISAS)}, not {arch.name}")
        models = MODELS[arch.name]
        if cpu is not None:
            cpu = _model(cpu, arch.name)
        if cpu is not None and cpu not in models:
            known = f"{nearest(cpu, models)}; use {', '.join(models)}"
            raise AccelError(f"tcg has no CPU model {cpu!r} for {arch.name}{known}")
        if level not in (1, 2, 3):
            raise AccelError(f"exception level {level}; a CPU starts at 1, 2 or 3")
        library()
        path = path or os.environ.get("EMU_TCG_PATH") or "private"
        if path not in ("private", "public"):
            raise AccelError(f"path {path!r} to Unicorn; use private or public")
        self.arch = arch
        self.memory = memory
        self.ports = ports
        self.cpu_notes: list[str] = []
        self._config = ffi.new(
            "emu_uc_config *",
            {
                "isa": ISAS[arch.name],
                "flags": lib.EMU_UC_PUBLIC * (path == "public") | lib.EMU_UC_BREAKPOINTS * breakpoints,
                "model": models[cpu] if cpu is not None else -1,
                "level": level,
            },
        )
        self._machine: Any = ffi.NULL
        self._vcpu: UnicornVcpu | None = None
        self._clock = Clock()
        self._places: dict[str, tuple[int, ...]] = {}
        self.caps = Caps(
            "tcg", max_vcpus=1, instruction_budget=True, dirty_log=path == "private", breakpoints=False
        )

    def vcpu(self, index: int, **features: Any) -> UnicornVcpu:
        """The guest's only vCPU, number 0, in its reset state."""
        if index != 0 or self._vcpu is not None:
            raise Unsupported("tcg on Unicorn has one vCPU, number 0; use cpus=1")
        text = ffi.new("char[256]")
        ports = self.ports.pointer if self.ports is not None else ffi.NULL
        self._machine = lib.emu_uc_machine_new(self._config, self.memory.pointer, ports, text, 256)
        if self._machine == ffi.NULL:
            raise Unavailable(f"tcg cannot start: {ffi.string(text).decode()}; reinstall unicorn==2.1.4")
        self._vcpu = UnicornVcpu(self, index, self._machine)
        debug = bool(self.features & lib.EMU_UC_DEBUG)
        self.caps.single_step = self.caps.breakpoints = self.caps.watchpoints = debug
        self.memory.subscribe(self)
        return self._vcpu

    @property
    def features(self) -> int:
        """What was found usable in the library: emu_uc_feature of uc.h, 0 before the vCPU exists."""
        return int(lib.emu_uc_machine_features(self._machine)) if self._machine != ffi.NULL else 0

    def places(self) -> dict[str, tuple[int, ...]]:
        """Where the registers are; see registers.places."""
        if not self._places:
            from accel.tcg.registers import places

            self._places = places(self.arch)
        return self._places

    def irqchip(self, kind: str) -> InterruptController | None:
        """None: the board brings its own controller."""
        return None

    def clock(self) -> Clock:
        """The guest's time."""
        return self._clock

    def track(self, region: Region, on: bool = True) -> None:
        """Notes which pages of a region are written; see accel.api.Accelerator."""
        region.track(on)

    def dirty(self, region: Region) -> bytes:
        """The pages that were written; see accel.api.Accelerator."""
        return region.take_dirty()

    def enter(self) -> None:
        """The guest comes from another engine; see accel.api.Accelerator."""

    def leave(self) -> None:
        """The guest goes to another engine; see accel.api.Accelerator."""

    # -- Listener of the memory map --------------------------------------------------

    def range_removed(self, piece: Range) -> None:
        """The map lost a piece."""
        lib.emu_uc_machine_remap(self._machine)

    def range_added(self, piece: Range) -> None:
        """The map gained a piece."""
        lib.emu_uc_machine_remap(self._machine)

    def close(self) -> None:
        """Frees the engine.  The vCPU may not be running."""
        if self._machine != ffi.NULL:
            self.memory.unsubscribe(self)
            if self._vcpu is not None:
                with self._vcpu._lock:
                    self._vcpu._pointer = None
            if self._vcpu is not None:
                self._vcpu.close()
            lib.emu_uc_machine_free(self._machine)
            self._machine = ffi.NULL
            self._vcpu = None
