"""Devices that come and go while a machine runs, whose guests are told: in ports of PCI Express, or, on a PC,
in the slots of its bus by ACPI.

Called in the loop's thread, as monitors do, or while the machine does not run.  A device that the guest has
let go of is out of the map at once, and freed by the loop when no CPU can be inside it any more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from accel.errors import DeviceError
from emu.device import Context
from emu.devices.acpi_slots import AcpiSlots
from emu.devices.pci import PciBus, PciFunction
from emu.devices.pci_bridge import PciBridge
from emu.inventory import Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.machine import Machine
    from emu.virtio.device import VirtioDevice

# The name of a PC's bus.
PC_BUS = "pci.0"


class Socket(Protocol):
    """What devices are plugged into.

    busy: whether the guest must not be asked now; patience: for how many nanoseconds of its time it is not
    asked again; gone: called, in whatever thread, with what it has let go of.
    """

    gone: Callable[[list[PciFunction]], None]

    @property
    def there(self) -> dict[tuple[int, int], PciFunction]:
        """What is on its bus, of which not all may be pulled out."""

    @property
    def busy(self) -> bool: ...

    @property
    def patience(self) -> int: ...

    def plugged(self) -> list[PciFunction]:
        """What is in it."""

    def insert(self, function: PciFunction, context: Context) -> None:
        """Plugs a function in, and tells the guest.  Raises DeviceError."""

    def eject(self, function: PciFunction) -> None:
        """Asks the guest to let go of a function."""


class Hotplug:
    """A machine's sockets; its inventory tells of what has come and gone."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._asked: dict[PciFunction, int] = {}
        self._leaving: list[PciFunction] = []
        devices = machine.devices()
        self._bus = next((each for each in devices if isinstance(each, PciBus)), None)
        self._slots = next((each for each in devices if isinstance(each, AcpiSlots)), None)
        if self._slots is not None:
            self._slots.gone = self._let_go
        for port in self._bus.ports() if self._bus is not None else ():
            port.gone = self._let_go

    def _let_go(self, functions: list[PciFunction]) -> None:
        self._leaving += functions
        self.machine.loop.call(partial(self._pulled, functions))

    def sockets(self) -> dict[str, Socket]:
        """What can be used while the guest runs, by the name of the bus: a PC's slots first."""
        found: dict[str, Socket] = {} if self._slots is None else {PC_BUS: self._slots}
        ports = self._bus.ports() if self._bus is not None else ()
        return found | {port.name: port for port in ports if port.slot is not None}

    def free(self) -> str | None:
        """The first that takes something."""
        return next((name for name, each in self.sockets().items() if self._takes(each)), None)

    @staticmethod
    def _takes(socket: Socket) -> bool:
        return isinstance(socket, AcpiSlots) or not socket.plugged()

    def plug(
        self,
        device: VirtioDevice | PciFunction,
        port: PciBridge | str | None = None,
        entry: Entry | None = None,
    ) -> PciFunction:
        """Plugs a device in, and tells the guest; returns its function.  Raises DeviceError.

        port: where, None for the first that is free.  A virtio device gets a function of its own; the device
        is the machine's from now on, which closes it.  entry: what monitors call it.
        """
        from emu.virtio.pci import VirtioPci

        machine = self.machine
        sockets = self.sockets()
        name = self.free() if port is None else port if isinstance(port, str) else port.name
        if name not in sockets or self._bus is None:
            raise DeviceError(self._nowhere(name, sockets))
        function = device if isinstance(device, PciFunction) else VirtioPci(device)
        virtio = getattr(function, "device", None)
        self._check(virtio)
        context, ends = self._context()
        with self._bus.lock, machine.memory.thawed():
            sockets[name].insert(function, context)
        context.serve = machine.lend
        for end in ends:
            machine.lend(end)
        if isinstance(function, PciBridge):
            function.gone = self._let_go
        if entry is None:
            kind = function if virtio is None else virtio
            entry = Entry("", f"{getattr(kind, 'kind', type(kind).__name__.lower())}-pci")
        entry.virtio, entry.function, entry.bus, entry.late = virtio, function, name, True
        machine.inventory.add_device(entry)
        if machine.state == "running":
            function.resume()
        return function

    def _nowhere(self, name: str | None, sockets: dict[str, Socket]) -> str:
        if not sockets:
            board = self.machine.board.name or type(self.machine.board).__name__.lower()
            if self._bus is None or not self._bus.windows:
                return f"board {board} has no PCI bus, and its virtio slots are filled at its start alone"
            return (
                "nothing can be plugged in while the guest runs; give the board a port at its start, as"
                ' pci=[PciBridge("p")], or leave acpi=off out'
            )
        known = ", ".join(sockets)
        if name is None:
            return f"every port is taken ({known}); pull something out first, or start with more"
        return f"{name} is no port that a device can be plugged into while the guest runs; there is {known}"

    def _check(self, device: VirtioDevice | None) -> None:
        kind = getattr(device, "kind", "")
        if kind == "virtio-balloon" and any(True for _ in self.machine.inventory.of_kind(kind)):
            raise DeviceError("Only one balloon device is supported")

    def _context(self) -> tuple[Context, list[Any]]:
        """What a device that comes later is lent, and the host ends that it will ask for."""
        ends: list[Any] = []
        context = self.machine._context(None)
        context.serve = ends.append
        return context, ends

    def unplug(self, device: VirtioDevice | PciFunction) -> None:
        """Asks the guest to let go of a device, which it does later or never.  Raises DeviceError."""
        socket, function = self.place(device)
        assert self._bus is not None
        with self._bus.lock:
            if socket.busy:
                raise DeviceError("Hot-unplug failed: guest is busy (power indicator blinking)")
            self._asked[function] = self.machine.clock.now() + socket.patience
            socket.eject(function)

    def asked(self, device: VirtioDevice | PciFunction) -> bool:
        """Whether the guest was asked to let go of the device a moment ago."""
        until = self._asked.get(self.place(device)[1])
        return until is not None and self.machine.clock.now() < until

    def removable(self, entry: Entry) -> bool:
        """Whether a device is where one can be pulled out."""
        devices = (entry.function, entry.virtio)
        return any(
            one in devices or getattr(one, "device", one) in devices
            for socket in self.sockets().values()
            for one in socket.plugged()
        )

    def place(self, device: VirtioDevice | PciFunction) -> tuple[Socket, PciFunction]:
        """What a device is plugged into, and its function.  Raises DeviceError."""
        for socket in self.sockets().values():
            for one in socket.plugged():
                if device is one or device is getattr(one, "device", None):
                    return socket, one
        raise DeviceError("this device is not where one can be pulled out while the guest runs")

    def _pulled(self, functions: list[PciFunction]) -> None:
        """Frees what was in a slot, while no CPU can be inside it."""
        machine = self.machine
        running = machine.state == "running"
        machine.pause()
        try:
            for function in functions:
                self._asked.pop(function, None)
                self._leaving.remove(function)
                entry = machine.inventory.of_function(function)
                if entry is not None:
                    self._empty(entry)
                    machine.inventory.remove_device(entry)
                function.close()
        finally:
            if running:
                machine.start()

    def _empty(self, entry: Entry) -> None:
        """Takes the ports out of a console, the last one first; their host's ends stay, for others."""
        from emu.virtio.console import VirtioConsole

        if not isinstance(entry.virtio, VirtioConsole):
            return
        inventory = self.machine.inventory
        for each in reversed(inventory.devices[:]):
            if each.port is not None and each.port in entry.virtio.ports.values():
                entry.virtio.remove(each.port)
                inventory.remove_device(each)

    def close(self) -> None:
        """The machine is gone, and with it what was on its way out."""
        for function in self._leaving:
            function.close()
