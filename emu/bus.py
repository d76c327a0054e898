"""Bus: where devices are attached to addresses.

A machine has one for memory and, on x86, one for ports.  Attaching gives a device its region in the map, its
interrupt line and the machine's services; the device itself knows none of the three.
"""

from __future__ import annotations

from collections.abc import Callable

from accel.errors import DeviceError
from accel.irq import IrqLine
from emu.device import Context, Device

TYPE_CHECKING = False
if TYPE_CHECKING:
    from accel.memory import AddressSpace
    from emu.backends.chardev import Chardev
    from emu.loader.fdt import Node


class Attachment:
    """A device at its place: base address, and the numbers of its interrupt lines by name."""

    __slots__ = ("base", "device", "irqs", "name")

    def __init__(self, name: str, device: Device, base: int, irqs: dict[str, int]) -> None:
        self.name = name
        self.device = device
        self.base = base
        self.irqs = irqs


class Bus:
    """Devices by name and address.

    space: the map they appear in; context(chardev) makes what a device is lent; line(number) is the board's
    interrupt controller's input.
    """

    def __init__(
        self,
        space: AddressSpace,
        context: Callable[[Chardev | None], Context],
        line: Callable[[int], IrqLine],
    ) -> None:
        self.space = space
        self.attached: dict[str, Attachment] = {}
        self._context = context
        self._line = line

    def attach(
        self,
        name: str,
        device: Device,
        base: int,
        *,
        irq: int | IrqLine | dict[str, int] | None = None,
        chardev: Chardev | None = None,
        priority: int = 0,
    ) -> Device:
        """Puts a device at `base` and realizes it; returns it.

        irq: number of the interrupt controller's input, a line, or {output's name: number}; chardev: the host
        end of its character stream.  Raises DeviceError for a name or device that is taken, Overlap where
        another region is, MapError where it does not fit.
        """
        if name in self.attached:
            raise DeviceError(f"two devices are called {name!r}; rename one")
        if not isinstance(device, Device):
            raise DeviceError(f"{name}: {device!r} is no Device; pass an object of a subclass of emu.Device")
        numbers: dict[str, int] = {}
        region = device.declare(self.space, name)
        if isinstance(irq, IrqLine):
            device.connect(irq)
        elif irq is not None:
            numbers = dict(irq) if isinstance(irq, dict) else dict.fromkeys(device.irqs[:1], irq)
            device.connect({output: self._line(number) for output, number in numbers.items()})
        device.context = self._context(chardev)
        device.realize(device.context)
        region.priority = priority
        self.space.place(region, base)
        self.attached[name] = Attachment(name, device, base, numbers)
        return device

    def devices(self) -> list[Device]:
        """The devices in the order of their attachment."""
        return [attachment.device for attachment in self.attached.values()]

    def fdt(self, parent: Node, interrupts: Callable[[int], list[int]], cells: int = 2) -> None:
        """Describes each device that has a `compatible` under `parent`; `interrupts` gives a line's cells."""
        for attachment in self.attached.values():
            device = attachment.device
            if not device.compatible:
                continue
            node = parent.node(f"{device.node_name or attachment.name}@{attachment.base:x}")
            node["compatible"] = device.compatible.split()
            node["reg"] = _split(attachment.base, cells) + _split(device.size, cells)
            if attachment.irqs:
                numbers = attachment.irqs.values()
                node["interrupts"] = [cell for number in numbers for cell in interrupts(number)]
            device.fdt(node)


def _split(value: int, cells: int) -> list[int]:
    return [value >> 32 * i & 0xFFFF_FFFF for i in reversed(range(cells))]
