"""Block device (virtio 1.2, section 5.2): a disk image (emu/block) as a guest's disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from accel.errors import DeviceError
from emu.block import Image
from emu.devices.native import ffi, lib
from emu.virtio.device import VirtioDevice

# The identification's bytes (5.2.6.1).
SERIAL_BYTES = 20
KINDS = ("read", "write", "flush", "discard")
COUNTS = ("operations", "bytes", "time", "failed", "invalid")


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

    def replace(self, open: Callable[[Image], Image]) -> None:
        """Puts in another image while the guest runs, of the same size.

        `open` is given the present one to close, and returns the next; no request is done meanwhile.  If it
        raises, every one fails from then on.
        """
        with self.held():
            lib.emu_virtio_blk_image(self.pointer, ffi.NULL)
            self.image = open(self.image)
            lib.emu_virtio_blk_image(self.pointer, self.image.native)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within it no request is done; not again within itself."""
        lib.emu_virtio_hold(self.pointer)
        try:
            yield
        finally:
            lib.emu_virtio_release(self.pointer)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """What was done, by kind (read, write, flush, discard): operations, bytes, time (ns) and failures.

        "write" has "highest" besides: the first byte behind the last one that was written.
        """
        found = ffi.new("emu_virtio_blk_counts *")
        lib.emu_virtio_blk_count(self.pointer, found)
        counts = {
            kind: {what: int(getattr(found, what)[number]) for what in COUNTS}
            for number, kind in enumerate(KINDS)
        }
        counts["write"]["highest"] = int(found.highest)
        return counts

    def close(self) -> None:
        super().close()
        self.image.close()
