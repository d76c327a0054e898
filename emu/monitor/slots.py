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

    if run.machine.pci:
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

    inventory = machine.inventory
    if name and inventory.device(name) is not None:
        raise CommandError(f"Duplicate device ID '{name}'")
    kind, way = virtio_kind(driver) or ("", "")
    if kind not in KINDS or way != "pci":
        raise CommandError(f"Device '{driver}' does not support hotplugging")
    port = _port(machine, bus)
    given = Given.of(f"device_add {driver}", properties)
    if given.word("addr") not in ("", "0", "0x0", "0x00", "0.0", "0x0.0x0", "00.0"):
        raise CommandError(f"Bus '{port}' has one place, 0x0; leave addr out")
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
        device = maker.make(given, entry, kind)
        given.finish()
        machine.hotplug.plug(device, port, entry)
        opened.pop_all()  # the machine has it


def _close_image(entry: Entry) -> None:
    """Has the image of a device that could not be plugged in opened anew by the next one."""
    if entry.node is not None and entry.node.image is not None:
        entry.node.image.close()
        entry.node.image = None


def _port(machine: Machine, bus: str) -> str:
    """The port that is meant; the first that is empty if none is named.  Raises CommandError."""
    from emu.devices.pci_bridge import PciBridge

    ports = machine.hotplug.ports()
    if not bus:
        found = next((name for name, port in ports.items() if not port.functions), None)
        if found is None:
            raise CommandError(
                "no port is empty; start the machine with -device pcie-root-port,id=... for it"
            )
        return found
    if bus in ports:
        taken = next((each for each in machine.inventory.devices if each.bus == bus), None)
        if ports[bus].functions:
            who = f"{taken.driver},id={taken.name}" if taken is not None else "another device"
            raise CommandError(f"PCI: slot 0 function 0 not available, in use by {who}")
        return bus
    fixed = [port.name for port in machine.pci if isinstance(port, PciBridge)]
    if bus in fixed or bus in ("pcie.0", "pci.0"):
        raise CommandError(f"Bus '{bus}' does not support hotplugging")
    raise CommandError(f"Bus '{bus}' not found")


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
