"""QMP: objects, their properties and types; devices that are added and removed."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from emu.monitor.command import CommandError, command, not_found
from emu.monitor.objects import find
from emu.monitor.types import derived, types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.monitor.client import Client


class PropertyInfo(TypedDict):
    name: str
    type: str


PropertyOfType = TypedDict(
    "PropertyOfType",
    {"name": str, "type": str, "description": NotRequired[str], "default-value": NotRequired[Any]},
)


class TypeInfo(TypedDict):
    name: str
    abstract: NotRequired[bool]
    parent: NotRequired[str]


@command("qom-list")
def qom_list(client: Client, path: str) -> list[PropertyInfo]:
    """The properties and children of the object at a path."""
    return [
        PropertyInfo(name=each["name"], type=each["type"]) for each in find(client.control, path).listed()
    ]


@command("qom-get")
def qom_get(client: Client, path: str, property: str) -> Any:
    """The value of an object's property."""
    return find(client.control, path).read(property)


@command("qom-set")
def qom_set(client: Client, path: str, property: str, value: Any) -> None:
    """Changes an object's property."""
    find(client.control, path).write(property, value)


@command("qom-list-types")
def qom_list_types(client: Client, implements: str | None = None, abstract: bool = False) -> list[TypeInfo]:
    """The types there are; implements: only those that are this one or derived from it."""
    known = types(client.machine)
    told: list[TypeInfo] = []
    for name, each in known.items():
        if (each.abstract and not abstract) or (implements and not derived(known, name, implements)):
            continue
        info: TypeInfo = {"name": name}
        if each.parent:
            info["parent"] = each.parent
        if each.abstract:
            info["abstract"] = True
        told.append(info)
    return told


@command("qom-list-properties")
def qom_list_properties(client: Client, typename: str) -> list[PropertyOfType]:
    """The properties of the objects of a type."""
    known = types(client.machine)
    if typename not in known:
        raise CommandError(f"Class '{typename}' not found", "DeviceNotFound")
    return [{"name": "type", "type": "string"}, *_properties(known[typename].properties)]


@command("device-list-properties")
def device_list_properties(client: Client, typename: str) -> list[PropertyOfType]:
    """The properties that a device of a type can be given."""
    known = types(client.machine)
    if typename not in known:
        raise not_found(typename)
    if not derived(known, typename, "device"):
        raise CommandError(f"Parameter 'typename' expects a device, and '{typename}' is none")
    if known[typename].abstract:
        raise CommandError(f"Parameter 'typename' expects a device that can be made, not '{typename}'")
    return _properties(known[typename].properties)


def _properties(listed: tuple[tuple[str, str, Any], ...]) -> list[PropertyOfType]:
    told: list[PropertyOfType] = []
    for name, kind, default in listed:
        info: PropertyOfType = {"name": name, "type": kind}
        if default is not None:
            info["default-value"] = default
        told.append(info)
    return told


ObjectType = Literal["secret", "memory-backend-ram", "memory-backend-memfd", "rng-random"]


@command("object-add")
def object_add(client: Client, qom_type: ObjectType, id: str, **properties: Any) -> None:
    """Makes an object, which devices are told of by its id."""
    inventory = client.machine.inventory
    if not id:
        raise CommandError("Parameter 'id' expects an identifier")
    if id in inventory.objects:
        raise CommandError(f"attempt to add duplicate property '{id}' to object (type 'container')")
    if qom_type != "secret":
        raise CommandError(f"{qom_type} is made with the machine; give it at its start (-object)")
    inventory.objects[id] = (qom_type, properties)


@command("object-del")
def object_del(client: Client, id: str) -> None:
    """Removes an object that object-add has made."""
    inventory = client.machine.inventory
    if id not in inventory.objects:
        raise CommandError(f"object '{id}' not found")
    if inventory.objects[id][0] != "secret":
        raise CommandError(f"object '{id}' is in use, can not be deleted")
    del inventory.objects[id]


@command("device_add")
def device_add(
    client: Client, driver: str, bus: str | None = None, id: str | None = None, **properties: Any
) -> None:
    """Plugs in a virtio device by PCI, or a port of a virtio-serial device; the guest is told."""
    from emu.monitor.slots import add

    known = types(client.machine)
    if driver not in known or not derived(known, driver, "device") or known[driver].abstract:
        raise CommandError(f"'{driver}' is not a valid device model name")
    add(client.machine, driver, bus or "", id or "", properties)


@command("device_del")
def device_del(client: Client, id: str) -> None:
    """Asks the guest to let go of a device; DEVICE_DELETED tells when it has, and may never come."""
    from emu.monitor.slots import remove

    remove(client.machine, id)
