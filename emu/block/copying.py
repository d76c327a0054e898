"""A disk's image is copied into another while its guest goes on (native/copy.h): QMP's backup and mirror."""

from __future__ import annotations

import os
from typing import Any

from emu.block import BlockError, Image
from emu.devices.native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.virtio.blk import VirtioBlk


class Copy:
    """One copy, from its start to end().

    mirror: parts that the guest writes to are copied again, so that in the end both are the same; else the
    target gets what the image was at the start.
    """

    def __init__(self, disk: VirtioBlk, target: Image, *, mirror: bool) -> None:
        self.disk = disk
        self.target = target
        if disk.image.size != target.size:
            raise BlockError(
                f"{target.path}: it has {target.size} bytes, and the disk {disk.image.size}; make it as large"
            )
        how = lib.EMU_COPY_MIRROR if mirror else lib.EMU_COPY_POINT
        with disk.held():
            native = lib.emu_copy_start(disk.image.native, target.native, how)
        if native == ffi.NULL:
            raise BlockError(
                f"{target.path}: a copy to or from it, or of the disk, is under way; end that first"
            )
        self._native = ffi.gc(native, lib.emu_copy_free)
        self._over = False

    def look(self) -> Any:
        """The emu_copy_state of copy.h."""
        found = ffi.new("emu_copy_state *")
        lib.emu_copy_look(self._native, found)
        return found

    def pace(self, speed: int, paused: bool) -> None:
        """speed: bytes a second, 0 for as many as there can be; paused: none."""
        lib.emu_copy_pace(self._native, speed, paused)

    def end(self, *, complete: bool = False) -> None:
        """Ends it; complete: what is left is copied before.  Raises BlockError for what has failed."""
        if self.disk.pointer is None:
            self._finish(False)
            return
        with self.disk.held():
            self._finish(complete)

    def pivot(self) -> Image:
        """Completes a mirror and gives the disk its target; returns the image that it had."""
        before = self.disk.image
        problem: list[BlockError] = []

        def change(image: Image) -> Image:
            try:
                self._finish(True)
                image.flush()
            except BlockError as error:
                problem.append(error)
                return image
            return self.target

        self.disk.replace(change)
        if problem:
            raise problem[0]
        return before

    def _finish(self, complete: bool) -> None:
        lib.emu_copy_end(self._native, complete)
        self.check()

    def check(self) -> None:
        """Raises BlockError if it has failed."""
        error = self.look().error
        if error:
            raise BlockError(f"copying {self.disk.image.path} to {self.target.path}: {os.strerror(-error)}")
