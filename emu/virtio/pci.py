"""VirtioPci: the PCI transport of virtio devices (virtio 1.2, section 4.1), modern devices alone.

The structures are C (native/virtio_pci.c), all in BAR 4; a notification is a doorbell.  MSI-X has a vector
for each queue, as far as they go, and one for changes of the configuration.
"""

from __future__ import annotations

from typing import Any

from emu.device import Context
from emu.devices.native import ffi, function, lib, opaque
from emu.devices.pci import VENDOR_SPECIFIC, Bar, Bus, PciDevice
from emu.virtio.device import VirtioDevice

VENDOR = 0x1AF4
FIRST_DEVICE = 0x1040
# Class codes by the kind of device (its number in chapter 5): network, disk, entropy and the like.
CLASSES = {1: 0x020000, 2: 0x010000, 3: 0x078000, 8: 0x010000, 9: 0x000200}
OTHER_CLASS = 0x00FF00
BAR = 4
COMMON, NOTIFY, ISR, DEVICE, WINDOW = 1, 2, 3, 4, 5
# A notification's place is 4 bytes times its queue's number from the structure's start.
MULTIPLIER = 4
# With fewer vectors than queues a driver has two, one for all queues.
MOST_VECTORS = 33
SELECTORS = ("device_features_sel", "driver_features_sel", "queue_sel", "config_vector")


class VirtioPci(PciDevice):
    """A function with a virtio device in it."""

    def __init__(self, device: VirtioDevice) -> None:
        kind = lib.emu_virtio_id(device.pointer)
        self.device = device
        self.queues = lib.emu_virtio_queues(device.pointer)
        super().__init__(
            VENDOR,
            FIRST_DEVICE + kind,
            CLASSES.get(kind, OTHER_CLASS),
            revision=1,
            subsystem=(VENDOR, 0x1100),
            vectors=min(self.queues + 1, MOST_VECTORS),
        )
        self.add_bar(BAR, lib.EMU_VIRTIO_PCI_SIZE, wide=True, prefetchable=True)
        notify = MULTIPLIER.to_bytes(4, "little")
        size = lib.emu_virtio_config_size(device.pointer)
        self._structure(COMMON, lib.EMU_VIRTIO_PCI_COMMON, lib.EMU_VIRTIO_PCI_COMMON_LENGTH)
        self._structure(ISR, lib.EMU_VIRTIO_PCI_ISR, 1)
        if size:
            self._structure(DEVICE, lib.EMU_VIRTIO_PCI_DEVICE, size)
        self._structure(NOTIFY, lib.EMU_VIRTIO_PCI_NOTIFY, MULTIPLIER * self.queues, notify)
        # Accesses to the BAR through configuration space (4.1.4.9): all but kind and id are the driver's.
        masks = dict.fromkeys((2, *range(6, 14)), 0xFF)
        self._window = self._structure(WINDOW, 0, 0, bytes(4), masks) + 14
        self._transport: Any = ffi.NULL

    def _structure(
        self, kind: int, offset: int, length: int, more: bytes = b"", masks: dict[int, int] | None = None
    ) -> int:
        """A capability that says where a structure is (4.1.4)."""
        place = bytes([BAR, 0, 0, 0]) + offset.to_bytes(4, "little") + length.to_bytes(4, "little")
        body = bytes([16 + len(more), kind]) + place + more
        return self.add_capability(VENDOR_SPECIFIC, body, masks)

    def realize(self, bus: Bus, place: tuple[int, int], context: Context) -> None:
        self.device.realize(context)
        super().realize(bus, place, context)

    def served(self, bar: Bar, region: Any) -> None:
        made = lib.emu_virtio_pci_new(self.device.pointer, self.native)
        if made == ffi.NULL:
            raise MemoryError(region.name)
        self._transport = ffi.gc(made, lib.emu_virtio_pci_free)
        read = function("emu_virtio_pci_read", "emu_read_fn")
        write = function("emu_virtio_pci_write", "emu_write_fn")
        region.native_ops(read, write, opaque(self._transport))
        bell = lib.emu_virtio_bell(self.device.pointer)
        for queue in range(self.queues):
            region.doorbell(lib.EMU_VIRTIO_PCI_NOTIFY + MULTIPLIER * queue, bell, width=2)

    def reset(self) -> None:
        super().reset()
        lib.emu_virtio_pci_reset(self._transport)

    # -- the window of configuration space -------------------------------------------

    def _through(self, at: int, width: int) -> tuple[int, int] | None:
        """Offset and width of the BAR's access that one of configuration space stands for, or None."""
        offset, length = self.get(self._window - 8, 4), self.get(self._window - 4, 4)
        # A notification does not go this way: it is a doorbell of the region.
        if at != self._window or self.config[self._window - 12] != BAR or length != width or length > 4:
            return None
        if offset % length or offset + length > lib.EMU_VIRTIO_PCI_SIZE:
            return None
        return offset, length

    def read(self, at: int, width: int) -> int:
        through = self._through(at, width)
        if through is not None:
            value = ffi.new("uint64_t *")
            lib.emu_virtio_pci_read(self._transport, *through, value)
            self.put(at, int(value[0]) & (1 << 8 * width) - 1, width)
        return super().read(at, width)

    def write(self, at: int, width: int, value: int) -> None:
        super().write(at, width, value)
        through = self._through(at, width)
        if through is not None:
            lib.emu_virtio_pci_write(self._transport, *through, value)

    # -- what the machine calls ---------------------------------------------------------

    def pause(self) -> None:
        self.device.pause()

    def resume(self) -> None:
        self.device.resume()

    def close(self) -> None:
        self.device.close()

    def save_own(self) -> Any:
        saved = ffi.new("emu_virtio_pci_saved *")
        lib.emu_virtio_pci_save(self._transport, saved)
        selectors = [int(getattr(saved, field)) for field in SELECTORS]
        return [selectors, list(map(int, saved.vector)), self.device.save()]

    def load_own(self, own: Any) -> None:
        selectors, vectors, carried = own
        saved = ffi.new("emu_virtio_pci_saved *")
        for field, value in zip(SELECTORS, selectors, strict=True):
            setattr(saved, field, value)
        saved.vector = vectors
        lib.emu_virtio_pci_load(self._transport, saved)
        self.device.load(carried)
