"""QMP's dump-guest-memory: a machine that stands still becomes an ELF core file, in a thread.

The guest is held until all is written, as QEMU does it; then it goes on, if it ran.  Where a file is written,
what is zero stays a hole.
"""

from __future__ import annotations

import os
import stat
import threading
from typing import Any

from accel.errors import EmuError
from accel.memory import RAM
from emu.monitor.events import DumpStatus
from emu.snapshot import ram
from emu.snapshot.channel import Cancelled, Channel, outgoing
from emu.snapshot.core_file import MOST_RANGES, Range, head, notes
from emu.snapshot.errors import SnapshotError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from accel.memory import Region
    from emu.machine import Machine
    from emu.run_state import RunState

# Physical address, bytes, the region and where in it.
Piece = tuple[int, int, "Region", int]


def memory(machine: Machine, begin: int = 0, length: int | None = None) -> list[Piece]:
    """The guest's RAM, as it sees it: what lies under ROM or a device is not there.  Sorted."""
    end = (1 << 64) if length is None else begin + length
    found: list[Piece] = []
    for piece in machine.memory.flat():
        at, stop = max(piece.base, begin), min(piece.base + piece.size, end)
        if piece.region.kind == RAM and at < stop:
            found.append((at, stop - at, piece.region, piece.offset + at - piece.base))
    return found


class Dump:
    """One dump.  completed, total: bytes of memory; error: why it failed, or ""."""

    def __init__(self, run: RunState, scheme: str, rest: str, fd: int | None, pieces: list[Piece]) -> None:
        self.run = run
        self.status: DumpStatus = "active"
        self.error = ""
        self.completed = 0
        self.total = sum(piece[1] for piece in pieces)
        self._ended = threading.Event()
        self._pieces = pieces
        if not 0 < len(pieces) < MOST_RANGES:
            raise SnapshotError("there is no memory in that range; `info mtree` tells where there is some")
        self._channel = outgoing(scheme, rest, fd, self._ended.is_set)
        self._goes_on = run.running
        machine = run.machine
        try:
            machine.power_on()
            run.stop("save-vm")
            ranges: list[Range] = [(at, size) for at, size, _, _ in pieces]
            text = head(
                machine.board.arch, notes(machine.board.arch, (cpu.vcpu for cpu in machine.cpus)), ranges
            )
        except BaseException:
            self._channel.close()
            self._go_on()
            raise
        self._thread = threading.Thread(target=self._write, args=(text,), name="dump", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether it goes on."""
        return self.status == "active"

    def end(self) -> None:
        """The machine ends: the thread that looks at its memory does, too."""
        self._ended.set()
        self._thread.join()

    def poll(self) -> None:
        """Tells the end, once it has come; in the loop's thread."""
        if not self.busy or self._thread.is_alive():
            return
        self._thread.join()
        self.status = "failed" if self.error else "completed"
        data: dict[str, Any] = {
            "result": {"status": self.status, "completed": self.completed, "total": self.total}
        }
        if self.error:
            data["error"] = self.error
        self._go_on()
        self.run.tell("DUMP_COMPLETED", data)

    def _go_on(self) -> None:
        if self._goes_on and self.run.status == "save-vm":
            self.run.cont()

    # -- in the thread --------------------------------------------------------------------

    def _write(self, text: bytes) -> None:
        channel = self._channel
        try:
            out = _Out(channel)
            out.write(text)
            for _, size, region, offset in self._pieces:
                self._write_piece(out, region, offset, size)
            out.finish()
        except Cancelled:
            self.error = "the machine has ended"
        except OSError as error:
            self.error = error.strerror or str(error)
        except EmuError as error:
            self.error = str(error)
        finally:
            channel.close()
            # Not from here: is_alive() is to be false when it is asked.
            self.run.machine.loop.call_later(0, self._watch)

    def _watch(self) -> None:
        self._thread.join()
        self.poll()

    def _write_piece(self, out: _Out, region: Region, offset: int, size: int) -> None:
        used, end = set(ram.used_chunks(region)), offset + size
        while offset < end:
            chunk = offset // ram.CHUNK
            length = min(end, (chunk + 1) * ram.CHUNK) - offset
            if chunk in used:
                out.write(region.buffer[offset : offset + length])
            else:
                out.zeros(length)
            offset += length
            self.completed += length


class _Out:
    """A channel, and how zeros are written to it: as a hole where it has any."""

    ZEROS = bytes(1 << 16)

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        kind = os.fstat(channel.fd).st_mode
        appends = os.get_blocking(channel.fd) and bool(_flags(channel.fd) & os.O_APPEND)
        self.holes = stat.S_ISREG(kind) and not appends

    def write(self, data: Any) -> None:
        self.channel.write(data)

    def zeros(self, size: int) -> None:
        if self.holes:
            if self.channel.cancelled():
                raise Cancelled
            os.lseek(self.channel.fd, size, os.SEEK_CUR)
            return
        for done in range(0, size, len(self.ZEROS)):
            self.channel.write(self.ZEROS[: size - done])

    def finish(self) -> None:
        """All is written; a hole at the end is part of the file, too."""
        if self.holes:
            os.ftruncate(self.channel.fd, os.lseek(self.channel.fd, 0, os.SEEK_CUR))
        self.channel.finish()


def _flags(fd: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_GETFL)
