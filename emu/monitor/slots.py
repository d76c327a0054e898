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
    from emu.system.given import Given
    from emu.virtio.console import Port, VirtioConsole

PORTS = ("virtserialport", "virtconsole")
# Kinds of buses; what is no virtio device and not on a PCI bus.
PCI, MMIO, SERIAL = "PCI", "virtio-bus", "virtio-serial-bus"
OTHER_BUSES = {"virtserialport": SERIAL, "virtconsole": SERIAL, "isa-serial": "ISA"}


def watch_slots(run: RunState) -> None:
    """Tells DEVICE_DELETED from now on: of the device in a function, and then of the function."""

    def gone(entry: Entry) -> None:
        if entry.virtio is not None:
            run.tell("DEVICE_DELETED", {"path": f"{entry.path}/virtio-backend"})
        named = {"device": entry.name} if entry.name else {}
        run.tell("DEVICE_DELETED", {**named, "path": entry.path})

    run.machine.inventory.gone.append(gone)


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
    port = _bus(machine, driver, {"pci": PCI, "mmio": MMIO}.get(way) or OTHER_BUSES.get(driver, PCI), bus)
    if driver in PORTS:
        _add_port(machine, driver, port, name, Given.of(f"device_add {driver}", properties))
        return
    if not kind:
        raise CommandError(f"Device '{driver}' does not support hotplugging")
    given = Given.of(f"device_add {driver}", properties)
    place = _place(machine, driver, port, given.word("addr"))
    _lacking(machine, kind, given)
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


def _buses(machine: Machine) -> dict[str, tuple[str, bool]]:
    """The buses by name: the kind of each, and whether something may be plugged in there."""
    from emu.devices.pci import PciBus
    from emu.devices.pci_bridge import PciBridge
    from emu.devices.pci_ecam import PciEcam
    from emu.hotplug import PC_BUS

    found: dict[str, tuple[str, bool]] = {}
    slots = machine.board.virtio
    for number in reversed(range(slots.count if slots is not None else 0)):
        found[f"virtio-mmio-bus.{number}"] = MMIO, False  # guests look at these once
    hot = machine.hotplug.sockets() if machine.plugs else {}
    for each in machine.devices():
        if isinstance(each, PciBus) and each.windows:
            name = "pcie.0" if isinstance(each, PciEcam) else PC_BUS
            found[name] = "PCIE" if isinstance(each, PciEcam) else PCI, name in hot
    for entry in machine.inventory.devices:
        if entry.behind:
            found[entry.behind] = SERIAL, True
    for port in machine.pci:
        if isinstance(port, PciBridge):
            found[port.name] = "PCIE", False
    found |= {name: ("PCIE", True) for name in hot if name != PC_BUS}
    if machine.board.ports:
        found["isa.0"] = "ISA", False
    return found


def _bus(machine: Machine, driver: str, wanted: str, bus: str) -> str:
    """The bus of the kind that is wanted; one that has room if none is named.  Raises CommandError."""
    buses = _buses(machine)
    fit = {PCI: (PCI, "PCIE")}.get(wanted, (wanted,))
    if bus and bus not in buses:
        raise CommandError(f"Bus '{bus}' not found")
    if bus and buses[bus][0] not in fit:
        raise CommandError(f"Device '{driver}' can't go on {buses[bus][0]} bus")
    named = bus or next((name for name, (kind, _) in buses.items() if kind in fit), "")
    if not named:
        raise CommandError(f"No '{wanted}' bus found for device '{driver}'")
    if not bus and wanted == PCI and machine.plugs:
        # QEMU takes the host bridge's bus, where nothing can be plugged in behind PCI Express.
        free = machine.hotplug.free()
        if free is None and machine.hotplug.sockets():
            raise CommandError(
                "no port is empty; start the machine with -device pcie-root-port,id=... for it"
            )
        named = free or named
    if not buses[named][1]:
        raise CommandError(f"Bus '{named}' does not support hotplugging")
    return named


def _lacking(machine: Machine, kind: str, given: Given) -> None:
    """Raises CommandError, in QEMU's words, where a device lacks something or is one too many."""
    inventory = machine.inventory
    if kind == "balloon" and any(True for _ in inventory.of_kind("virtio-balloon")):
        raise CommandError("Only one balloon device is supported")
    if kind == "9p":
        folder = given.values.get("fsdev", ["NULL"])[-1]
        if folder not in inventory.folders:
            raise CommandError(f"9pfs device couldn't find fsdev with the id = {folder}")
        if "mount_tag" not in given.values:
            raise CommandError(f"fsdev with id {folder} needs mount_tag arguments")


def _add_port(machine: Machine, driver: str, bus: str, name: str, given: Given) -> None:
    """Adds a port to a console.  Raises CommandError."""
    from emu.backends.chardev import Chardev
    from emu.inventory import Entry
    from emu.virtio.console import Port, VirtioConsole

    inventory = machine.inventory
    owner = next(entry for entry in inventory.devices if entry.behind == bus)
    device = owner.virtio
    assert isinstance(device, VirtioConsole)
    told = {key: values[-1] for key, values in given.values.items()}
    label, console = given.word("chardev"), driver == "virtconsole"
    chardev = Chardev()
    if label:
        if label not in inventory.chardevs:
            raise CommandError(f"Property '{driver}.chardev' can't find value '{label}'")
        chardev = inventory.chardevs[label]
        if chardev.front is not None:
            raise CommandError(
                f"Property '{driver}.chardev' can't take value '{label}': Device '{label}' is in use"
            )
    port = Port(chardev, name=given.word("name"), console=console, number=given.number("nr", -1))
    given.finish()
    _numbered(device, port)
    device.add(port)
    entry = Entry(name, driver, properties=told, bus=owner.behind, chardev=label)
    entry.port, entry.late = port, True
    inventory.add_device(entry)


def _numbered(device: VirtioConsole, port: Port) -> None:
    """Raises CommandError, in QEMU's words, where a port cannot have its name or number."""
    if port.number in device.ports:
        raise CommandError(f"virtio-serial-bus: A port already exists at id {port.number}")
    if port.name and any(port.name == other.name for other in device.ports.values()):
        raise CommandError(f"virtio-serial-bus: A port already exists by name {port.name}")
    free = set(range(0 if port.console else 1, device.most)) - device.ports.keys()
    if port.number >= device.most or (port.number < 0 and not free):
        raise CommandError(
            f"virtio-serial-bus: Out-of-range port id specified, max. allowed: {device.most - 1}"
        )
    if port.number == 0 and not port.console:
        raise CommandError(
            "Port number 0 on virtio-serial devices reserved for virtconsole devices for backward"
            " compatibility."
        )


def _close_image(entry: Entry) -> None:
    """Has the image of a device that could not be plugged in opened anew by the next one."""
    if entry.node is not None and entry.node.image is not None:
        entry.node.image.close()
        entry.node.image = None


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
    """Asks the guest to let go of a device; a port is gone at once.  Raises CommandError."""
    from emu.virtio.console import VirtioConsole

    entry = machine.inventory.device(name)
    if entry is None:
        raise not_found(name)
    if entry.port is not None:
        owner = next(each.virtio for each in machine.inventory.devices if each.behind == entry.bus)
        assert isinstance(owner, VirtioConsole)
        owner.remove(entry.port)
        machine.inventory.remove_device(entry)
        return
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
