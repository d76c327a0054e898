"""The block graph: nodes by name, each a file or what gives a form to one; as -blockdev and blockdev-add say.

    {"driver": "qcow2", "node-name": "disk", "file": {"driver": "file", "filename": "disk.qcow2"}}

A format's node opens its image; a file's is only its name.  What an image stands on it says itself, so the
backing node that is given must be of that file.
"""

from __future__ import annotations

import os
from typing import Any

from accel.errors import DeviceError
from emu.inventory import Inventory, Node

FILES = ("file", "host_device")
FORMATS = ("raw", "qcow2")
# What each driver takes, besides driver and node-name.
COMMON = ("read-only", "auto-read-only", "discard", "cache", "detect-zeroes", "force-share")
TAKES = {
    "file": ("filename", "aio", "locking", *COMMON),
    "host_device": ("filename", "aio", "locking", *COMMON),
    "raw": ("file", *COMMON),
    "qcow2": ("file", "backing", "lazy-refcounts", *COMMON),
}


def add_node(inventory: Inventory, options: dict[str, Any], name: str = "") -> Node:
    """Enters the node that the options describe, and those within it; name: of one that needs none.

    Raises DeviceError, or what opening an image raises; nothing is entered then.
    """
    made: list[Node] = []
    try:
        return _add(inventory, options, name, made)
    except BaseException:
        for node in made:
            remove_node(inventory, node)
        raise


def _add(inventory: Inventory, options: dict[str, Any], name: str, made: list[Node]) -> Node:
    driver = options.get("driver")
    if driver not in TAKES:
        raise DeviceError(f"block driver {driver!r} is not supported; use {', '.join(TAKES)}")
    for option in options:
        if option not in ("driver", "node-name", *TAKES[driver]):
            takes = ", ".join(TAKES[driver])
            raise DeviceError(f"block driver {driver} has no option {option!r}; it takes {takes}")
    name = _text(options, "node-name", name) or unused_name(inventory)
    if name in inventory.nodes:
        raise DeviceError(f"Duplicate nodes with node-name='{name}'")
    read_only = _flag(options, "read-only")
    discard = _text(options, "discard", "ignore")
    if discard not in ("ignore", "unmap"):
        raise DeviceError(f"discard={discard}; use ignore or unmap")
    if _text(options, "detect-zeroes", "off") != "off":
        raise DeviceError("detect-zeroes is not supported; leave it off")
    cache = _cache(options.get("cache", {}))
    child = backing = None
    if driver in FILES:
        filename = _text(options, "filename", "")
        if not filename:
            raise DeviceError(f"block node {name}: no filename; give one")
    else:
        child = _child(inventory, options, name, made)
        filename = child.filename
        read_only = read_only or child.read_only
        if "cache" not in options:
            cache = child.cache
        if options.get("backing") is not None:
            backing = _reference(inventory, options["backing"], made)
    node = Node(
        name,
        driver,
        filename,
        child=child,
        backing=backing,
        read_only=read_only,
        discard=discard == "unmap",
        cache=cache,
    )
    if driver in FORMATS and not _without_backing(node, options):
        open_node(node)
    made.append(inventory.add_node(node))
    return node


def _without_backing(node: Node, options: dict[str, Any]) -> bool:
    """Whether an image is to be put on top of what it stands on later (`"backing": null`).

    What that is may be in use until then, so the image is opened when it is put there (blockdev-snapshot).
    """
    import emu.block

    if "backing" not in options or options["backing"] is not None:
        return False
    return emu.block.info(node.filename, format=node.driver).backing is not None


def open_node(node: Node) -> None:
    """Opens the image of a format's node.  Raises BlockError, DeviceError."""
    import emu.block

    image = emu.block.open(
        node.filename,
        format=node.driver,
        cache=node.cache,
        read_only=node.read_only,
        discard=node.discard,
    )
    below = image.info().backing
    if node.backing is not None and (below is None or not os.path.samefile(below, node.backing.filename)):  # noqa: PTH121
        image.close()
        raise DeviceError(
            f"block node {node.name}: its image stands on {below or 'no other'}, not on"
            f" {node.backing.filename}; change its backing file first (qemu-img rebase)"
        )
    node.image = image


def remove_node(inventory: Inventory, node: Node) -> None:
    """Takes a node out, and closes its image."""
    inventory.nodes.pop(node.name, None)
    if node.image is not None:
        node.image.close()
        node.image = None


def unused_name(inventory: Inventory) -> str:
    """A name for a node that was given none."""
    number = 0
    while f"#block{number}" in inventory.nodes:
        number += 1
    return f"#block{number}"


def _child(inventory: Inventory, options: dict[str, Any], name: str, made: list[Node]) -> Node:
    if "file" not in options:
        raise DeviceError(f"block node {name}: no file; give a node's name, or one's options")
    child = _reference(inventory, options["file"], made)
    if child.driver not in FILES:
        raise DeviceError(
            f"block node {name}: its file is {child.name}, of driver {child.driver}; give a file"
        )
    return child


def _reference(inventory: Inventory, given: Any, made: list[Node]) -> Node:
    """A node by its name, or by its options."""
    if isinstance(given, dict):
        return _add(inventory, given, "", made)
    if not isinstance(given, str) or given not in inventory.nodes:
        raise DeviceError(f"Cannot find device='{given}' nor node-name='{given}'")
    return inventory.nodes[given]


def _text(options: dict[str, Any], name: str, default: str) -> str:
    value = options.get(name, default)
    if not isinstance(value, str) or "\0" in value:
        raise DeviceError(f"Invalid parameter type for '{name}', expected: string")
    return value


def _flag(options: dict[str, Any], name: str) -> bool:
    value = options.get(name, False)
    if not isinstance(value, bool):
        raise DeviceError(f"Invalid parameter type for '{name}', expected: boolean")
    return value


def _cache(given: Any) -> str:
    """The cache mode that direct and no-flush make."""
    if not isinstance(given, dict) or set(given) - {"direct", "no-flush"}:
        raise DeviceError("cache takes direct and no-flush, which are true or false")
    direct, no_flush = _flag(given, "direct"), _flag(given, "no-flush")
    if direct and no_flush:
        raise DeviceError("cache: direct and no-flush cannot both be on; choose one")
    return "none" if direct else "unsafe" if no_flush else "writeback"
