"""From records to writers: what a program's processes tell is put into words and counted here."""

from __future__ import annotations

import os
from threading import Lock

from emu.trace import record
from emu.trace.disassembly import THUMB, Disassembly, Names
from emu.trace.symbols import Area, Images, Space, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from emu.trace.drcov import Coverage
    from emu.trace.filters import Filters
    from emu.trace.flame import Profile
    from emu.trace.record import Record, Ring
    from emu.trace.writer import Writer


class Session:
    """Reads `ring` until it is told to stop.

    open: a descriptor for a guest's path.  limit: so many events at most, 0: all.  drain() may be called by
    any thread: what was told before is with the writer afterwards.
    """

    LOOK = 20  # milliseconds

    def __init__(
        self,
        ring: Ring,
        filters: Filters,
        open: Callable[[str], int],
        *,
        writer: Writer | None = None,
        coverage: Coverage | None = None,
        profile: Profile | None = None,
        limit: int = 0,
    ) -> None:
        self.ring = ring
        self.writer = writer
        self.events = 0
        self.tells_ends = False  # whoever else tells of calls tells of ends, too
        self.error: BaseException | None = None
        self._filters = filters
        self._coverage = coverage
        self._profile = profile
        self._limit = limit
        self._lock = Lock()
        self._ending = False
        self._images = Images(open)
        self._spaces: dict[int, Space] = {}
        self._threads: dict[int, int] = {}  # tid: its number
        self._disassemblies: dict[int, Disassembly] = {}
        self._names: dict[int, Names] = {}
        self._kinds = {
            record.INSTRUCTION: self._instruction,
            record.BLOCK: self._block,
            record.PROCESS: self._process,
            record.EXECUTED: self._executed,
            record.UNMAPPED: self._unmapped,
            record.MAPPED: self._mapped,
            record.SAMPLE: self._sample,
            record.END: self._end,
        }
        if writer is not None:
            writer.start()

    # ---- reading ------------------------------------------------------------------------------

    def pump(self, failed: Callable[[], object]) -> None:
        """A thread's body: reads until end().  failed: called when what is told cannot be written."""
        try:
            while not self._ending:
                with self._lock:
                    self._some(0)
                if not self._ending:
                    self._wait()
        except BaseException as error:
            self.error = error
            self.ring.stop()
            self.ring.close()
            failed()

    def _wait(self) -> None:
        with self._lock:
            self._some(self.LOOK)

    def drain(self) -> None:
        """All that has been told so far."""
        with self._lock:
            while self.error is None and self._some(0):
                pass

    def _some(self, milliseconds: int) -> bool:
        data = self.ring.read(milliseconds)
        kinds, coverage, covered = self._kinds, self._coverage, record.COVERED
        news: dict[int, int] = {}
        of = 0
        for entry, behind in record.records(data):
            kind = entry[4]
            if kind == covered:
                if coverage is not None and entry[2] != of:
                    of = entry[2]
                    news = coverage.news(of)
                news[entry[9]] = entry[10]
                continue
            body = kinds.get(kind)
            if body is not None:
                body(entry, behind)
        if len(data):
            self.ring.done()
        return len(data) > 0

    def end(self) -> None:
        """Nobody tells anything more: the rest is read, and written."""
        self._ending = True
        try:
            self.drain()
            for pid in self._spaces:
                self._settle(pid)
            if self.error is None and self.writer is not None:
                self.writer.close()
        except OSError as error:
            self.error = error

    # ---- what is wanted -----------------------------------------------------------------------

    def wanted(self, tid: int) -> bool:
        """One more event of a thread: whether it is written; counts it."""
        number = self._threads.get(tid)
        if number is None:
            number = self._threads[tid] = len(self._threads) + 1
        if self._filters.threads and number not in self._filters.threads:
            return False
        if self._limit and self.events >= self._limit:
            return False
        self.events += 1
        if self.events == self._limit:
            self.ring.stop()
        return True

    def space(self, pid: int) -> Space:
        found = self._spaces.get(pid)
        if found is None:
            found = self._spaces[pid] = Space(self._images)
        return found

    def put_space(self, pid: int, space: Any) -> None:
        """Names of addresses that are known from elsewhere."""
        self._spaces[pid] = space

    # ---- events -------------------------------------------------------------------------------

    def _instruction(self, entry: Record, behind: Any) -> None:
        _, ns, pid, tid, _, _, size, bits, isa, at, a, mask, value = entry
        writer = self.writer
        if writer is None or not self.wanted(tid):
            return
        names = self._names.get(isa)
        if names is None:
            names = self._names[isa] = Names(record.ISAS[isa])
            self._disassemblies[isa] = Disassembly(record.ISAS[isa])
        changes: list[tuple[str, int]] = []
        place = -8
        for name, words in names.changed(mask, bits & 31):
            if words == 1:
                changes.append((name, value))
            else:
                place += 8
                high = int.from_bytes(behind[place : place + 8], "little")
                changes.append((name, value if names.half else value | high << 64))
            place += 8
            value = int.from_bytes(behind[place : place + 8], "little")
        code = a.to_bytes(8, "little")
        if size > 8:
            place = max(place, 0)
            code += bytes(behind[place : place + 8])
        code = code[:size]
        space = self._spaces.get(pid)
        where = space.text(at) if space is not None else ""
        text, length = self._disassemblies[isa].of(at, code, bool(bits & THUMB))
        writer.instruction(ns, pid, tid, at, code[:length], where, text, changes)

    def _block(self, entry: Record, behind: Any) -> None:
        if self.writer is not None and self.wanted(entry[3]):
            _, ns, pid, tid, _, _, _, _, _, at, size, _, _ = entry
            self.writer.block(ns, pid, tid, at, size, self.space(pid).text(at))

    def _process(self, entry: Record, behind: Any) -> None:
        pid, parent = entry[2], entry[10]
        if parent in self._spaces:
            self._spaces[pid] = Space(self._images)
        if self.writer is not None:
            # Its number, before any of its events.
            self._threads.setdefault(entry[3], len(self._threads) + 1)

    def _executed(self, entry: Record, behind: Any) -> None:
        if self.writer is not None:
            name = printable(os.fsdecode(bytes(behind[: entry[12]])))
            self.writer.event("process", entry[1], entry[2], entry[3], name=name, text=f"executes {name}")

    def _settle(self, pid: int) -> None:
        if self._coverage is not None:
            self._coverage.settle(pid, self.space(pid))

    def _unmapped(self, entry: Record, behind: Any) -> None:
        self._settle(entry[2])
        self.space(entry[2]).unmap(entry[9], entry[9] + entry[10])

    def _mapped(self, entry: Record, behind: Any) -> None:
        _, _, pid, _, _, _, _, prot, _, at, size, offset, length = entry
        self._settle(pid)
        space = self.space(pid)
        space.map(Area(at, at + size, offset, os.fsdecode(bytes(behind[:length])), prot))
        if self._filters.symbols and prot & 4:
            self._filters.mapped(self.ring, space)

    def _sample(self, entry: Record, behind: Any) -> None:
        if self._profile is not None:
            self._profile.sample(self.space(entry[2]), entry, behind)

    def _end(self, entry: Record, behind: Any) -> None:
        if self.writer is None or not self.tells_ends or not self.wanted(entry[3]):
            return
        status = entry[10]
        if os.WIFSIGNALED(status):
            text = f"killed by signal {os.WTERMSIG(status)}"
        else:
            text = f"exited with {os.waitstatus_to_exitcode(status)}"
        self.writer.event("end", entry[1], entry[2], entry[3], name=text, text=f"+++ {text} +++")
