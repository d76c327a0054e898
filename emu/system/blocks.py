"""-drive and -blockdev: disk images, and the graph of block nodes that they are.

What -blockdev says is the block graph's (emu/block/graph.py); -drive makes a file's node and a format's on
it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accel.errors import DeviceError
from emu.inventory import Node
from emu.system.given import Given
from emu.system.process import Descriptors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import ExitStack

    from emu.block import Image
    from emu.inventory import Inventory

# What changes how the host reads and writes, and not what.
SWITCHES = ("read-only", "auto-read-only", "direct", "no-flush", "force-share")
IDLE = (
    "aio",
    "locking",
    "detect-zeroes",
    "copy-on-read",
    "werror",
    "rerror",
    "index",
    "unit",
    "auto-read-only",
)


class Drive:
    """A -drive: a node, and what the disk with it is to be."""

    def __init__(self, name: str, node: Node, *, interface: str, serial: str, media: str) -> None:
        self.name = name
        self.node = node
        self.interface = interface
        self.serial = serial
        self.media = media
        self.used = False


class Blocks:
    """All nodes and drives.  snapshot: what is written is forgotten."""

    def __init__(
        self, inventory: Inventory, descriptors: Descriptors, opened: ExitStack, *, snapshot: bool
    ) -> None:
        self.inventory = inventory
        self.descriptors = descriptors
        self.opened = opened
        self.snapshot = snapshot
        self.drives = inventory.drives

    # -- -blockdev -----------------------------------------------------------------

    def define(self, words: str) -> Node:
        """-blockdev.  Raises DeviceError."""
        from emu.block.graph import add_node

        options = nested("-blockdev", words, first="driver")
        if not options.get("node-name"):
            raise DeviceError("-blockdev: node-name is missing; give node-name=NAME")
        self._inherited(options)
        node = add_node(self.inventory, options)
        self.opened.callback(self._close, node)
        return node

    def _inherited(self, options: dict[str, Any]) -> None:
        """Files of /dev/fdset are those that were passed."""
        for name, value in options.items():
            if isinstance(value, dict):
                self._inherited(value)
            elif name == "filename" and isinstance(value, str):
                options[name] = self.descriptors.path(value)

    @staticmethod
    def _close(node: Node) -> None:
        if node.image is not None:
            node.image.close()

    # -- -drive ----------------------------------------------------------------------

    def drive(
        self, words: str, option: str = "-drive", *, interface: str = "virtio", media: str = "disk"
    ) -> Drive:
        """-drive and the shorter options.  Raises DeviceError."""
        # Not above: opening images costs the start of machines that have none.
        from emu.block.graph import FORMATS, unused_name

        given = Given(option, words, first="file" if option != "-drive" else "")
        interface = given.word("if", interface)
        if interface not in ("virtio", "none", "pflash"):
            raise DeviceError(f"{option}: if={interface} is not supported; use if=virtio, none or pflash")
        media = given.word("media", media, among=("disk", "cdrom"))
        path = given.word("file") or given.word("file.filename")
        given.only("file.driver", "file", "")
        if not path:
            raise DeviceError(f"{option} {words}: no file; give file=FILE, and format=raw|qcow2")
        read_only = given.switch("readonly", given.switch("read-only", media == "cdrom"))
        discard = given.word("discard", "ignore", among=("ignore", "unmap", "off", "on")) in ("unmap", "on")
        cache = given.word("cache", "writeback")
        if given.switch("cache.direct"):
            cache = "none"
        if given.switch("cache.no-flush"):
            cache = "unsafe"
        cache = {"directsync": "none"}.get(cache, cache)
        if cache not in ("writeback", "none", "writethrough", "unsafe"):
            raise DeviceError(
                f"{option}: cache={cache}; use writeback, none, writethrough, directsync or unsafe"
            )
        format = given.word("format", given.word("driver"))
        if format not in ("", *FORMATS):
            raise DeviceError(f"{option}: format={format} is not supported; use raw or qcow2")
        serial = given.word("serial")
        forgets = given.switch("snapshot", self.snapshot) and not read_only
        given.idle(*IDLE, "bus")
        name = given.word("id")
        node_name = given.word("node-name")
        given.finish()
        filename = self.descriptors.path(path)
        if forgets:
            filename, format = self._forgetful(filename, format), "qcow2"
        file = self.inventory.add_node(
            Node(
                unused_name(self.inventory),
                "file",
                filename,
                read_only=read_only,
                discard=discard,
                cache=cache,
            )
        )
        node = Node(
            node_name or unused_name(self.inventory),
            format or _probe(filename),
            filename,
            child=file,
            read_only=read_only,
            discard=discard,
            cache=cache,
        )
        self.inventory.add_node(node)
        name = name or f"{interface if interface != 'none' else 'drive'}{len(self.drives)}"
        if name in self.drives:
            raise DeviceError(f"two drives have the id {name!r}; rename one")
        made = self.drives[name] = Drive(name, node, interface=interface, serial=serial, media=media)
        return made

    def _forgetful(self, path: str, format: str) -> str:
        """An image on top of the one at `path`, gone with the process."""
        from tempfile import TemporaryDirectory

        import emu.block

        folder = self.opened.enter_context(TemporaryDirectory(prefix="emu-snapshot-"))
        made = str(Path(folder) / "disk.qcow2")
        emu.block.create(made, backing=Path(path).absolute(), backing_format=format or _probe(path))
        return made

    # -- what devices use -------------------------------------------------------------

    def take(self, name: str, option: str) -> tuple[Node, Drive | None]:
        """The node or drive of that name, for a device, which is the only one at it.  Raises DeviceError."""
        drive = self.drives.get(name)
        node = drive.node if drive is not None else self.inventory.nodes.get(name)
        if node is None:
            raise DeviceError(f"{option}: drive={name}: there is no such drive or block node; define it")
        if drive is not None:
            drive.used = True
        above = [n for n in self.inventory.nodes.values() if node in (n.child, n.backing)]
        users = [entry for entry in self.inventory.devices if entry.node is node]
        if users or above:
            who = users[0].name if users else above[0].name
            raise DeviceError(f"{option}: drive={name} is used by {who or 'another device'} already")
        return node, drive

    def open(self, node: Node) -> Image:
        """A node's image, opened where nobody has yet.  Raises DeviceError or BlockError."""
        from emu.block.graph import FILES, open_node, unused_name

        if node.driver in FILES:
            node = self.inventory.add_node(
                Node(unused_name(self.inventory), "raw", node.filename, child=node, read_only=node.read_only)
            )
        if node.image is None:
            open_node(node)
            self.opened.callback(self._close, node)
        assert node.image is not None
        return node.image


def _probe(path: str) -> str:
    """The format that a file's first bytes say."""
    try:
        with open(path, "rb") as file:
            return "qcow2" if file.read(4) == b"QFI\xfb" else "raw"
    except OSError:
        return "raw"  # opening it will say what is wrong


def nested(option: str, words: str, *, first: str) -> dict[str, Any]:
    """The words as JSON has them: `file.filename=x` is a member of a member.  Raises DeviceError."""
    if words.startswith("{"):
        import json

        try:
            value = json.loads(words)
        except (ValueError, RecursionError) as error:
            raise DeviceError(f"{option}: this is no JSON ({error})") from None
        if not isinstance(value, dict):
            raise DeviceError(f"{option}: the JSON is no object; write {{name: value, ...}}")
        return value
    made: dict[str, Any] = {}
    for name, values in Given(option, words, first=first).values.items():
        *outer, last = name.split(".")
        within = made
        for part in outer:
            within = within.setdefault(part, {})
            if not isinstance(within, dict):
                raise DeviceError(f"{option}: {name}: {part} is a word already; give one of them")
        value = values[-1]
        switch = {"on": True, "off": False, "true": True, "false": False}
        within[last] = switch[value] if last in SWITCHES and value in switch else value
    return made
