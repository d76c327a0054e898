"""The tree of objects that clients walk (qom-list and its like), made anew from the machine at each question.

/machine/peripheral/ID             devices with an id      /machine/unattached/device[N]  CPUs, then parts
/machine/peripheral-anon/device[N] devices without one     /objects/ID, /chardevs/LABEL
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from emu.monitor.command import CommandError, checked, not_found
from emu.monitor.types import board_name, cpu_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.inventory import Entry
    from emu.machine import Machine
    from emu.monitor.client import Control

# What the guest has not told (virtio's balloon).
ABSENT = (1 << 64) - 1


class Property:
    """A named value of an object; type: in QOM's words; put: None where it cannot be changed."""

    def __init__(
        self, type: str, get: Callable[[], Any], put: Callable[[Any], None] | None = None, takes: Any = None
    ) -> None:
        self.type = type
        self.get = get
        self.put = put
        self.takes = takes


class Object:
    """A node of the tree: its type, properties and children."""

    def __init__(self, type: str) -> None:
        self.type = type
        self.properties: dict[str, Property] = {"type": Property("string", lambda: type)}
        self.children: dict[str, Object] = {}

    def value(self, name: str, type: str, value: Any) -> None:
        """Adds a property that nobody changes."""
        self.properties[name] = Property(type, lambda: value)

    def listed(self) -> list[dict[str, str]]:
        """What qom-list tells."""
        told = [{"name": name, "type": each.type} for name, each in self.properties.items()]
        return told + [
            {"name": name, "type": f"child<{child.type}>"} for name, child in self.children.items()
        ]

    def read(self, name: str) -> Any:
        """A property's value; a child's path is its own to tell.  Raises CommandError."""
        if name in self.properties:
            return self.properties[name].get()
        raise CommandError(f"Property '{self.type}.{name}' not found")

    def write(self, name: str, value: Any) -> None:
        """Changes a property.  Raises CommandError."""
        if name not in self.properties:
            raise CommandError(f"Property '{self.type}.{name}' not found")
        one = self.properties[name]
        if one.put is None:
            raise CommandError(f"Property '{self.type}.{name}' is not writable")
        one.put(checked(name, one.takes, value))


def tree(control: Control) -> Object:
    """The root."""
    machine = control.machine
    root = Object("container")
    root.children["machine"] = _machine(machine)
    objects = root.children["objects"] = Object("container")
    for name, (kind, properties) in machine.inventory.objects.items():
        made = objects.children[name] = Object(kind)
        for each, value in properties.items():
            made.value(each, "str", value)
    chardevs = root.children["chardevs"] = Object("container")
    for name, chardev in machine.inventory.chardevs.items():
        chardevs.children[name] = Object(f"chardev-{chardev.filename.partition(':')[0]}")
    return root


def find(control: Control, path: str) -> Object:
    """The object at a path; one that does not begin with / is the end of one.  Raises CommandError."""
    root = tree(control)
    parts = [part for part in path.split("/") if part]
    if path.startswith("/"):
        at: Object | None = root
        for part in parts:
            at = at.children.get(part) if at is not None else None
        if at is None:
            raise not_found(path)
        return at
    found = [each for where, each in _walk(root, ()) if parts and where[-len(parts) :] == tuple(parts)]
    if len(found) > 1:
        raise CommandError(f"Path '{path}' does not uniquely identify an object")
    if not found:
        raise not_found(path)
    return found[0]


def _walk(at: Object, where: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Object]]:
    for name, child in at.children.items():
        yield (*where, name), child
        yield from _walk(child, (*where, name))


def _machine(machine: Machine) -> Object:
    made = Object(f"{board_name(machine)}-machine")
    for name in ("kernel", "initrd", "firmware", "dtb"):
        given = getattr(machine, name)
        made.value(name, "string", str(given) if isinstance(given, str) else "")
    made.value("append", "string", machine.append)
    peripheral = made.children["peripheral"] = Object("container")
    anonymous = made.children["peripheral-anon"] = Object("container")
    unattached = made.children["unattached"] = Object("container")
    for entry in machine.inventory.devices:
        under = peripheral if entry.name else anonymous
        under.children[entry.path.rpartition("/")[2]] = _device(machine, entry)
    number = 0
    for _ in machine.cpus:
        cpu = unattached.children[f"device[{number}]"] = Object(cpu_type(machine))
        _common(cpu, "")
        number += 1
    for bus in (machine.bus, machine.ports):
        for name, attachment in bus.attached.items() if bus is not None else ():
            part = unattached.children[f"device[{number}]"] = Object(type(attachment.device).__name__.lower())
            _common(part, "")
            part.value("name", "string", name)
            part.value("base", "uint64", attachment.base)
            number += 1
    return made


def _common(made: Object, bus: str, late: bool = False, leaves: bool = False) -> None:
    """late: it was plugged in while the machine was there already; leaves: it may be pulled out."""
    made.value("parent_bus", "link<bus>", bus)
    made.value("realized", "bool", True)
    made.value("hotplugged", "bool", late)
    made.value("hotpluggable", "bool", leaves)


def _device(machine: Machine, entry: Entry) -> Object:
    made = Object(entry.driver)
    leaves = entry.port is not None or (machine.plugs and machine.hotplug.removable(entry))
    _common(made, entry.bus, entry.late, leaves)
    for name, value in entry.properties.items():
        if name not in made.properties:
            made.value(name, "str", value)
    _kind(machine, made, entry)
    if entry.function is not None and entry.virtio is not None:
        backend = made.children["virtio-backend"] = Object(f"{entry.virtio.kind}-device")
        _common(backend, "")
        _kind(machine, backend, entry)
    return made


def _kind(machine: Machine, made: Object, entry: Entry) -> None:
    """What the kind of device tells of itself."""
    from emu.virtio.balloon import STATS, VirtioBalloon
    from emu.virtio.blk import VirtioBlk
    from emu.virtio.net import VirtioNet

    device = entry.virtio
    if isinstance(device, VirtioBalloon):
        balloon = device

        def stats() -> dict[str, Any]:
            known = balloon.stats
            updated = known.pop("last-update")
            return {"stats": {**dict.fromkeys(STATS, ABSENT), **known}, "last-update": updated}

        def poll(seconds: int) -> None:
            if seconds < 0:
                raise CommandError(f"an interval is 0 or more seconds, not {seconds}")
            balloon.poll(seconds)

        made.properties["guest-stats"] = Property("guest statistics", stats)
        made.properties["guest-stats-polling-interval"] = Property("int", lambda: balloon.interval, poll, int)
    elif isinstance(device, VirtioBlk):
        made.value("serial", "str", device.serial)
        made.value("drive", "str", entry.drive or (entry.node.name if entry.node is not None else ""))
    elif isinstance(device, VirtioNet):
        made.value("mac", "str", device.mac.hex(":"))
        made.value("netdev", "str", entry.netdev)
