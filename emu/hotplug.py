"""Devices that come and go while a machine runs: plugged into ports of PCI Express, whose guests are told.

Called in the loop's thread, as monitors do, or while the machine does not run.  A device that the guest has
let go of is out of the map at once, and freed by the loop when no CPU can be inside it any more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from accel.errors import DeviceError
from emu.device import Context
from emu.devices.pci import PciBus, PciFunction
from emu.devices.pci_bridge import PciBridge
from emu.inventory import Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.machine import Machine
    from emu.virtio.device import VirtioDevice

# Nanoseconds of the guest's time in which it is not asked again.
PATIENCE = 5_000_000_000


class Hotplug:
    """A machine's slots.

    gone: called, in the loop's thread, with each device that was pulled out, before it is closed.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.gone: list[Callable[[Entry], None]] = []
        self._asked: dict[PciFunction, int] = {}
        self._leaving: list[PciFunction] = []
        self._bus = next((each for each in machine.devices() if isinstance(each, PciBus)), None)
        for port in self._bus.ports() if self._bus is not None else ():
            self._watch(port)

    def _watch(self, port: PciBridge) -> None:
        port.gone = self._let_go

    def _let_go(self, port: PciBridge, functions: list[PciFunction]) -> None:
        self._leaving += functions
        self.machine.loop.call(partial(self._pulled, functions))

    def ports(self) -> dict[str, PciBridge]:
        """The ports whose slots can be used while the guest runs, by name."""
        ports = self._bus.ports() if self._bus is not None else ()
        return {port.name: port for port in ports if port.slot is not None}

    def plug(
        self, device: VirtioDevice | PciFunction, port: PciBridge | str, entry: Entry | None = None
    ) -> PciFunction:
        """Plugs a device into an empty port, and tells the guest; returns its function.  Raises DeviceError.

        A virtio device gets a function of its own; the device is the machine's from now on, which closes it.
        entry: what monitors call it.
        """
        from emu.virtio.pci import VirtioPci

        machine = self.machine
        name = port if isinstance(port, str) else port.name
        found = self.ports().get(name)
        if found is None or self._bus is None:
            known = ", ".join(self.ports()) or "none"
            raise DeviceError(
                f"{name} is no port that a device can be plugged into while the guest runs; there is {known}"
            )
        function = device if isinstance(device, PciFunction) else VirtioPci(device)
        context, ends = self._context()
        with self._bus.lock, machine.memory.thawed():
            found.insert(function, context)
        for end in ends:
            end.open(machine.loop)
        if isinstance(function, PciBridge):
            self._watch(function)
        virtio = getattr(function, "device", None)
        if entry is None:
            kind = function if virtio is None else virtio
            entry = Entry("", f"{getattr(kind, 'kind', type(kind).__name__.lower())}-pci")
        entry.virtio, entry.function, entry.bus = virtio, function, found.name
        machine.inventory.add_device(entry)
        if machine.state == "running":
            function.resume()
        return function

    def _context(self) -> tuple[Context, list[Any]]:
        """What a device that comes later is lent, and the host ends that it will ask for."""
        ends: list[Any] = []
        context = self.machine._context(None)
        context.serve = ends.append
        return context, ends

    def unplug(self, device: VirtioDevice | PciFunction) -> None:
        """Asks the guest to let go of a device, which it does later or never.  Raises DeviceError."""
        port, function = self.place(device)
        slot = port.slot
        if slot is None:
            raise DeviceError(f"Bus '{port.name}' does not support hotplugging")
        assert self._bus is not None
        with self._bus.lock:
            if slot.blinks:
                raise DeviceError("Hot-unplug failed: guest is busy (power indicator blinking)")
            self._asked[function] = self.machine.clock.now()
            port.eject()

    def asked(self, device: VirtioDevice | PciFunction) -> bool:
        """Whether the guest was asked to let go of the device a moment ago."""
        function = self.place(device)[1]
        since = self._asked.get(function)
        return since is not None and self.machine.clock.now() < since + PATIENCE

    def place(self, device: VirtioDevice | PciFunction) -> tuple[PciBridge, PciFunction]:
        """The port that a device is behind, and its function.  Raises DeviceError."""
        for port in self._bus.ports() if self._bus is not None else ():
            for one in list(port.functions.values()):
                if device is one or device is getattr(one, "device", None):
                    return port, one
        raise DeviceError("this device is not behind a port; only such a one can be pulled out")

    def _pulled(self, functions: list[PciFunction]) -> None:
        """Frees what was in a slot, while no CPU can be inside it."""
        machine = self.machine
        running = machine.state == "running"
        machine.pause()
        try:
            for function in functions:
                self._asked.pop(function, None)
                self._leaving.remove(function)
                entry = self._entry(function)
                if entry is not None:
                    machine.inventory.remove_device(entry)
                    for told in self.gone:
                        told(entry)
                function.close()
        finally:
            if running:
                machine.start()

    def _entry(self, function: PciFunction) -> Entry | None:
        return next((each for each in self.machine.inventory.devices if each.function is function), None)

    def close(self) -> None:
        """The machine is gone, and with it what was on its way out."""
        for function in self._leaving:
            function.close()
