"""Records of what runs, from the ring that engines write (accel/native/trace.h)."""

from __future__ import annotations

import struct

from accel.errors import EmuError
from accel.native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

KEPT = int(lib.EMU_TRACE_COVERAGE | lib.EMU_TRACE_PROFILE | lib.EMU_TRACE_MAPS | lib.EMU_TRACE_WAIT_MAPS)
# emu_trace_record: ticket, ns, pid, tid, kind, more, size, bits, isa, at, a, b, c.
RECORD = struct.Struct("<QQiiBBBBIQQQQ")
SLOT = RECORD.size
ISAS = ("", "aarch64", "arm", "riscv64", "x86_64")  # by enum emu_isa
Record = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int]

INSTRUCTION = int(lib.EMU_TRACED_INSTRUCTION)
BLOCK = int(lib.EMU_TRACED_BLOCK)
COVERED = int(lib.EMU_TRACED_COVERED)
PROCESS = int(lib.EMU_TRACED_PROCESS)
EXECUTED = int(lib.EMU_TRACED_EXECUTED)
UNMAPPED = int(lib.EMU_TRACED_UNMAPPED)
MAPPED = int(lib.EMU_TRACED_MAPPED)
MMIO = int(lib.EMU_TRACED_MMIO)
INTERRUPT = int(lib.EMU_TRACED_INTERRUPT)
EXCEPTION = int(lib.EMU_TRACED_EXCEPTION)
EXIT = int(lib.EMU_TRACED_EXIT)
SAMPLE = int(lib.EMU_TRACED_SAMPLE)
END = int(lib.EMU_TRACED_END)


class Ring:
    """The memory that engines write to; `what`: EMU_TRACE_* of trace.h, joined by |."""

    ROOM = 16384  # slots that are read at a time

    def __init__(self, what: int, *, period: int = 0) -> None:
        self._trace: Any = lib.emu_trace_new()
        if self._trace == ffi.NULL:
            raise EmuError("no memory for a trace; see ulimit -v")
        self._trace.what = what
        self._trace.period = period
        self._buffer = ffi.new("emu_trace_record[]", self.ROOM)

    @property
    def address(self) -> int:
        """For another extension module's `emu_trace *`."""
        return int(ffi.cast("uintptr_t", self._trace))

    def only(self) -> None:
        """Instructions and blocks are told of ranges alone, of which there is none so far."""
        self._trace.filtered = 1

    def range(self, first: int, end: int) -> None:
        """One more range that is told of: first <= address < end."""
        if lib.emu_trace_range(self._trace, first, min(end, (1 << 64) - 1)):
            raise EmuError(f"more than {lib.EMU_TRACE_RANGES} places are to be traced; name fewer of them")

    def read(self, milliseconds: int) -> Any:
        """Whole records, as bytes that are good until the next read(); waits so long for the first."""
        count = lib.emu_trace_read(self._trace, self._buffer, self.ROOM, milliseconds)
        return ffi.buffer(self._buffer, count * SLOT)

    def done(self) -> None:
        """What was read has been used: who waits for that goes on."""
        lib.emu_trace_done(self._trace)

    def stop(self) -> None:
        """No more events, but for coverage and profiles."""
        self._trace.what &= KEPT

    def close(self) -> None:
        """Writers no longer wait for us."""
        lib.emu_trace_close(self._trace)


def records(data: Any) -> Iterator[tuple[Record, Any]]:
    """Each record with the bytes behind it."""
    view = memoryview(data)
    unpack = RECORD.unpack_from
    at, end = 0, len(view)
    while at < end:
        record = unpack(view, at)
        behind = at + SLOT
        at = behind + SLOT * record[5]
        yield record, view[behind:at]
