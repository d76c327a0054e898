"""Devices that monitors plug in and pull out, by QEMU's names and with its errors and events."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from accel.errors import DeviceError
from emu.monitor.command import CommandError, not_found

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.inventory import Entry
    from emu.machine import Machine
    from emu.run_state import RunState

# What of the virtio kinds may come later: the others are made with what they show, or looked for at start.
KINDS = ("blk", "net", "rng")


def watch_slots(run: RunState) -> None:
    """Tells DEVICE_DELETED from now on: of the device in a function, and then of the function."""

    def gone(entry: Entry) -> None:
        if entry.virtio is not None:
            run.tell("DEVICE_DELETED", {"path": f"{entry.path}/virtio-backend"})
        named = {"device": entry.name} if entry.name else {}
        run.tell("DEVICE_DELETED", {**named, "path": entry.path})

    if run.machine.plugs:
        run.machine.hotplug.gone.append(gone)


def add(machine: Machine, driver: str, bus: str, name: str, properties: dict[str, Any]) -> None:
    """Makes a device and plugs it in.  Raises CommandError, or DeviceError; then nothing has changed."""
    from emu.inventory import Entry
    from emu.system.blocks import Blocks
    from emu.system.chardevs import Ends
    from emu.system.devices import Devices
    from emu.system.given import Given
    from emu.system.process import Descriptors
    from emu.system.types import MachineType, virtio_kind
    from emu.virtio.pci import VirtioPci

    inventory = machine.inventory
    if name and inventory.device(name) is not None:
        raise CommandError(f"Duplicate device ID '{name}'")
    kind, way = virtio_kind(driver) or ("", "")
    if kind not in KINDS or way != "pci":
        raise CommandError(f"Device '{driver}' does not support hotplugging")
    port = _port(machine, driver, bus)
    given = Given.of(f"device_add {driver}", properties)
    place = _place(machine, driver, port, given.word("addr"))
    told = {key: values[-1] for key, values in given.values.items()}
    entry = Entry(name, driver, properties=told, bus=port)
    arch = machine.board.arch
    with ExitStack() as opened:
        descriptors = Descriptors()
        blocks = Blocks(inventory, descriptors, opened, snapshot=False)
        board = MachineType("", "", "", bus=port)
        maker = Devices(arch, board, inventory, blocks, Ends(inventory, descriptors), opened)
        opened.callback(_close_image, entry)
        maker.transport(given, kind)
        given.idle("multifunction")
        function = VirtioPci(maker.make(given, entry, kind))
        given.finish()
        function.place = place
        machine.hotplug.plug(function, port, entry)
        opened.pop_all()  # the machine has it


def _close_image(entry: Entry) -> None:
    """Has the image of a device that could not be plugged in opened anew by the next one."""
    if entry.node is not None and entry.node.image is not None:
        entry.node.image.close()
        entry.node.image = None


def _port(machine: Machine, driver: str, bus: str) -> str:
    """The bus that is meant; the first with room if none is named.  Raises CommandError."""
    from emu.devices.pci_bridge import PciBridge

    sockets = machine.hotplug.sockets()
    if not bus:
        found = machine.hotplug.free()
        if found is None:
            raise CommandError(
                "no port is empty; start the machine with -device pcie-root-port,id=... for it"
            )
        return found
    if bus in sockets:
        return bus
    fixed = [port.name for port in machine.pci if isinstance(port, PciBridge)]
    if bus in fixed or bus in ("pcie.0", "pci.0"):
        raise CommandError(f"Bus '{bus}' does not support hotplugging")
    raise CommandError(f"Bus '{bus}' not found")


def _place(machine: Machine, driver: str, bus: str, addr: str) -> tuple[int, int] | None:
    """The slot and function that `addr` names; None for none.  Raises CommandError."""
    from emu.devices.pci_bridge import PciBridge

    socket = machine.hotplug.sockets()[bus]
    port = isinstance(socket, PciBridge)
    place = None
    if addr:
        try:
            slot, _, number = addr.partition(".")
            place = int(slot, 16), int(number or "0", 16)
        except ValueError:
            place = -1, 0
        if not (0 <= place[0] < 32 and 0 <= place[1] < 8):
            raise CommandError(f"Property '{driver}.addr' doesn't take value '{addr}'")
    if port and place not in (None, (0, 0)):
        raise CommandError(f"Bus '{bus}' has one place, 0x0; leave addr out")
    wanted = (0, 0) if port else place
    for (taken, _), function in socket.there.items():
        if wanted is not None and taken == wanted[0]:
            who = machine.inventory.of_function(function)
            user = type(function).__name__ if who is None else who.driver
            if who is not None and who.name:
                user += f",id={who.name}"
            raise CommandError(
                f"PCI: slot {wanted[0]:x} function {wanted[1]:x} not available for {driver}, in use by {user}"
            )
    return place


def remove(machine: Machine, name: str) -> None:
    """Asks the guest to let go of a device.  Raises CommandError."""
    entry = machine.inventory.device(name)
    if entry is None:
        raise not_found(name)
    if entry.function is None:
        if entry.virtio is None:
            raise CommandError(f"Device '{name}' does not support hotplugging")
        raise CommandError(f"Bus '{entry.bus}' does not support hotplugging")
    try:
        machine.hotplug.place(entry.function)
    except DeviceError:
        raise CommandError(f"Bus '{entry.bus}' does not support hotplugging") from None
    if machine.hotplug.asked(entry.function):
        raise CommandError(f"Device {name} is already in the process of unplug")
    machine.hotplug.unplug(entry.function)
