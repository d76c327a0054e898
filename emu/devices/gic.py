"""Arm's Generic Interrupt Controller: what its versions share; native/gic.c has what it does.

Interrupts 0 to 15 are software's, 16 to 31 each CPU's own (its timers), from 32 on the board's.
"""

from __future__ import annotations

from typing import Any, ClassVar

from accel.errors import DeviceError
from accel.irq import IrqLine
from emu.device import Device
from emu.devices.native import cast, ffi, function, lib, opaque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.machine import Cpu

FIRST_SPI = 32


class Gic(Device):
    """A controller of `spis` interrupts of the board (a multiple of 32, at most 992) for `cpus` CPUs."""

    version = 2  # of what save() gives
    state = ("contents",)
    architecture: ClassVar[int]
    serves: ClassVar[str]

    def __init__(self, spis: int = 256, cpus: int = 1) -> None:
        super().__init__()
        made = lib.emu_gic_new(self.architecture, cpus, spis)
        if made == ffi.NULL:
            raise DeviceError(f"no GIC of {spis} interrupts for {cpus} CPUs; ask for fewer")
        self.pointer = ffi.gc(made, lib.emu_gic_free)
        self.cpus = cpus
        self._inputs: dict[int, IrqLine] = {}
        self._outputs: list[IrqLine] = []

    def native(self) -> tuple[Any, Any, Any]:
        return (
            function(f"emu_gic_read_{self.serves}", "emu_read_fn"),
            function(f"emu_gic_write_{self.serves}", "emu_write_fn"),
            opaque(self.pointer),
        )

    def connect_cpu(self, cpu: Cpu) -> None:
        """Gives the next CPU its IRQ and FIQ inputs."""
        index = len(self._outputs) // 2
        for which in range(2):
            line = IrqLine()
            cpu.wire(which, line)
            self._outputs.append(line)
            lib.emu_gic_output(self.pointer, index, which, cast("emu_irq *", line.pointer))

    def line(self, number: int) -> IrqLine:
        """The board's interrupt `number`, 0 first; the same object each time."""
        return self.input(FIRST_SPI + number)

    def input(self, number: int, cpu: int = 0) -> IrqLine:
        """The input of interrupt ID `number`, 16 or more, of `cpu` below 32; the same object each time."""
        key = number if number >= FIRST_SPI else number | cpu << 16
        if key not in self._inputs:
            line = self._inputs[key] = IrqLine()
            self.wire(number, line, cpu)
        return self._inputs[key]

    def wire(self, number: int, line: IrqLine, cpu: int = 0) -> None:
        """Ends a line that is somebody else's, a CPU's timer's, at the input of interrupt ID `number`."""
        key = number if number >= FIRST_SPI else number | cpu << 16
        line.connect_native(function("emu_gic_input", "emu_irq_fn"), opaque(self.pointer), key)

    def reset(self) -> None:
        lib.emu_gic_reset(self.pointer)

    @property
    def contents(self) -> bytes:
        """The whole state, an emu_gic_state of native/gic.h."""
        state = ffi.new("emu_gic_state *")
        lib.emu_gic_save(self.pointer, state)
        return bytes(ffi.buffer(state))

    @contents.setter
    def contents(self, value: bytes) -> None:
        state = ffi.new("emu_gic_state *")
        if len(value) != ffi.sizeof("emu_gic_state"):
            raise DeviceError(f"{self.name}: the saved state has {len(value)} bytes; it is another release's")
        ffi.buffer(state)[:] = value
        lib.emu_gic_load(self.pointer, state)
