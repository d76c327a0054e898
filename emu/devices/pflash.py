"""Parallel NOR flash of the Intel command set: two 16-bit parts on a bus of 32 bits, as on QEMU's virt.

What it does at each access is in C (native/pflash.c, which names the data sheets).  There are two kinds:

- Pflash: written by firmware, for its variables; with a file behind it, or forgotten at the end.
- PflashRom: the firmware itself, which the guest reads and runs at memory's speed, because it is a ROM in the
  map; write-protected.  Its registers lie over the ROM only while a command is going on.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
from typing import Any, ClassVar

from accel.errors import DeviceError
from emu.device import Context, Device
from emu.devices.native import cast, ffi, function, lib, opaque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from accel.memory import Region

BLOCK = 0x4_0000
ERASED = 0xFF


class _Flash(Device):
    """What both kinds share: the command that is going on.  A bank has 64 MiB; subclasses may say else."""

    size = 64 << 20
    state: ClassVar[tuple[str, ...]] = ("command",)
    flash: Any

    @property
    def command(self) -> list[Any]:
        """The command that is going on, for snapshots."""
        now = ffi.new("emu_pflash_state *")
        lib.emu_pflash_save(self.flash, now)
        buffer, given = bytes(ffi.buffer(now.buffer)), bytes(ffi.buffer(now.given))
        return [now.command, now.cycle, now.status, now.count, now.address, buffer, given]

    @command.setter
    def command(self, saved: list[Any]) -> None:
        now = ffi.new("emu_pflash_state *")
        now.command, now.cycle, now.status, now.count, now.address, now.buffer, now.given = saved
        if lib.emu_pflash_load(self.flash, now) != 0:
            raise DeviceError(f"{self.name}: the saved command of the flash is damaged; start anew")

    def reset(self) -> None:
        lib.emu_pflash_reset(self.flash)


class Pflash(_Flash):
    """A bank that is written; path: the file that keeps it.

    The file may be shorter than the bank: the rest is erased, and it grows.  It is written in place as the
    guest programs.  Raises DeviceError for a file that cannot be had, is too large, or is in use.
    """

    state = (*_Flash.state, "contents")

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        super().__init__()
        self._fd = -1
        image = b""
        if path is not None:
            image = self._open(path)
        # A file of the bank's full length is mostly zeros by custom, and what is new is erased.
        self._blank = 0 if len(image) == self.size and image[-1] == 0 else ERASED
        self._memory = mmap.mmap(-1, self.size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._fill(0, image)
        self._initial = len(image)
        host = ffi.from_buffer("uint8_t[]", self._memory)
        self.flash = ffi.gc(lib.emu_pflash_new(host, self.size, self._blank, 1), lib.emu_pflash_free)
        if self._fd >= 0:
            lib.emu_pflash_store(self.flash, self._fd, len(image))

    def _open(self, path: str | os.PathLike[str]) -> bytes:
        what = f"firmware variables {path}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise DeviceError(f"{what} cannot be used: {error.strerror}") from None
        try:
            known = os.fstat(fd)
            if not stat.S_ISREG(known.st_mode):
                raise DeviceError(f"{what} is no regular file; give another one")
            if known.st_size > self.size:
                size = f"{known.st_size:#x} bytes, and the flash {self.size:#x}"
                raise DeviceError(f"{what} have {size}; give another file")
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with open(fd, "rb", closefd=False) as file:
                image = file.read()
        except BlockingIOError:
            os.close(fd)
            raise DeviceError(f"{what} are in use; give each machine its own file") from None
        except OSError as error:
            os.close(fd)
            raise DeviceError(f"{what} cannot be used: {error.strerror}") from None
        except DeviceError:
            os.close(fd)
            raise
        self._fd = fd
        return image

    def native(self) -> tuple[Any, Any, Any]:
        read = function("emu_pflash_read", "emu_read_fn")
        write = function("emu_pflash_write", "emu_write_fn")
        return read, write, opaque(self.flash)

    @property
    def contents(self) -> list[Any]:
        """The blocks that are not erased, each behind its offset."""
        kept: list[Any] = []
        erased = bytes([ERASED ^ self._blank]) * BLOCK
        for offset in self._in_use():
            block = self._memory[offset : offset + BLOCK]
            if block != erased:
                kept += [offset, block.translate(self._table())]
        return kept

    @contents.setter
    def contents(self, saved: list[Any]) -> None:
        blocks = dict(zip(saved[::2], saved[1::2], strict=True))
        erased = bytes([ERASED]) * BLOCK
        blank = erased.translate(self._table())
        in_use = set(self._in_use())
        for offset in range(0, self.size, BLOCK):
            if offset not in blocks and offset not in in_use:
                continue
            if offset not in blocks and self._memory[offset : offset + BLOCK] == blank:
                continue
            if self._fill(offset, blocks.get(offset, erased)):
                lib.emu_pflash_keep(self.flash, offset, BLOCK)

    def _in_use(self) -> list[int]:
        """Where there are blocks that may not be erased; to look at all the others takes 15 ms."""
        blocks = range(0, self.size, BLOCK)
        return [at for at in blocks if at < self._initial or lib.emu_pflash_touched(self.flash, at)]

    def _table(self) -> bytes:
        return bytes(byte ^ self._blank for byte in range(256))

    def _fill(self, at: int, data: bytes) -> bool:
        """Puts contents into memory, and says whether they differed; what does not stays untouched."""
        table, changed = self._table(), False
        for offset in range(0, len(data), BLOCK):
            block = data[offset : offset + BLOCK].translate(table)
            place = slice(at + offset, at + offset + len(block))
            if self._memory[place] != block:
                self._memory[place] = block
                changed = True
        return changed

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            lib.emu_pflash_store(self.flash, -1, 0)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


class PflashRom(_Flash):
    """The write-protected bank over `rom`, at the ROM's place."""

    def __init__(self, rom: Region) -> None:
        super().__init__()
        self.rom = rom
        host = cast("uint8_t *", rom.host)
        self.flash = ffi.gc(lib.emu_pflash_new(host, rom.size, 0, 0), lib.emu_pflash_free)
        self._value = ffi.new("uint64_t *")
        rom.ops(None, self._serve_write)

    def realize(self, context: Context) -> None:
        self.space = context.memory

    def reset(self) -> None:
        super().reset()
        self.restored()

    def read(self, offset: int, width: int) -> int:
        lib.emu_pflash_read(self.flash, offset, width, self._value)
        return int(self._value[0])

    def write(self, offset: int, width: int, value: int) -> None:
        lib.emu_pflash_write(self.flash, offset, width, value)
        self.restored()

    def restored(self) -> None:
        """The ROM is seen while the array is read, the registers else."""
        region = self.region
        assert region is not None
        array = bool(lib.emu_pflash_reads_array(self.flash))
        if region.mapped == array:
            if array:
                self.space.remove(region)
            else:
                self.space.place(region, self.rom.base)
