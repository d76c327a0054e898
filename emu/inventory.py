"""What a machine has, under the names by which whoever steers it asks for it: QEMU's ids and node names.

The command line fills it (emu/boot.py with names of its own choice, emu/system with the user's), and monitors
read it.  A device with an id is at /machine/peripheral/ID, one without at /machine/peripheral-anon/device[N].
"""

from __future__ import annotations

from typing import Any

from accel.errors import DeviceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from emu.backends.chardev import Chardev
    from emu.block import Image
    from emu.devices.pci import PciFunction
    from emu.net import Peer
    from emu.system.blocks import Drive
    from emu.virtio.console import Port
    from emu.virtio.device import VirtioDevice


class Node:
    """A node of the block graph: a file, or what gives the bytes in one a form.

    driver: file, raw or qcow2; filename: of the file at the bottom; child: the node below (a format's file);
    backing: the node of the image that a qcow2 image stands on; image: the open image, for the node that a
    device may use and None for those below.
    """

    def __init__(
        self,
        name: str,
        driver: str,
        filename: str,
        *,
        child: Node | None = None,
        backing: Node | None = None,
        read_only: bool = False,
        discard: bool = False,
        cache: str = "writeback",
    ) -> None:
        self.name = name
        self.driver = driver
        self.filename = filename
        self.child = child
        self.backing = backing
        self.read_only = read_only
        self.discard = discard
        self.cache = cache
        self.image: Image | None = None


class Netdev:
    """The host's end of a network card: kind is user, tap or socket, words what it was asked for with."""

    def __init__(self, name: str, kind: str, words: str, peer: Peer) -> None:
        self.name = name
        self.kind = kind
        self.words = words
        self.peer = peer


class Folder:
    """A -fsdev: a folder that a virtio-9p device may show."""

    def __init__(self, path: str, read_only: bool) -> None:
        self.path = path
        self.read_only = read_only


class Entry:
    """A device that was asked for.

    name: its id, "" for none; driver: the type, as virtio-blk-pci; properties: those that were given; virtio:
    the device; function: its PCI function, where it has one; bus: what it is plugged into, as pcie.0; node:
    the disk in it; drive: the name of that by -drive's id; netdev, chardev: ids; port: the one of a console
    that it is; behind: the bus that others are plugged into, as vs.0; late: it was plugged in while the
    machine was there already.
    """

    def __init__(
        self,
        name: str,
        driver: str,
        *,
        properties: dict[str, str] | None = None,
        bus: str = "",
        virtio: VirtioDevice | None = None,
        function: PciFunction | None = None,
        node: Node | None = None,
        drive: str = "",
        netdev: str = "",
        chardev: str = "",
    ) -> None:
        self.name = name
        self.driver = driver
        self.properties = properties or {}
        self.bus = bus
        self.virtio = virtio
        self.function = function
        self.node = node
        self.drive = drive
        self.netdev = netdev
        self.chardev = chardev
        self.port: Port | None = None
        self.behind = ""
        self.late = False
        self.path = ""


class Inventory:
    """All of it, by name; devices in the order in which they were made.

    came, gone: called with each device that is entered, and with each that is taken out, before it is closed;
    in the loop's thread once the machine is there.
    """

    def __init__(self) -> None:
        self.chardevs: dict[str, Chardev] = {}
        self.nodes: dict[str, Node] = {}
        self.drives: dict[str, Drive] = {}
        self.netdevs: dict[str, Netdev] = {}
        self.objects: dict[str, tuple[str, dict[str, Any]]] = {}
        self.folders: dict[str, Folder] = {}
        self.devices: list[Entry] = []
        self.came: list[Callable[[Entry], None]] = []
        self.gone: list[Callable[[Entry], None]] = []
        self._anonymous = 0

    def add_device(self, entry: Entry) -> Entry:
        """Enters a device and gives it its path.  Raises DeviceError for an id that is taken."""
        if entry.name and self.device(entry.name) is not None:
            raise DeviceError(f"two devices have the id {entry.name!r}; rename one")
        if entry.name:
            entry.path = f"/machine/peripheral/{entry.name}"
        else:
            entry.path = f"/machine/peripheral-anon/device[{self._anonymous}]"
            self._anonymous += 1
        self.devices.append(entry)
        for told in self.came:
            told(entry)
        return entry

    def add_chardev(self, name: str, chardev: Chardev) -> Chardev:
        """Enters the host's end of a line.  Raises DeviceError for a name that is taken."""
        if name in self.chardevs:
            raise DeviceError(f"two chardevs have the id {name!r}; rename one")
        self.chardevs[name] = chardev
        return chardev

    def add_node(self, node: Node) -> Node:
        """Enters a block node.  Raises DeviceError for a name that is taken."""
        if node.name in self.nodes:
            raise DeviceError(f"two block nodes are called {node.name!r}; rename one")
        self.nodes[node.name] = node
        return node

    def remove_device(self, entry: Entry) -> None:
        """Takes out a device that was pulled: its image is closed with it, and a drive's nodes go too."""
        self.devices.remove(entry)
        if entry.node is not None:
            entry.node.image = None
        drive = self.drives.pop(entry.drive, None)
        if drive is not None:
            for node in (drive.node, drive.node.child):
                if node is not None:
                    self.nodes.pop(node.name, None)
        for told in self.gone:
            told(entry)

    def complete(self, chardevs: Iterable[Chardev], devices: Iterable[VirtioDevice]) -> None:
        """Enters what a program has given the machine without a name, under the names of its choice here."""
        for number, chardev in enumerate(chardevs):
            if chardev not in self.chardevs.values() and f"serial{number}" not in self.chardevs:
                self.add_chardev(f"serial{number}", chardev)
        entered = [entry.virtio for entry in self.devices]
        for device in devices:
            if device not in entered:
                self.add_device(Entry("", f"{device.kind}-device", virtio=device))

    def device(self, name: str) -> Entry | None:
        """The device of that id, or at that path of monitors; None for no such."""
        return next((entry for entry in self.devices if name in (entry.name, entry.path) and name), None)

    def of_function(self, function: PciFunction) -> Entry | None:
        """The device that is a PCI function, or in it."""
        virtio = getattr(function, "device", None)
        for entry in self.devices:
            if entry.function is function or (virtio is not None and entry.virtio is virtio):
                return entry
        return None

    def of_kind(self, kind: str) -> Iterator[Entry]:
        """The virtio devices of a kind, as virtio-blk."""
        for entry in self.devices:
            if entry.virtio is not None and entry.virtio.kind == kind:
                yield entry
