"""fw_cfg: how QEMU's machines tell firmware what they are made of.

An item is selected by its number and then read byte by byte, or by DMA.  Source: QEMU's
docs/specs/fw_cfg.rst.
"""

from __future__ import annotations

import struct

from accel.errors import MapError
from emu.device import Context, Device

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from emu.loader.fdt import Node

SIGNATURE, ID, RAM_SIZE, CPU_COUNT, MAX_CPUS, FILE_DIR = 0x00, 0x01, 0x03, 0x05, 0x0F, 0x19
FIRST_FILE = 0x20
# A kernel that the firmware is to start, its initial RAM disk and its command line: size, and the bytes.
KERNEL, INITRD, COMMAND_LINE = (0x08, 0x11), (0x0B, 0x12), (0x14, 0x15)
# DMA control: error, read, skip, select
ERROR, READ, SKIP, SELECT = 1, 2, 4, 8
CHUNK = 1 << 20
NAME_SIZE = 56


class FwCfg(Device):
    """What both forms share; add() and add_file() fill it."""

    compatible = "qemu,fw-cfg-mmio"
    node_name = "fw-cfg"
    state = ("selected", "position", "dma_high")

    def __init__(self) -> None:
        super().__init__()
        self.items: dict[int, bytes] = {SIGNATURE: b"QEMU", ID: struct.pack("<I", 3)}
        self.files: dict[str, int] = {}
        self.selected = self.position = self.dma_high = 0

    def describe(self, ram: int, cpus: int, files: Iterable[tuple[str, bytes]] = ()) -> None:
        """Adds what all firmware asks, bytes of RAM and how many CPUs; and the user's files."""
        for name, data in files:
            self.add_file(name, data)
        self.add(RAM_SIZE, struct.pack("<Q", ram))
        self.add(CPU_COUNT, struct.pack("<H", cpus))
        self.add(MAX_CPUS, struct.pack("<H", cpus))

    def offer(self, kernel: bytes, initrd: bytes, command_line: str) -> None:
        """Adds what the firmware is to start."""
        words = command_line.encode() + b"\0"
        for (size, data), item in ((KERNEL, kernel), (INITRD, initrd), (COMMAND_LINE, words)):
            self.add(size, struct.pack("<I", len(item)))
            self.add(data, item)

    def add(self, key: int, data: bytes) -> None:
        """Adds an item."""
        self.items[key] = data

    def add_file(self, name: str, data: bytes) -> None:
        """Adds an item that firmware finds by name."""
        key = self.files.setdefault(name, FIRST_FILE + len(self.files))
        self.items[key] = data
        entries = b"".join(
            struct.pack(">IHH", len(self.items[k]), k, 0)
            + n.encode()[: NAME_SIZE - 1].ljust(NAME_SIZE, b"\0")
            for n, k in sorted(self.files.items())
        )
        self.items[FILE_DIR] = struct.pack(">I", len(self.files)) + entries

    def realize(self, context: Context) -> None:
        self.memory = context.memory

    def fdt(self, node: Node) -> None:
        node["dma-coherent"] = True

    def reset(self) -> None:
        self.selected = self.position = self.dma_high = 0

    def select(self, key: int) -> None:
        """Begins to read an item."""
        self.selected = key & 0xBFFF  # without the write bit
        self.position = 0

    def take(self, count: int) -> bytes:
        """The next bytes of the item; zeros behind its end."""
        item = self.items.get(self.selected, b"")
        data = item[self.position : self.position + count]
        self.position = min(self.position + count, len(item))
        return data.ljust(count, b"\0")

    def write_dma(self, offset: int, width: int, value: int) -> None:
        """The DMA address register, big-endian; its low half begins the transfer."""
        number = int.from_bytes(value.to_bytes(width, "little"), "big")
        if offset == 0 and width == 8:
            self._transfer(number)
        elif offset == 0 and width == 4:
            self.dma_high = number
        elif offset == 4 and width == 4:
            high, self.dma_high = self.dma_high, 0
            self._transfer(high << 32 | number)

    def read_dma(self, offset: int, width: int) -> int:
        """The DMA register reads as its signature."""
        return int.from_bytes(b"QEMU CFG"[offset : offset + width], "little")

    def _transfer(self, at: int) -> None:
        request = self.memory.peek(at, 16)
        if len(request) < 16:
            return  # nowhere to tell an error
        control, length, address = struct.unpack(">IIQ", request)
        if control & SELECT:
            self.select(control >> 16)
        status = 0
        if control & READ:
            try:
                while length:
                    count = min(length, CHUNK)
                    self.memory.store(address, self.take(count))
                    address += count
                    length -= count
            except MapError:
                status = ERROR
        elif control & SKIP:
            self.position += length
        elif control & ~(SELECT | 0xFFFF_0000):
            status = ERROR  # writing items is not offered
        try:
            self.memory.store(at, struct.pack(">I", status))
        except MapError:
            pass  # the request lay in ROM or a device: the guest's own affair


class FwCfgIo(FwCfg):
    """On x86's ports, from 510h on."""

    compatible = ""
    size = 12

    def read(self, offset: int, width: int) -> int:
        if offset >= 4:
            return self.read_dma(offset - 4, width)
        return self.take(1)[0] if offset == 1 else 0

    def write(self, offset: int, width: int, value: int) -> None:
        if offset >= 4:
            self.write_dma(offset - 4, width, value)
        elif offset == 0 and width == 2:
            self.select(value)


class FwCfgMmio(FwCfg):
    """In memory: data at 0, selector at 8, DMA at 16."""

    size = 24

    def read(self, offset: int, width: int) -> int:
        if offset < 8:
            return int.from_bytes(self.take(width), "little")
        return self.read_dma(offset - 16, width) if offset >= 16 else 0

    def write(self, offset: int, width: int, value: int) -> None:
        if offset == 8 and width == 2:
            self.select(int.from_bytes(value.to_bytes(2, "little"), "big"))
        elif offset >= 16:
            self.write_dma(offset - 16, width, value)
