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
    """Makes a host's end of a cable: no card could be plugged into it later, and this tells so."""
    if id in client.machine.inventory.netdevs:
        raise CommandError(f"Duplicate ID '{id}'")
    raise CommandError(
        f"netdev {id}: a cable's end is made with its card; start the machine with both (--net, or -netdev)"
    )


@command("netdev_del")
def netdev_del(client: Client, id: str) -> None:
    """Removes a host's end of a cable: its card needs it, and this tells so."""
    if id not in client.machine.inventory.netdevs:
        raise not_found(id)
    raise CommandError(f"netdev {id} is in use by a card; set_link pulls its cable")
