"""Interrupt lines and the controllers they end at.

A device holds an IrqLine and sets its level; which controller's input that is, and which engine delivers
it, is the board's affair.  The line itself is C (irq.c), so that native devices and KVM's irqfd-like paths
use it without entering Python.
"""

from __future__ import annotations

from collections.abc import Callable

from accel.native import called_from_c, ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol
else:
    Protocol = object  # typing costs every start 5 ms


class IrqLine:
    """One interrupt line.  Level 0 or 1; the controller hears of changes only."""

    def __init__(self) -> None:
        self.pointer = ffi.gc(lib.emu_irq_new(), lib.emu_irq_free)
        self._sink: Callable[[int], None] | None = None
        self._raised: BaseException | None = None
        self._handle = ffi.new_handle(self)
        self._keep: Any = None

    def set(self, level: int | bool) -> None:
        """Drives the line: true is asserted.  Raises what a Python sink raised."""
        lib.emu_irq_set(self.pointer, int(bool(level)))
        self.reraise()

    def reraise(self) -> None:
        """Raises what a Python sink left behind, if anything; for who lets C drive the line."""
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised

    def pulse(self) -> None:
        """Asserts and releases: an edge."""
        self.set(1)
        self.set(0)

    def restore(self, level: int | bool) -> None:
        """Sets the level without an edge, when a saved machine is loaded."""
        lib.emu_irq_restore(self.pointer, int(bool(level)))

    @property
    def level(self) -> int:
        """0 or 1."""
        return int(lib.emu_irq_level(self.pointer))

    def connect(self, sink: Callable[[int], None]) -> None:
        """Ends the line at a Python function that takes the new level.

        What it raises comes out of set(); where C drove the line, out of the next set().
        """
        self._sink = sink
        lib.emu_irq_connect(self.pointer, lib.emu_py_irq, self._handle, 0)

    def connect_native(self, function: Any, opaque: Any, number: int) -> None:
        """Ends the line at a C function (emu_irq_fn of core.h), `opaque` being kept alive by the line."""
        self._keep = opaque
        lib.emu_irq_connect(self.pointer, function, opaque, number)

    def disconnect(self) -> None:
        """Ends the line nowhere."""
        lib.emu_irq_connect(self.pointer, ffi.NULL, ffi.NULL, 0)
        self._sink = self._keep = None


class InterruptController(Protocol):
    """What a board asks of a controller, in the kernel (KVM) or its own."""

    def line(self, number: int) -> IrqLine:
        """The input `number`; the same object each time."""

    def send_msi(self, address: int, data: int) -> None:
        """A message-signalled interrupt."""

    def attach(self, vcpu: Any) -> None:
        """Connects the controller's output to a vCPU."""


def _keep(line: IrqLine, error: BaseException) -> None:
    line._raised = error


@called_from_c(_keep)
def emu_py_irq(handle: Any, number: int, level: int) -> None:
    line: IrqLine = ffi.from_handle(handle)
    if line._sink is not None:
        line._sink(level)
