"""Block device (virtio 1.2, section 5.2): a disk image (emu/block) as a guest's disk."""

from __future__ import annotations

from accel.errors import DeviceError
from emu.block import Image
from emu.devices.native import lib
from emu.virtio.device import VirtioDevice

# The identification's bytes (5.2.6.1).
SERIAL_BYTES = 20


class VirtioBlk(VirtioDevice):
    """A disk.  image: an open one, closed with the device; serial: what the guest reads as it."""

    kind = "virtio-blk"

    def __init__(self, image: Image, *, serial: str = "") -> None:
        given = serial.encode()
        if len(given) > SERIAL_BYTES or b"\0" in given:
            raise DeviceError(
                f"{self.kind}: serial {serial!r} has more than {SERIAL_BYTES} bytes; shorten it"
            )
        self.image = image
        self.serial = serial
        super().__init__(lib.emu_virtio_blk_new(image.native, given))

    def resized(self) -> None:
        """Tells the guest that the image has another size."""
        lib.emu_virtio_blk_resized(self.pointer)

    @property
    def read_bytes(self) -> int:
        """How much the guest has read."""
        return int(lib.emu_virtio_blk_done(self.pointer, 0))

    @property
    def written_bytes(self) -> int:
        """How much the guest has written."""
        return int(lib.emu_virtio_blk_done(self.pointer, 1))

    def close(self) -> None:
        super().close()
        self.image.close()
