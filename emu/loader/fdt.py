"""Device trees: Node, and the flattened form that firmware and kernels read.

A Node is a mapping of properties; `node["reg"] = [0, 0x9000000, 0, 0x1000]` writes cells.  A property's
value is an int (one cell of 32 bits), a str, bytes as they are, True (present, empty), a Node (its phandle),
or a list of ints and Nodes (cells) or of strs.

Source: Devicetree Specification v0.4, chapters 2 and 5.
"""

from __future__ import annotations

import struct

from accel.errors import DeviceError
from emu.loader.raw import WrongFile, read_image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.loader.raw import Image

MAGIC = 0xD00DFEED
BEGIN_NODE, END_NODE, PROP, END = 1, 2, 3, 9
HEADER_SIZE = 40
# What a kernel finds room for, wherever it is (Linux' Documentation/arch/arm64/booting.rst).
LONGEST = 2 << 20


class Node:
    """A node of a device tree: a name (with unit address), properties, children."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.properties: dict[str, object] = {}
        self.children: list[Node] = []

    def node(self, name: str) -> Node:
        """A child of that name, made if it is not there yet."""
        for child in self.children:
            if child.name == name:
                return child
        child = Node(name)
        self.children.append(child)
        return child

    def __setitem__(self, name: str, value: object) -> None:
        self.properties[name] = value

    def __getitem__(self, name: str) -> object:
        return self.properties[name]

    def __contains__(self, name: str) -> bool:
        return name in self.properties

    def walk(self) -> list[Node]:
        """This node and all below it, parents first."""
        found = [self]
        for child in self.children:
            found += child.walk()
        return found


def reg(*numbers: int) -> list[int]:
    """Addresses and sizes as pairs of cells, for nodes with #address-cells = #size-cells = 2."""
    return [half for number in numbers for half in (number >> 32, number & 0xFFFF_FFFF)]


class _Writer:
    """Phandles, and the blocks of structure and strings while they grow."""

    def __init__(self, root: Node) -> None:
        self.structure = bytearray()
        self.strings = bytearray()
        self.offsets: dict[str, int] = {}
        self.phandles: dict[int, int] = {}
        for node in root.walk():
            for value in node.properties.values():
                for item in value if isinstance(value, list) else [value]:
                    if isinstance(item, Node):
                        self.phandles.setdefault(id(item), len(self.phandles) + 1)

    def node(self, node: Node) -> None:
        self.structure += struct.pack(">I", BEGIN_NODE) + _aligned(node.name.encode() + b"\0")
        properties = dict(node.properties)
        if id(node) in self.phandles:
            properties["phandle"] = self.phandles[id(node)]
        for name, value in properties.items():
            data = self.encode(name, value)
            if name not in self.offsets:
                self.offsets[name] = len(self.strings)
                self.strings += name.encode() + b"\0"
            self.structure += struct.pack(">III", PROP, len(data), self.offsets[name]) + _aligned(data)
        for child in node.children:
            self.node(child)
        self.structure += struct.pack(">I", END_NODE)

    def encode(self, name: str, value: object) -> bytes:
        if value is True:
            return b""
        if isinstance(value, bytes):
            return value
        if isinstance(value, str):
            return value.encode() + b"\0"
        items = value if isinstance(value, list) else [value]
        strings = [item for item in items if isinstance(item, str)]
        if strings and len(strings) == len(items):
            return b"".join(item.encode() + b"\0" for item in strings)
        cells = []
        for item in items:
            cell = self.phandles[id(item)] if isinstance(item, Node) else item
            if not isinstance(cell, int) or isinstance(cell, bool) or not 0 <= cell < 1 << 32:
                raise DeviceError(
                    f"device tree: {name} holds {cell!r}; use cells of 32 bits, strings, bytes, True or nodes"
                )
            cells.append(cell)
        return struct.pack(f">{len(cells)}I", *cells)


def _aligned(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def flatten(root: Node, *, boot_cpu: int = 0, room: int = 0) -> bytes:
    """The tree as a flattened device tree blob, version 17.

    room: bytes left free at the end, for firmware that adds to it.  Raises DeviceError for a value that is
    none of the kinds a property has.
    """
    writer = _Writer(root)
    writer.node(root)
    structure = bytes(writer.structure) + struct.pack(">I", END)
    reservations = bytes(16)
    at_structure = HEADER_SIZE + len(reservations)
    at_strings = at_structure + len(structure)
    total = at_strings + len(writer.strings)
    total += -total % 8 + room
    header = struct.pack(
        ">10I",
        MAGIC,
        total,
        at_structure,
        at_strings,
        HEADER_SIZE,
        17,
        16,
        boot_cpu,
        len(writer.strings),
        len(structure),
    )
    return (header + reservations + structure + bytes(writer.strings)).ljust(total, b"\0")


def read_tree(image: Image, limit: int = LONGEST) -> bytes:
    """A flattened tree that somebody else made.  Raises WrongFile for what is none; nodes are not read."""
    blob = read_image(image, "device tree", min(limit, LONGEST))
    name = "" if isinstance(image, bytes) else f" {image}"
    header = struct.unpack(">10I", blob[:HEADER_SIZE].ljust(HEADER_SIZE, b"\0"))
    magic, total, nodes, strings, reserved, version, compatible, _, strings_size, nodes_size = header
    if magic != MAGIC:
        raise WrongFile(f"device tree{name} is none; give a file that dtc made")
    if version < 17 or compatible > 17:
        raise WrongFile(f"device tree{name} is of version {version}; make one of version 17 with dtc")
    inside = HEADER_SIZE <= total <= len(blob)
    for at, size in ((nodes, nodes_size), (strings, strings_size), (reserved, 16)):
        inside = inside and HEADER_SIZE <= at <= total and size <= total - at
    if not inside:
        raise WrongFile(f"device tree{name} has parts outside of it; it is cut short or damaged")
    return blob
