"""KvmVcpu: one virtual CPU over the run loop in C."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from accel.api import Exit, ExitKind
from accel.errors import AccelError
from accel.kvm import cpuid, xsave
from accel.kvm.device import DEBUG_INT3, checked
from accel.kvm.registers import Registers, read_msr, write_msr
from accel.native import ffi, lib

# KVM_GUESTDBG_*
DEBUG_ENABLE, DEBUG_STEP, DEBUG_HARDWARE, DEBUG_NO_IRQ = 1, 2, 0x20000, 0x100000
# DR7: R/W bits by what is watched, LEN bits by bytes (Intel SDM vol. 3, 18.2.4).  Reads alone cannot be.
WATCH_BITS, LENGTH_BITS = {"w": 1, "rw": 3}, {1: 0, 2: 1, 4: 3, 8: 2}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from accel.crossings import Crossings
    from accel.irq import IrqLine
    from accel.kvm.planted import Planted
    from accel.kvm.vm import KvmAccelerator


def _leaves(
    accelerator: KvmAccelerator, host: cpuid.Leaves, index: int, irqchip: int, features: Mapping[str, bool]
) -> cpuid.Leaves:
    return cpuid.policy(host, index, lapic=bool(irqchip), cpu=accelerator.cpu, features=features)


class KvmVcpu:
    """A vCPU of KVM; made by KvmAccelerator.vcpu().

    Registers by their isa names; segments also by parts: `cs` is the selector alone, `cs_base`, `cs_limit`
    (in bytes) and `cs_attr` (access rights as Intel SDM vol. 3 table 25-2: type 0-3, S 4, DPL 5-6, P 7,
    AVL 12, L 13, D/B 14, G 15, unusable 16) the hidden part.  `msr_<hex>` is any MSR KVM knows.

    irqchip: which interrupt controllers are in the kernel, an emu_kvm_irqchip of kvm.h (0: none).
    """

    def __init__(
        self,
        accelerator: KvmAccelerator,
        index: int,
        run_size: int,
        sync: int,
        irqchip: int,
        features: Mapping[str, bool],
    ) -> None:
        self.index = index
        self.accelerator = accelerator
        self.irqchip = irqchip
        self.passed_over: tuple[str, ...] = ()
        self._taken: Callable[[int], None] | None = None
        self._line: IrqLine | None = None
        self._sleeps = False
        self._msr_names: dict[str, int] | None = None
        self._exit = ffi.new("emu_exit *")
        self._stops = ffi.new("emu_kvm_guest_debug *")  # as debug() has set them
        self._watches: tuple[str, ...] = ()  # what each debug register is for
        self._how = lib.EMU_KVM_DEBUGS_NOT
        self._planted: dict[int, int] = {}  # linear addresses of INT3s, and the physical ones
        self._stepping = False  # the kernel has those of step() instead
        ports = accelerator.ports
        out = ffi.new("emu_kvm_vcpu **")
        checked(
            lib.emu_kvm_vcpu_open(
                accelerator.fd,
                index,
                run_size,
                sync,
                irqchip,
                accelerator.memory.pointer,
                ports.pointer if ports is not None else ffi.NULL,
                out,
            ),
            f"create vCPU {index}",
            "give the machine fewer CPUs, or free memory on the host",
        )
        self._pointer: Any = out[0]  # None once the accelerator is closed
        self._lock = threading.RLock()  # kick() and interrupt() against close()
        self.fd = int(lib.emu_kvm_vcpu_fd(self.pointer))
        try:
            host = accelerator.supported()
            self._xsave_layout = xsave.layout(host)
            self.leaves = _leaves(accelerator, host, index, irqchip, features)
            cpuid.apply(self.fd, self.leaves)
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<KvmVcpu {self.index}>"

    # -- running -------------------------------------------------------------------

    def run(self, budget: int | None = None) -> Exit:
        """Runs until something concerns the machine.

        budget: at most so many exits.  A host signal that Python handles ends the run as KICKED, so that
        its handler gets its turn; one that comes in the instant before the guest is entered waits for the
        next exit, so a program that lives by signals runs vCPUs in threads of their own, as Machine does.
        An exception of a device's hook is raised here; the access that it was about counts as done,
        reading 0.
        """
        if self._stepping:
            self._stepping = False
            self._debug(self._stops, self._how, "set breakpoints")
        planted = self.accelerator.planted
        if not planted:
            return self._run(budget)
        planted.enter()
        try:
            while True:
                exit = self._run(budget)
                if (
                    exit.kind != ExitKind.DEBUG
                    or exit.code != lib.EMU_KVM_BREAKPOINT
                    or self._stopped_at(exit.pc)
                ):
                    return exit
        finally:
            planted.leave()

    def _stopped_at(self, address: int) -> bool:
        """Whether an INT3 is one of this CPU's stops; else it has its way."""
        planted = self.accelerator.planted
        if address in self._planted or planted is None:
            return True
        physical = self.translate(address)
        if physical is None or physical not in planted:
            status = lib.emu_kvm_vcpu_pass_int3(self.pointer)
            checked(status, "give the guest its INT3", "close the machine")
            return False
        # The guest has the same memory at another address, or another CPU has the stop.
        with planted.without(physical):
            self.step()
        self._stepping = False
        self._debug(self._stops, self._how, "set breakpoints")
        return False

    def _run(self, budget: int | None) -> Exit:
        out = self._exit
        left = 0 if budget is None else budget
        if budget is not None and budget <= 0:
            return Exit(ExitKind.BUDGET, pc=self.get("rip")[0])
        while True:
            kind = lib.emu_kvm_vcpu_run(self.pointer, left, out)
            if self._line is not None:
                self._line.reraise()
            if kind == lib.EMU_EXIT_RAISED:
                self._reraise()
                raise AccelError("a native device stopped the vCPU (EMU_RAISED) and left no exception")
            if kind != lib.EMU_EXIT_KICKED or out.code != lib.EMU_KVM_ATTENTION:
                break
        return Exit(
            ExitKind(kind),
            pc=out.pc,
            address=out.address,
            code=out.code,
            data=bytes(ffi.buffer(out.bytes, out.nbytes)),
            text=ffi.string(out.text).decode("utf-8", "replace"),
        )

    def _reraise(self) -> None:
        self.accelerator.memory.reraise()
        if self.accelerator.ports is not None:
            self.accelerator.ports.reraise()

    def kick(self) -> None:
        """Makes the running, or else the next, run() return KICKED soon.  After close() it does nothing."""
        with self._lock:
            if self._pointer is not None:
                lib.emu_kvm_vcpu_kick(self._pointer)

    @property
    def pointer(self) -> Any:
        """The vCPU in C (emu_kvm_vcpu).  Raises AccelError once it is closed."""
        if self._pointer is None:
            raise AccelError("this vCPU's accelerator is closed; make a new one")
        return self._pointer

    def interrupt(self, line: int, level: int) -> None:
        """Drives INTR (line 0; level is vector + 1, 0 withdraws) or NMI (line 1).  From any thread.

        The others are the local APIC's (accel.api).  Raises AccelError where the controller that drives a
        line is in the kernel.
        """
        if (line == 0 and self.irqchip == lib.EMU_KVM_CHIP_ALL) or (line > 1 and self.irqchip):
            raise AccelError("the kernel's interrupt controller drives INTR; set one of its lines instead")
        if line not in range(5) or not 0 <= level <= 256:
            raise AccelError(f"no input {line} with level {level}; line 0 is INTR (vector + 1), line 1 NMI")
        with self._lock:
            if self._pointer is not None:
                lib.emu_kvm_vcpu_interrupt(self._pointer, line, level)

    def input(self) -> tuple[Any, Any]:
        """interrupt() as a C function and its opaque, for a controller in C; good until the engine closes."""
        return ffi.addressof(lib, "emu_kvm_vcpu_input"), self.pointer

    def accepted(self, function: Any, opaque: Any) -> None:
        """As `taken`, with an emu_irq_fn of core.h, for a controller in C; `opaque` outlives the vCPU."""
        lib.emu_kvm_vcpu_tell(self.pointer, lib.EMU_KVM_TAKES, function, opaque)

    def local_apic(self, priority: Any, enabled: Any, opaque: Any) -> None:
        """Tells a local APIC in C of the CPU's registers that are part of it: CR8 and whether it is on."""
        lib.emu_kvm_vcpu_tell(self.pointer, lib.EMU_KVM_CR8, priority, opaque)
        lib.emu_kvm_vcpu_tell(self.pointer, lib.EMU_KVM_ENABLES, enabled, opaque)

    def ended(self, function: Any, opaque: Any) -> None:
        """Tells an I/O APIC in C of the ends of level-triggered interrupts at the kernel's local APIC."""
        lib.emu_kvm_vcpu_tell(self.pointer, lib.EMU_KVM_ENDS, function, opaque)

    def park(self) -> None:
        """Has it wait for a start-up interrupt from a local APIC outside the kernel."""
        lib.emu_kvm_vcpu_set_parked(self.pointer, 1)

    @property
    def taken(self) -> Callable[[int], None] | None:
        """Called with the vector of every external interrupt given by interrupt(0, ...) that the CPU takes.

        It runs in the vCPU's thread; this is when a controller sees the acknowledge cycle.
        """
        return self._taken

    @taken.setter
    def taken(self, callback: Callable[[int], None] | None) -> None:
        from accel.irq import IrqLine

        self._taken = callback
        if callback is None:
            self._line = None
            self.accepted(ffi.NULL, ffi.NULL)
            return
        self._line = IrqLine()
        self._line._sink = callback
        self.accepted(lib.emu_py_irq, self._line._handle)

    @property
    def sleeps(self) -> bool:
        """Whether run() sleeps while the CPU waits for an interrupt, in place of returning HALT."""
        return self._sleeps

    @sleeps.setter
    def sleeps(self, value: bool) -> None:
        self._sleeps = value
        lib.emu_kvm_vcpu_sleep(self.pointer, value)

    # -- registers -----------------------------------------------------------------

    def get(self, *names: str) -> tuple[int, ...]:
        """Registers by name.  Raises KeyError for an unknown one."""
        checked(lib.emu_kvm_vcpu_come_back(self.pointer), "take the CPU back", "close the machine")
        registers = Registers(self)
        return tuple(registers.get(name) for name in names)

    def set(self, **values: int) -> None:
        """Sets registers by name, all of one call together.

        Raises KeyError for an unknown name (nothing is set then) and AccelError for values that KVM refuses.
        """
        self.settle()
        registers = Registers(self)
        for name, value in values.items():
            registers.set(name, value)
        registers.flush()
        if "rip" in values or "pc" in values:
            lib.emu_kvm_vcpu_set_halted(self.pointer, 0)

    def save(self) -> dict[str, Any]:
        """The whole state as plain values by name; accel.kvm.state says what they are."""
        from accel.kvm import state

        return state.save(self)

    def load(self, state: dict[str, Any]) -> None:
        """Takes a state that save() gave, of this or another engine.

        `passed_over` then names the registers that this host's KVM does not have or does not let set.
        """
        from accel.kvm.state import load

        self.passed_over = load(self, state)

    def debug(
        self,
        breakpoints: Sequence[int] = (),
        watchpoints: Sequence[tuple[int, int, str]] = (),
        *,
        step: bool = False,
    ) -> None:
        """Stops run() with DEBUG before an instruction at one of these addresses, or behind an access.

        Linear addresses.  watchpoints: address, size and "w" or "rw" (x86 has no "r"), which take one of the
        CPU's 4 debug registers for each 1, 2, 4 or 8 bytes, aligned.  Breakpoints that find none free are
        INT3s in memory while the CPU runs, where the page tables lead now.  step: after every instruction,
        too.  No arguments end it.  A run from a breakpoint's own address stops there again: step first.
        """
        wanted: list[tuple[int, int, str]] = []
        for address, size, kind in watchpoints:
            while size > 0:
                piece = next(n for n in (8, 4, 2, 1) if n <= size and address % n == 0)
                wanted.append((address, piece, kind))
                address, size = address + piece, size - piece
                if len(wanted) > 4:
                    break
        planted = self._plant(breakpoints, 4 - len(wanted))
        wanted += [(address, 1, "x") for address in breakpoints if address not in planted]
        if len(wanted) > 4:
            raise AccelError(
                "the CPU has 4 breakpoints and watchpoints, which is too few; drop some, or use --accel tcg"
            )
        control = ffi.new("emu_kvm_guest_debug *")
        if step or wanted or planted:
            control.control = DEBUG_ENABLE | DEBUG_STEP * step | DEBUG_HARDWARE * bool(wanted)
            control.control |= DEBUG_INT3 * bool(planted)
        if wanted:
            control.debugreg[7] = 0x400
        for n, (address, size, kind) in enumerate(wanted):
            control.debugreg[n] = address
            control.debugreg[7] |= 2 << 2 * n
            if kind != "x":
                control.debugreg[7] |= (WATCH_BITS[kind] | LENGTH_BITS[size] << 2) << 16 + 4 * n
        how = lib.EMU_KVM_DEBUGS_STOPS if control.control else lib.EMU_KVM_DEBUGS_NOT
        self._how = lib.EMU_KVM_DEBUGS_INT3S if planted else how
        self._debug(control, self._how, "set breakpoints")
        self._stops, self._watches, self._stepping = control, tuple(kind for _, _, kind in wanted), False
        self._planted = planted
        if self.accelerator.planted is not None:
            self.accelerator.planted.want(self.index, planted.values())

    def _plant(self, breakpoints: Sequence[int], registers: int) -> dict[int, int]:
        """Those that go into memory where there are more than `registers`: linear and physical addresses."""
        planted = self.accelerator.planted
        over = len(breakpoints) - max(registers, 0)
        places: dict[int, int] = {}
        for address in reversed(breakpoints if planted is not None else ()):
            if len(places) >= over:
                break
            physical = self.translate(address)
            if physical is None or planted is None or not planted.possible(physical):
                continue
            if not planted.kernel_only or not self._for_users(planted, address):
                places[address] = physical
        return places

    def _for_users(self, planted: Planted, address: int) -> bool:
        cr0, cr3, cr4, efer = self.get("cr0", "cr3", "cr4", "efer")
        if not cr0 >> 31:
            return False
        # Without 64-bit mode tables are of other kinds: may be.
        return not efer >> 10 & 1 or planted.for_users(address, cr3, 5 if cr4 >> 12 & 1 else 4)

    def _debug(self, control: Any, how: int, doing: str) -> None:
        self.call(lib.EMU_KVM_SET_GUEST_DEBUG, control, doing)
        lib.emu_kvm_vcpu_debugs(self.pointer, how)

    def step(self) -> Exit:
        """Executes one instruction, without interrupts where this kernel can hold them off (5.12).

        DEBUG or HALT when it is done, KICKED with nothing done.
        """
        if not self._stepping:
            control = ffi.new("emu_kvm_guest_debug *")
            control.control = DEBUG_ENABLE | DEBUG_STEP | DEBUG_NO_IRQ
            if lib.emu_kvm_ioctl(self.fd, lib.EMU_KVM_SET_GUEST_DEBUG, control) < 0:
                control.control = DEBUG_ENABLE | DEBUG_STEP
                self.call(lib.EMU_KVM_SET_GUEST_DEBUG, control, "step")
            lib.emu_kvm_vcpu_debugs(self.pointer, lib.EMU_KVM_DEBUGS_STEP)
            self._stepping = True
        planted = self.accelerator.planted
        if planted and self._planted:
            pc = sum(self.get("rip", "cs_base"))
            with planted.without(self._planted.get(pc, -1)):
                return self._run(None)
        return self._run(None)

    def stopped_by(self, exit: Exit) -> tuple[str, int]:
        """What a DEBUG exit of run() is about: "breakpoint", or "w" or "rw" and the address watched."""
        for n, kind in enumerate(self._watches if exit.code != lib.EMU_KVM_BREAKPOINT else ()):
            if exit.address >> n & 1 and kind != "x":
                return kind, int(self._stops.debugreg[n])
        return "breakpoint", exit.pc

    def settle(self) -> None:
        """Completes an access under way, so that the state is that between two instructions.

        A hook may run for the rest of a wide access; its exception is raised here.
        """
        status = lib.emu_kvm_vcpu_settle(self.pointer)
        if status == lib.EMU_RAISED:
            self._reraise()
        checked(status, "complete an access", "close the machine")

    def translate(self, address: int) -> int | None:
        """The physical address of a linear one, by the guest's present tables; None where it has none."""
        place = ffi.new("emu_kvm_translation *", {"linear": address & (1 << 64) - 1})
        self.call(lib.EMU_KVM_TRANSLATE, place, "translate an address")
        return int(place.physical) if place.valid else None

    def msr_index(self, name: str) -> int | None:
        """The MSR of that name (isa's, or msr_<hex>), or None."""
        if name.startswith("msr_"):
            try:
                return int(name[4:], 16)
            except ValueError:
                raise KeyError(name) from None
        return self.msr_names().get(name)

    def msr_names(self) -> dict[str, int]:
        """The MSRs that isa names."""
        if self._msr_names is None:
            self._msr_names = {
                register.name: register.encoding[0]
                for register in self.accelerator.arch.system_registers
                if register.encoding
            }
        return self._msr_names

    def read_msr(self, index: int) -> int:
        """An MSR by number; raises KeyError where KVM does not know it."""
        value = read_msr(self.fd, index)
        if value is None:
            raise KeyError(f"msr_{index:x}")
        return value

    def write_msr(self, index: int, value: int) -> bool:
        """Sets an MSR by number; False where KVM does not take it."""
        return write_msr(self.fd, index, value)

    def xsave_layout(self) -> dict[int, tuple[int, int]]:
        """Where the XSAVE area's components lie on this host."""
        return self._xsave_layout

    @property
    def avx(self) -> bool:
        """Whether the guest has been told of AVX."""
        return bool(self.leaves.get((1, 0), [0] * 4)[2] >> 28 & 1) and xsave.AVX in self._xsave_layout

    def call(self, request: int, argument: Any, doing: str) -> int:
        """A vCPU call of KVM's; raises AccelError where it fails."""
        return checked(lib.emu_kvm_ioctl(self.fd, request, argument), doing, "close the machine")

    def counts(self) -> dict[str, int]:
        """How many exits there were: all, for ports, for memory, by signals."""
        out = ffi.new("emu_kvm_counts *")
        lib.emu_kvm_vcpu_counts(self.pointer, out)
        return {"exits": out.exits, "io": out.io, "mmio": out.mmio, "signals": out.signals}

    def done(self) -> list[str]:
        """What it did so far; see accel.api.Vcpu."""
        counts = self.counts()
        ports, memory, signals = counts["io"], counts["mmio"], counts["signals"]
        return [
            f"{counts['exits']} exits of KVM's run loop, {ports} for ports, {memory} for memory;"
            f" {signals} ends by signals",
            *self.crossings().lines(),
        ]

    def crossings(self) -> Crossings:
        """What KVM refused, and who did it."""
        from accel.crossings import Crossings

        out = ffi.new("emu_cross_counts *")
        lib.emu_kvm_vcpu_crossings(self.pointer, out)
        return Crossings(out)

    def close(self) -> None:
        """Frees the vCPU; it must not be running."""
        with self._lock:
            pointer, self._pointer = self._pointer, None
        if pointer is not None:
            lib.emu_kvm_vcpu_close(pointer)
            self.fd = -1
