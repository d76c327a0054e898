"""Ports of virtio consoles, as a guest agent's: clients are told when the guest opens and closes one."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.inventory import Entry
    from emu.machine import Machine
    from emu.run_state import RunState
    from emu.virtio.console import Port


def watch_ports(run: RunState) -> None:
    """Tells VSERPORT_CHANGE from now on."""

    def came(entry: Entry) -> None:
        for port in (entry.port, *getattr(entry.virtio, "ports", {}).values()):
            if port is not None:
                _watch(run, port)

    inventory = run.machine.inventory
    inventory.came.append(came)
    for entry in inventory.devices:
        came(entry)


def _watch(run: RunState, port: Port) -> None:
    def opening(opened: bool) -> None:
        name = port_name(run.machine, port)
        run.machine.loop.call(lambda: run.tell("VSERPORT_CHANGE", {"id": name, "open": opened}))

    port.opening = opening


def port_name(machine: Machine, port: Port) -> str:
    """The id of the device that a port is, or what the guest finds it by."""
    found = (entry.name for entry in machine.inventory.devices if entry.port is port)
    return next(found, "") or port.name
