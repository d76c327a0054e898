"""QMP: network cards and the host's ends of their cables."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from emu.monitor.command import CommandError, command, not_found

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from emu.inventory import Entry
    from emu.monitor.client import Client
    from emu.virtio.net import VirtioNet

Rx = Literal["normal", "none", "all"]
RxFilter = TypedDict(
    "RxFilter",
    {
        "name": str,
        "promiscuous": bool,
        "multicast": Rx,
        "unicast": Rx,
        "vlan": Rx,
        "broadcast-allowed": bool,
        "multicast-overflow": bool,
        "unicast-overflow": bool,
        "main-mac": str,
        "vlan-table": list[int],
        "unicast-table": list[str],
        "multicast-table": list[str],
    },
)


def cards(client: Client) -> Iterator[tuple[str, Entry, VirtioNet]]:
    """The cards, by id or else by place."""
    from emu.virtio.net import VirtioNet

    for entry in client.machine.inventory.of_kind(VirtioNet.kind):
        if isinstance(entry.virtio, VirtioNet):
            yield entry.name or entry.path, entry, entry.virtio


@command("query-rx-filter")
def query_rx_filter(client: Client, name: str | None = None) -> list[RxFilter]:
    """What a card lets pass to the guest: everything that is on its cable."""
    found: list[RxFilter] = [
        {
            "name": label,
            "promiscuous": True,
            "multicast": "all",
            "unicast": "all",
            "vlan": "all",
            "broadcast-allowed": True,
            "multicast-overflow": False,
            "unicast-overflow": False,
            "main-mac": card.mac.hex(":"),
            "vlan-table": [],
            "unicast-table": [],
            "multicast-table": [],
        }
        for label, _, card in cards(client)
        if name in (None, label)
    ]
    if name is not None and not found:
        raise CommandError(f"invalid net client name: {name}")
    return found


@command("set_link")
def set_link(client: Client, name: str, up: bool) -> None:
    """Plugs in or pulls a card's cable; by the card's id, or that of the cable's other end."""
    for label, entry, card in cards(client):
        if name in (label, entry.netdev):
            card.link(up)
            return
    raise not_found(name)


@command("netdev_add")
def netdev_add(client: Client, type: str, id: str, **properties: Any) -> None:
    """Makes a host's end of a cable, for a card that is plugged in later."""
    from contextlib import ExitStack

    from emu.system.given import Given
    from emu.system.nets import Nets
    from emu.system.process import Descriptors

    inventory = client.machine.inventory
    if id in inventory.netdevs:
        raise CommandError(f"Duplicate ID '{id}'")
    given = Given.of("netdev_add", {"type": type, **properties})
    passed = given.values.get("fd", [""])[-1]
    if passed in client.descriptors:
        given.values["fd"] = [str(client.descriptors.pop(passed))]
    with ExitStack() as opened:
        Nets(inventory, Descriptors(), opened).end(given, id)
        opened.pop_all()  # the inventory has it


@command("netdev_del")
def netdev_del(client: Client, id: str) -> None:
    """Removes a host's end of a cable that no card is plugged into."""
    inventory = client.machine.inventory
    if id not in inventory.netdevs:
        raise not_found(id)
    if any(entry.netdev == id for entry in inventory.devices):
        raise CommandError(f"netdev {id} is in use by a card; device_del takes that out first")
    inventory.netdevs.pop(id).peer.close()
