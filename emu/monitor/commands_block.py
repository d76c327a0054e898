"""QMP: disks, their images and what the guest has done with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from emu.inventory import Node
from emu.monitor.command import CommandError, command
from emu.monitor.jobs import refuse_busy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from emu.block import Image
    from emu.inventory import Entry
    from emu.monitor.client import Client
    from emu.virtio.blk import VirtioBlk

Qcow2Data = TypedDict(
    "Qcow2Data",
    {
        "compat": str,
        "compression-type": Literal["zlib"],
        "lazy-refcounts": bool,
        "refcount-bits": int,
        "corrupt": bool,
        "extended-l2": bool,
    },
)


class FormatData(TypedDict):
    type: Literal["qcow2"]
    data: Qcow2Data


ImageInfo = TypedDict(
    "ImageInfo",
    {
        "filename": str,
        "format": str,
        "dirty-flag": bool,
        "actual-size": int,
        "virtual-size": int,
        "cluster-size": NotRequired[int],
        "backing-filename": NotRequired[str],
        "full-backing-filename": NotRequired[str],
        "backing-image": NotRequired[dict[str, Any]],
        "format-specific": NotRequired[FormatData],
    },
)
CacheInfo = TypedDict("CacheInfo", {"writeback": bool, "direct": bool, "no-flush": bool})
DeviceInfo = TypedDict(
    "DeviceInfo",
    {
        "file": str,
        "node-name": NotRequired[str],
        "ro": bool,
        "drv": str,
        "backing_file": NotRequired[str],
        "backing_file_depth": int,
        "encrypted": bool,
        "detect_zeroes": Literal["off"],
        "bps": int,
        "bps_rd": int,
        "bps_wr": int,
        "iops": int,
        "iops_rd": int,
        "iops_wr": int,
        "image": ImageInfo,
        "cache": CacheInfo,
        "write_threshold": int,
    },
)
BlockInfo = TypedDict(
    "BlockInfo",
    {
        "device": str,
        "qdev": NotRequired[str],
        "type": str,
        "removable": bool,
        "locked": bool,
        "inserted": NotRequired[DeviceInfo],
        "io-status": NotRequired[Literal["ok", "failed", "nospace"]],
    },
)


class Stats(TypedDict):
    rd_bytes: int
    wr_bytes: int
    unmap_bytes: int
    rd_operations: int
    wr_operations: int
    flush_operations: int
    unmap_operations: int
    rd_total_time_ns: int
    wr_total_time_ns: int
    flush_total_time_ns: int
    unmap_total_time_ns: int
    wr_highest_offset: int
    rd_merged: int
    wr_merged: int
    unmap_merged: int
    failed_rd_operations: int
    failed_wr_operations: int
    failed_flush_operations: int
    failed_unmap_operations: int
    invalid_rd_operations: int
    invalid_wr_operations: int
    invalid_flush_operations: int
    invalid_unmap_operations: int
    account_invalid: bool
    account_failed: bool
    timed_stats: list[Any]


BlockStats = TypedDict(
    "BlockStats",
    {
        "device": NotRequired[str],
        "qdev": NotRequired[str],
        "node-name": NotRequired[str],
        "stats": Stats,
        "parent": NotRequired[dict[str, Any]],
        "backing": NotRequired[dict[str, Any]],
    },
)
Driver = Literal["file", "host_device", "raw", "qcow2"]
# QMP's names of virtio-blk's counts.
COUNTED = {"read": "rd", "write": "wr", "flush": "flush", "discard": "unmap"}


def disks(client: Client) -> Iterator[tuple[Entry, VirtioBlk, Node]]:
    """The disks, each with the node of its image."""
    from emu.virtio.blk import VirtioBlk

    inventory = client.machine.inventory
    for entry in inventory.of_kind(VirtioBlk.kind):
        if isinstance(entry.virtio, VirtioBlk):
            if entry.node is None:
                _name(client, entry, entry.virtio.image)
            assert entry.node is not None
            yield entry, entry.virtio, entry.node


def _name(client: Client, entry: Entry, image: Image) -> None:
    """Enters the nodes of a disk whose image was opened without."""
    from emu.block.graph import unused_name

    inventory, info = client.machine.inventory, image.info()
    file = inventory.add_node(
        Node(unused_name(inventory), "file", image.path, read_only=info.read_only, cache=info.cache)
    )
    entry.node = inventory.add_node(
        Node(
            unused_name(inventory),
            info.format,
            image.path,
            child=file,
            read_only=info.read_only,
            discard=info.can_discard,
            cache=info.cache,
        )
    )
    entry.node.image = image


def find_disk(client: Client, device: str | None, node_name: str | None) -> tuple[Entry, VirtioBlk, Node]:
    """A disk by its drive's or device's name, or by its node's.  Raises CommandError."""
    for found in disks(client):
        entry, _, node = found
        if device and device in (entry.drive, entry.name, entry.path):
            return found
        if node_name and node_name == node.name:
            return found
    raise CommandError(f"Cannot find device='{device or ''}' nor node-name='{node_name or ''}'")


def _image(node: Node, deep: bool) -> ImageInfo:
    """The image in a node; deep: with what it stands on."""
    if node.image is None:
        return _file(node.filename)
    info = node.image.info()
    told: ImageInfo = {
        "filename": node.filename,
        "format": info.format,
        "dirty-flag": info.dirty,
        "actual-size": info.allocated,
        "virtual-size": info.size,
    }
    if info.cluster_size:
        told["cluster-size"] = info.cluster_size
    if info.format == "qcow2":
        data: Qcow2Data = {
            "compat": "1.1" if info.version >= 3 else "0.10",
            "compression-type": "zlib",
            "lazy-refcounts": False,
            "refcount-bits": info.refcount_bits,
            "corrupt": info.corrupt,
            "extended-l2": False,
        }
        told["format-specific"] = {"type": "qcow2", "data": data}
    if info.backing is not None:
        told["backing-filename"] = told["full-backing-filename"] = info.backing
        if deep:
            told["backing-image"] = _chain(info.backing)[0]
    return told


def _file(filename: str) -> ImageInfo:
    try:
        found = Path(filename).stat()
        size, allocated = found.st_size, found.st_blocks * 512
    except OSError:
        size = allocated = 0
    told: ImageInfo = {
        "filename": filename,
        "format": "file",
        "dirty-flag": False,
        "actual-size": allocated,
        "virtual-size": size,
    }
    return told


def _chain(path: str) -> list[dict[str, Any]]:
    """The images from a file down to the one that stands on none, each within the one before."""
    import emu.block

    try:
        info = emu.block.info(path)
    except emu.block.BlockError:
        told: Any = _file(path)
        return [told]
    made: dict[str, Any] = {
        "filename": path,
        "format": info.format,
        "dirty-flag": info.dirty,
        "actual-size": info.allocated,
        "virtual-size": info.size,
    }
    below = _chain(info.backing) if info.backing is not None else []
    if below:
        made["backing-filename"] = made["full-backing-filename"] = info.backing
        made["backing-image"] = below[0]
    return [made, *below]


def _device(node: Node, deep: bool) -> DeviceInfo:
    image = _image(node, deep)
    told: DeviceInfo = {
        "file": node.filename,
        "node-name": node.name,
        "ro": node.read_only,
        "drv": node.driver,
        "backing_file_depth": 0,
        "encrypted": False,
        "detect_zeroes": "off",
        "bps": 0,
        "bps_rd": 0,
        "bps_wr": 0,
        "iops": 0,
        "iops_rd": 0,
        "iops_wr": 0,
        "image": image,
        "cache": {
            "writeback": node.cache != "writethrough",
            "direct": node.cache == "none",
            "no-flush": node.cache == "unsafe",
        },
        "write_threshold": 0,
    }
    if "backing-filename" in image:
        told["backing_file"] = image["backing-filename"]
        told["backing_file_depth"] = len(_chain(image["backing-filename"]))
    return told


def _qdev(entry: Entry) -> str:
    """How QEMU names the device behind a PCI function, and libvirt one by MMIO too."""
    return f"{entry.path}/virtio-backend"


@command("query-block")
def query_block(client: Client) -> list[BlockInfo]:
    """The disks and their images."""
    return [
        {
            "device": entry.drive,
            "qdev": _qdev(entry),
            "type": "unknown",
            "removable": False,
            "locked": False,
            "inserted": _device(node, True),
            "io-status": "ok",
        }
        for entry, _, node in disks(client)
    ]


@command("query-named-block-nodes")
def query_named_block_nodes(client: Client, flat: bool = False) -> list[DeviceInfo]:
    """All block nodes; flat: without the images that others stand on."""
    list(disks(client))  # so that all have nodes
    nodes = client.machine.inventory.nodes.values()
    return [_device(node, not flat) for node in sorted(nodes, key=lambda node: node.image is None)]


def _stats(disk: VirtioBlk | None) -> Stats:
    counts = disk.counts if disk is not None else None
    told: dict[str, Any] = {}
    for kind, short in COUNTED.items():
        of = counts[kind] if counts is not None else {}
        if kind != "flush":
            told[f"{short}_bytes"] = of.get("bytes", 0)
            told[f"{short}_merged"] = 0
        told[f"{short}_operations"] = of.get("operations", 0)
        told[f"{short}_total_time_ns"] = of.get("time", 0)
        told[f"failed_{short}_operations"] = of.get("failed", 0)
        told[f"invalid_{short}_operations"] = of.get("invalid", 0)
    told["wr_highest_offset"] = counts["write"]["highest"] if counts is not None else 0
    stats: Any = {**told, "account_invalid": True, "account_failed": True, "timed_stats": []}
    return stats  # type: ignore[no-any-return]


@command("query-blockstats")
def query_blockstats(client: Client, query_nodes: bool = False) -> list[BlockStats]:
    """What guests have done with their disks; query-nodes: by node."""
    told: list[BlockStats] = []
    using = {node.name: disk for _, disk, node in disks(client)}
    if query_nodes:
        for node in client.machine.inventory.nodes.values():
            entry: BlockStats = {"node-name": node.name, "stats": _stats(using.get(node.name))}
            told.append(entry)
        return told
    for entry_, disk, node in disks(client):
        stats: BlockStats = {
            "device": entry_.drive,
            "qdev": _qdev(entry_),
            "node-name": node.name,
            "stats": _stats(disk),
        }
        if node.child is not None:
            stats["parent"] = {"node-name": node.child.name, "stats": _stats(disk)}
        told.append(stats)
    return told


@command("block_resize")
def block_resize(client: Client, size: int, device: str | None = None, node_name: str | None = None) -> None:
    """Gives a disk another size in bytes; its guest is told."""
    if size < 0:
        raise CommandError("Parameter 'size' expects a size that is not negative")
    _, disk, _ = find_disk(client, device, node_name)
    disk.image.resize((size + 511) // 512 * 512)
    disk.resized()


@command("blockdev-add")
def blockdev_add(client: Client, driver: Driver, **options: Any) -> None:
    """Opens an image as a block node, which must have a node-name."""
    from emu.block.graph import add_node

    if not options.get("node-name"):
        raise CommandError("'node-name' must be specified for the root node")
    add_node(client.machine.inventory, {"driver": driver, **options})


@command("blockdev-del")
def blockdev_del(client: Client, node_name: str) -> None:
    """Closes a block node that nothing uses."""
    from emu.block.graph import remove_node

    inventory = client.machine.inventory
    used = {node for _, _, node in disks(client)}
    for node in inventory.nodes.values():
        used |= {each for each in (node.child, node.backing) if each is not None}
    if node_name not in inventory.nodes:
        raise CommandError(f"Failed to find node with node-name='{node_name}'")
    node = inventory.nodes[node_name]
    if node in used:
        raise CommandError(f"Node {node_name} is in use")
    refuse_busy(client.run, node)
    remove_node(inventory, node)


@command("blockdev-snapshot-sync")
def blockdev_snapshot_sync(
    client: Client,
    snapshot_file: str,
    device: str | None = None,
    node_name: str | None = None,
    snapshot_node_name: str | None = None,
    format: Literal["qcow2"] = "qcow2",
    mode: Literal["existing", "absolute-paths"] = "absolute-paths",
) -> None:
    """Keeps a disk as it is: from now on its guest's writes go into a new image on top of the present one."""
    entry, disk, node = find_disk(client, device, node_name)
    refuse_busy(client.run, node)
    inventory = client.machine.inventory
    if snapshot_node_name and snapshot_node_name in inventory.nodes:
        raise CommandError(f"Duplicate nodes with node-name='{snapshot_node_name}'")
    file = Node("", "file", snapshot_file, cache=node.cache)
    made = Node("", format, snapshot_file, child=file, backing=node, discard=node.discard, cache=node.cache)
    _put_on_top(disk, node, made, create=mode == "absolute-paths")
    _enter(client, entry, file, made, snapshot_node_name or "")


@command("blockdev-snapshot")
def blockdev_snapshot(client: Client, node: str, overlay: str) -> None:
    """Puts a node's image, which stands on that of another, on top of it, for the other's guest."""
    inventory = client.machine.inventory
    entry, disk, below = find_disk(client, node, node)
    refuse_busy(client.run, below)
    made = inventory.nodes.get(overlay)
    if made is None:
        raise CommandError(f"Cannot find device='{overlay}' nor node-name='{overlay}'")
    if made.driver != "qcow2" or made.read_only or made in [each for _, _, each in disks(client)]:
        raise CommandError(f"node {overlay} cannot be put on top of another; give a qcow2 image nobody uses")
    if made.image is not None:
        made.image.close()
        made.image = None
    made.backing = below
    try:
        _put_on_top(disk, below, made)
    except BaseException:
        made.backing = None
        raise
    entry.node = made


class Action(TypedDict):
    type: Literal["blockdev-snapshot", "blockdev-snapshot-sync", "blockdev-backup", "drive-backup", "abort"]
    data: dict[str, Any]


TransactionProperties = TypedDict(
    "TransactionProperties", {"completion-mode": NotRequired[Literal["individual", "grouped"]]}
)


@command("transaction")
def transaction(
    client: Client, actions: list[Action], properties: TransactionProperties | None = None
) -> None:
    """Does all actions at one point of the guest's time; if one cannot be done, none is."""
    if properties is not None and properties.get("completion-mode", "individual") != "individual":
        raise CommandError("completion-mode=grouped is not supported; use individual")
    undo: list[Callable[[], None]] = []
    with client.run.held():
        try:
            for action in actions:
                undo.append(_act(client, action["type"], action["data"]))
        except BaseException:
            for each in reversed(undo):
                each()
            raise


def _act(client: Client, name: str, data: dict[str, Any]) -> Callable[[], None]:
    """Does an action; returns what takes it back."""
    if name == "abort":
        raise CommandError("Transaction aborted using Abort action")
    if name.endswith("-backup"):
        before = set(client.run.jobs)
        client.execute(name, data)
        (id,) = set(client.run.jobs) - before
        return lambda: client.run.jobs[id].cancel(True)
    given = [data.get(key) for key in ("node", "device", "node-name")]
    entry, disk, below = find_disk(client, *_names(given))
    nodes, was_read_only = dict(client.machine.inventory.nodes), below.read_only
    there = name == "blockdev-snapshot" or data.get("mode") == "existing"
    client.execute(name, data)

    def back() -> None:
        made = entry.node
        assert made is not None
        _take_off(disk, below, was_read_only, made)
        entry.node = below
        inventory = client.machine.inventory
        for each in [each for each in inventory.nodes if each not in nodes]:
            del inventory.nodes[each]
        if not there:
            Path(made.filename).unlink(missing_ok=True)

    return back


def _names(given: list[Any]) -> tuple[str | None, str | None]:
    """A disk's names as find_disk() takes them, of an action's words whatever they are."""
    words = [each for each in given if isinstance(each, str)]
    return (words[0], words[0]) if words else (None, None)


def _take_off(disk: VirtioBlk, below: Node, read_only: bool, made: Node) -> None:
    """Undoes _put_on_top()."""
    from emu.block.graph import open_node

    def change(image: Image) -> Image:
        image.close()
        made.image = made.backing = None
        below.read_only = read_only
        open_node(below)
        assert below.image is not None
        return below.image

    disk.replace(change)


def _put_on_top(disk: VirtioBlk, below: Node, made: Node, *, create: bool = False) -> None:
    """Gives a disk the image of `made`, which stands on the one it has; that stays where it cannot be.

    create: makes the image first.  While the disk has its image open for writing nobody else may open it.
    """
    import emu.block
    from emu.block.graph import open_node

    problem: list[Exception] = []
    size = disk.image.size

    def change(image: Image) -> Image:
        image.flush()
        image.close()
        below.read_only, before = True, below.read_only
        try:
            if create:
                path = Path(below.filename).resolve()
                emu.block.create(made.filename, size, backing=path, backing_format=below.driver)
            open_node(made)
            assert made.image is not None
            if made.image.size == size:
                below.image = None
                return made.image
            made.image.close()
            made.image = None
            problem.append(CommandError(f"{made.filename} has not the disk's size; give it that"))
        except Exception as error:
            problem.append(error)
        below.read_only = before
        open_node(below)
        assert below.image is not None
        return below.image

    disk.replace(change)
    if problem:
        raise problem[0]


def _enter(client: Client, entry: Entry, file: Node, made: Node, name: str) -> None:
    """Enters the nodes of a snapshot's image and gives them to the disk."""
    from emu.block.graph import unused_name

    inventory = client.machine.inventory
    made.name = name or unused_name(inventory)
    inventory.add_node(made)
    file.name = unused_name(inventory)
    inventory.add_node(file)
    entry.node = made


def _not_removable(client: Client, device: str | None, id: str | None) -> None:
    """Raises CommandError: no disk here has a tray."""
    name = device or id or ""
    find_disk(client, name, None)
    raise CommandError(f"Device '{name}' is not removable")


@command("eject")
def eject(client: Client, device: str | None = None, id: str | None = None, force: bool = False) -> None:
    """Takes the medium out of a drive: no disk here is removable, and this tells so."""
    _not_removable(client, device, id)


@command("blockdev-change-medium")
def blockdev_change_medium(
    client: Client,
    filename: str,
    device: str | None = None,
    id: str | None = None,
    format: str | None = None,
    force: bool = False,
    read_only_mode: Literal["retain", "read-only", "read-write"] = "retain",
) -> None:
    """Changes the medium of a drive: no disk here is removable, and this tells so."""
    _not_removable(client, device, id)


@command("change")
def change(client: Client, device: str, target: str, arg: str | None = None) -> None:
    """Changes the medium of a drive: no disk here is removable, and this tells so."""
    _not_removable(client, device, None)
