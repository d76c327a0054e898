"""Ports of virtio consoles, as a guest agent's: clients are told when the guest opens and closes one."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.machine import Machine
    from emu.run_state import RunState
    from emu.virtio.console import Port


def watch_ports(run: RunState) -> None:
    """Tells VSERPORT_CHANGE from now on."""
    for device in run.machine.virtio:
        for port in getattr(device, "ports", {}).values():
            _watch(run, port)


def _watch(run: RunState, port: Port) -> None:
    name = port_name(run.machine, port)

    def opening(opened: bool) -> None:
        run.machine.loop.call(lambda: run.tell("VSERPORT_CHANGE", {"id": name, "open": opened}))

    port.opening = opening


def port_name(machine: Machine, port: Port) -> str:
    """The id of the device that a port is, or what the guest finds it by."""
    inventory = machine.inventory
    for entry in inventory.devices:
        if entry.name and entry.chardev and inventory.chardevs.get(entry.chardev) is port.chardev:
            return entry.name
    return port.name
