"""The PC's local APIC and I/O APIC; native/apic.h says what they are after, and has what they do.

Two devices: LocalApic, at the same address for each CPU, is also what holds the state; IoApic has the wires.
"""

from __future__ import annotations

from typing import Any

from accel.errors import DeviceError
from accel.irq import IrqLine
from emu.device import Device
from emu.devices.native import cast, ffi, function, lib, opaque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.machine import Cpu

LOCAL_BASE, IO_BASE, INPUTS = 0xFEE0_0000, 0xFEC0_0000, 24


class LocalApic(Device):
    """The local APICs of `cpus` CPUs, and what the I/O APIC's device shares with them."""

    state = ("contents",)

    def __init__(self, cpus: int = 1) -> None:
        super().__init__()
        made = lib.emu_apic_new(cpus)
        if made == ffi.NULL:
            raise DeviceError(f"no APICs for {cpus} CPUs; ask for fewer")
        self.pointer = ffi.gc(made, lib.emu_apic_free)
        self._outputs = 0
        self._kernel: Any = None
        self._all_in_kernel = False
        self._acknowledged: IrqLine | None = None

    def native(self) -> tuple[Any, Any, Any]:
        return (
            function("emu_apic_read_local", "emu_read_fn"),
            function("emu_apic_write_local", "emu_write_fn"),
            opaque(self.pointer),
        )

    def connect_cpu(self, cpu: Cpu) -> None:
        """Gives the next CPU its interrupts; those that it takes are heard of in C."""
        self.take_cpu(self._outputs, cpu.vcpu)
        self._outputs += 1

    def take_cpu(self, number: int, vcpu: Any) -> None:
        """Gives CPU `number` its interrupts, whose vCPU is of an engine that leaves the APIC to the board."""
        fn, machine = vcpu.input()
        vcpu.accepted(function("emu_apic_accepted", "emu_irq_fn"), opaque(self.pointer))
        if self._kernel is not None:
            vcpu.ended(function("emu_apic_ended", "emu_irq_fn"), opaque(self.pointer))
        elif hasattr(vcpu, "local_apic"):
            vcpu.local_apic(
                function("emu_apic_prioritized", "emu_irq_fn"),
                function("emu_apic_enabled", "emu_irq_fn"),
                opaque(self.pointer),
            )
        lib.emu_apic_output(self.pointer, number, cast("emu_irq_fn", fn), cast("void *", machine))

    def leave_cpu(self, number: int) -> None:
        """Takes the interrupts from a CPU that another engine, or the kernel, gives them to."""
        lib.emu_apic_output(self.pointer, number, ffi.NULL, ffi.NULL)

    def leave_to(self, kernel: Any) -> None:
        """The local APICs are the kernel's (KernelLapics): the I/O APIC sends there.  Before the CPUs."""
        self._kernel = kernel
        send, route, chip = kernel.outputs()
        self._elsewhere(send, cast("emu_apic_route_fn", route), chip)

    def leave_messages_to(self, kernel: Any) -> None:
        """All controllers are the kernel's (KernelIrqchip): messages go there; None: not any more."""
        self._all_in_kernel = kernel is not None
        if kernel is None:
            lib.emu_apic_elsewhere(self.pointer, ffi.NULL, ffi.NULL, ffi.NULL)
        else:
            send, chip = kernel.messages()
            self._elsewhere(send, ffi.NULL, chip)

    def _elsewhere(self, send: Any, route: Any, chip: Any) -> None:
        lib.emu_apic_elsewhere(self.pointer, cast("emu_apic_send_fn", send), route, cast("void *", chip))

    @property
    def msi(self) -> tuple[str, Any]:
        """What PciBus.wire takes."""
        return "emu_apic_message", self.pointer

    def external(self, vector: int) -> None:
        """What the older controllers' INTR stands for: a vector + 1, or 0 for none."""
        lib.emu_apic_external(self.pointer, vector)

    def acknowledged(self, function: Callable[[int], None]) -> None:
        """Calls `function` with each vector of the older controllers that the CPU takes."""
        from accel.native import lib as core

        self._acknowledged = line = IrqLine()
        line._sink = function
        lib.emu_apic_acknowledge(
            self.pointer, cast("emu_irq_fn", core.emu_py_irq), cast("void *", line._handle)
        )

    def reset(self) -> None:
        lib.emu_apic_reset(self.pointer)

    def close(self) -> None:
        for number in range(self._outputs):
            lib.emu_apic_output(self.pointer, number, ffi.NULL, ffi.NULL)
        self._outputs = 0
        if self._kernel is not None or self._all_in_kernel:
            lib.emu_apic_elsewhere(self.pointer, ffi.NULL, ffi.NULL, ffi.NULL)

    def state_in_c(self) -> Any:
        """A copy of the whole state, an emu_apic_state of native/apic.h."""
        state = ffi.new("emu_apic_state *")
        lib.emu_apic_save(self.pointer, state)
        return state

    def load_from_c(self, state: Any) -> None:
        """Takes such a state; the CPU is told."""
        lib.emu_apic_load(self.pointer, state)

    @property
    def contents(self) -> bytes:
        """The whole state, as bytes."""
        return bytes(ffi.buffer(self.state_in_c()))

    @contents.setter
    def contents(self, value: bytes) -> None:
        state = ffi.new("emu_apic_state *")
        if len(value) != ffi.sizeof("emu_apic_state"):
            raise DeviceError(f"{self.name}: the saved state has {len(value)} bytes; it is another release's")
        ffi.buffer(state)[:] = value
        lib.emu_apic_load(self.pointer, state)


class IoApic(Device):
    """The I/O APIC of `local`'s CPUs; registers and wires only, the state is there."""

    def __init__(self, local: LocalApic) -> None:
        super().__init__()
        self.local = local
        self._inputs: dict[int, IrqLine] = {}

    def native(self) -> tuple[Any, Any, Any]:
        return (
            function("emu_apic_read_io", "emu_read_fn"),
            function("emu_apic_write_io", "emu_write_fn"),
            opaque(self.local.pointer),
        )

    def line(self, number: int) -> IrqLine:
        """Input 0 to 23; the same object each time."""
        if not 0 <= number < INPUTS:
            raise DeviceError(f"the I/O APIC has lines 0 to {INPUTS - 1}, not {number}")
        if number not in self._inputs:
            self._inputs[number] = IrqLine()
            self.wire(number, self._inputs[number])
        return self._inputs[number]

    def wire(self, number: int, line: IrqLine) -> None:
        """Ends a line at input 0 to 23."""
        line.connect_native(function("emu_apic_input", "emu_irq_fn"), opaque(self.local.pointer), number)
