"""-netdev, -nic, -net: the host's ends of network cards, and cards."""

from __future__ import annotations

from accel.errors import DeviceError, nearest
from emu.inventory import Netdev
from emu.keyval import split
from emu.net import KINDS, SWITCHES, open_net
from emu.system.given import Given
from emu.system.process import Descriptors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import ExitStack

    from emu.inventory import Inventory
    from emu.net import Peer

# What has no effect here: the card's thread moves frames, whoever would.
IDLE = ("vhost", "vhostforce", "queues", "sndbuf", "poll-us", "vnet_hdr", "domainname", "ipv4")
MODELS = ("virtio", "virtio-net", "virtio-net-pci", "virtio-net-device")


class Nets:
    """All ends."""

    def __init__(self, inventory: Inventory, descriptors: Descriptors, opened: ExitStack) -> None:
        self.inventory = inventory
        self.descriptors = descriptors
        self.opened = opened

    def define(self, words: str) -> Netdev:
        """-netdev.  Raises DeviceError."""
        given = Given("-netdev", words, first="type")
        return self.end(given, given.needed("id"))

    def end(self, given: Given, name: str) -> Netdev:
        """The end that is given, under a name.  Raises DeviceError."""
        kind = given.needed("type")
        given.option = f"{given.option} {kind}"
        if kind not in KINDS:
            raise DeviceError(
                f"{given.option} is not supported{nearest(kind, KINDS)}; use {', '.join(KINDS)}"
            )
        if name in self.inventory.netdevs:
            raise DeviceError(f"two netdevs have the id {name!r}; rename one")
        given.only("downscript", "no")
        given.idle(*IDLE)
        for refused in ("tftp", "bootfile", "smb", "guestfwd", "br", "helper", "vhostfd", "vhostfds", "fds"):
            if given.word(refused):
                raise DeviceError(f"{given.option}: {refused} is not supported; leave it out")
        words = []
        for option in (*KINDS[kind], *SWITCHES[kind]):
            for value in given.all(option):
                if option == "fd":
                    value = str(self.descriptors.take(value, given.option))
                words.append(f"{option}={value}".replace(",", ",,"))
        given.finish()
        asked = ",".join((kind, *words))
        opened = open_net(asked)
        assert opened is not None
        self.opened.callback(opened[0].close)
        made = self.inventory.netdevs[name] = Netdev(name, kind, asked, opened[0])
        return made


def again(netdev: Netdev, option: str) -> Peer:
    """An end as before, for one whose card was pulled out.  Raises DeviceError."""
    if any(word.startswith("fd=") for word in split(netdev.words)):
        raise DeviceError(
            f"{option}: netdev={netdev.name} was a descriptor, which went with its card; make a new one"
        )
    opened = open_net(netdev.words)
    assert opened is not None
    return opened[0]


def card_words(words: str) -> tuple[str, str, str]:
    """-nic's words apart: the end's, the card's model and address."""
    parts = split(words)
    card = {"model": "", "mac": ""}
    rest = []
    for part in parts:
        name, equals, value = part.partition("=")
        if equals and name in card:
            card[name] = value
        else:
            rest.append(part.replace(",", ",,"))
    return ",".join(rest), card["model"], card["mac"]
