"""A Linux program as a debugger sees it, through the watch of native/watch.h.

All threads of the program's process stand, or run; children that it forks run on without a debugger.  A
thread that stands waits in a slot, and reads and writes memory and registers as it is told.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from contextlib import suppress
from pathlib import Path

from emu.gdb.sockets import Connection, listen
from emu.gdb.stub import Stub
from emu.gdb.target import SIGINT, SIGTRAP, Action, Kind, Refused, Stop
from emu.linux.watch import ISAS, BadAddress, Ended, Memory
from emu.native import ffi, lib
from isa.arch import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from emu.linux.process import Process
    from isa.arch import Arch

# What a breakpoint is made of, by ISA and the size that the client names (in gdb: gdbarch_breakpoint_kind).
BREAKS = {
    "aarch64": {4: "000020d4"},  # brk #0
    "arm": {4: "700020e1", 2: "00be", 3: "00be"},  # bkpt
    "riscv64": {4: "73001000", 2: "0290"},  # ebreak, c.ebreak
    "x86_64": {1: "cc"},  # int3
}
# GDB's numbers of Linux' signals (include/gdb/signals.def).
GDB_SIGNALS = {
    1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 10, 8: 8, 9: 9, 10: 30, 11: 11, 12: 31, 13: 13, 14: 14, 15: 15,
    17: 20, 18: 19, 19: 17, 20: 18, 21: 21, 22: 22, 23: 16, 24: 24, 25: 25, 26: 26, 27: 27, 28: 28, 29: 23,
    30: 32, 31: 12, 32: 77, **{n: 45 + n - 33 for n in range(33, 64)}, 64: 78,
}  # fmt: skip
LINUX_SIGNALS = {gdb: linux for linux, gdb in GDB_SIGNALS.items()}
# Milliseconds: between two looks at what may have happened; until those that do not stop are done without.
LOOK, PATIENCE = 20, 500
# siginfo_t: its size, and si_code.
SIGINFO, TRAP_BRKPT, TRAP_TRACE, SI_KERNEL = 128, 1, 2, 0x80
# What XSAVE saves (Intel SDM vol. 1, 13.4): which parts there are, in Linux's words there; which are in use;
# the upper halves of ymm0 to ymm15.
XSAVE_FEATURES, XSAVE_USED, XSAVE_AVX, AVX = 472, 512, 576, 1 << 2
GO_ON = Action()
NO_WAIT = ",wait=off"
TELL = lib.EMU_TELL_SIGNALS | lib.EMU_TELL_ENDS


def places(arch: Arch) -> dict[str, tuple[str, int, int, int]]:
    """Where emu_cpu_state (accel/native/engine.h) has the registers of an ISA.

    By name: the field, its index (-1: none), the first bit there, and the width in bits.
    """
    name = arch.name
    found: dict[str, tuple[str, int, int, int]] = {arch.pc: ("pc", -1, 0, 64)}
    if name == "x86_64":
        general = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16))]
        found |= {"eflags": ("flags", -1, 0, 32), "mxcsr": ("fpcr", -1, 0, 32)}
        found |= {"fs_base": ("tls", 0, 0, 64), "gs_base": ("tls", 1, 0, 64)}
        # FXSAVE's first bytes (Intel SDM vol. 1, table 10-2)
        found |= {f"st{n}": ("x87", 32 + 16 * n, 0, 80) for n in range(8)}
        found |= {"fctrl": ("x87", 0, 0, 16), "fstat": ("x87", 2, 0, 16), "fop": ("x87", 6, 0, 16)}
        found |= {"fioff": ("x87", 8, 0, 32), "fooff": ("x87", 16, 0, 32)}
        found |= {f"xmm{n}": ("v", n, 0, 128) for n in range(16)}
    elif name == "aarch64":
        general = [*(f"x{n}" for n in range(31)), "sp"]
        found |= {"cpsr": ("flags", -1, 0, 32), "fpcr": ("fpcr", -1, 0, 32), "fpsr": ("fpsr", -1, 0, 32)}
        found |= {f"v{n}": ("v", n, 0, 128) for n in range(32)}
    elif name == "arm":
        general = [*(f"r{n}" for n in range(13)), "sp", "lr"]
        found |= {"cpsr": ("flags", -1, 0, 32), "fpscr": ("fpcr", -1, 0, 32)}
        found |= {f"d{n}": ("v", n // 2, 64 * (n % 2), 64) for n in range(32)}
    else:
        general = [register.name for register in arch.registers[:32]]
        floats = [register.name for register in arch.registers if register.number in range(33, 65)]
        found |= {"fflags": ("fpcr", -1, 0, 5), "frm": ("fpcr", -1, 5, 3), "fcsr": ("fpcr", -1, 0, 8)}
        found |= {register: ("v", n, 0, 64) for n, register in enumerate(floats)}
    return found | {register: ("r", n, 0, arch.bits) for n, register in enumerate(general)}


class ProcessTarget:
    """A program that stands before its first instruction when open() has returned.

    process: not started yet.  After run() has returned, `status` is the program's wait status.
    """

    osabi = "GNU/Linux"
    kinds = frozenset((Kind.SOFTWARE,))

    def __init__(self, process: Process, isa: str) -> None:
        self._process = process
        self._know(isa)
        self.attached = False
        self.stopped: Callable[[Stop], None] = lambda stop: None
        self.pid = 0
        self.status_code: int | None = None
        watch = process.watch()
        self._watch = watch.pointer
        self._watch.tell = TELL
        self._watch.debug = 1
        self._watch.hold = lib.EMU_HOLD_ALL
        self._slots: dict[int, int] = {}  # by thread, of those that stand
        self._reasons: dict[int, Stop] = {}  # what those have to tell that nobody has been told yet
        self._sent: set[tuple[int, int]] = set()  # signals that the client wants delivered
        self._signals: set[int] = set()  # threads that are about to take a signal
        self._actions: dict[int, Action] = {}  # of those that were let go
        self._later: dict[int, Action] = {}  # of those that go if a step waits for somebody
        self._patience = 0.0  # until then they stand
        self._gone: set[int] = set()  # tasks without a guest thread
        self._states: dict[int, Any] = {}
        self._breaks: dict[int, tuple[int, bytes]] = {}  # size, and what stood there
        self._stop = Stop(0)
        self._interrupted = False
        self._passed: frozenset[int] = frozenset()
        self._native = False
        self._at_large = False  # nobody looks at it any more
        self._tasks = ""  # the folder of the process's tasks

    def _know(self, isa: str) -> None:
        self.arch = find(isa)
        self.registers = tuple(
            sorted((r for r in self.arch.registers if r.feature), key=lambda register: register.number)
        )
        self._places = places(self.arch)

    # -- its life ----------------------------------------------------------------------------

    def open(self, path: str) -> int:
        fd = self._process.files.peek(path)
        if fd < 0:
            raise OSError(-fd, os.strerror(-fd), path)
        return fd

    def start(self) -> None:
        """Starts the program, up to its first instruction."""
        self.pid = self._process.start()
        self._tasks = f"/proc/{self.pid}/task"
        end = time.monotonic() + 30
        while not self._slots and self.status_code is None and time.monotonic() < end:
            self._look(LOOK)
        self._stop = Stop(self.pid, SIGTRAP)
        self._reasons.clear()
        self._extend()

    def attach(self) -> None:
        """A debugger has come while the program ran, let go: all threads stand."""
        self._at_large = False
        for known in (self._reasons, self._states, self._slots, self._signals, self._sent, self._gone):
            known.clear()
        self._passed = frozenset()
        self._watch.tell = TELL
        self._watch.hold = lib.EMU_HOLD_ALL
        self._watch.closed = 0
        self._hold()
        self.attached = True
        if self._slots:  # else it has ended, or nothing of it can be stopped now
            self._know(ISAS[self._watch.slots[next(iter(self._slots.values()))].isa])
            self._extend()
        self._stop = Stop(self.pid if self.pid in self._slots else next(iter(self._slots), self.pid), SIGTRAP)

    def _extend(self) -> None:
        if self.arch.extensions and self._slots and self._upper(next(iter(self._slots))) is not None:
            self.registers += self.arch.extensions

    @property
    def running(self) -> bool:
        return not self._watch.hold or bool(self._moving())

    def _moving(self) -> list[int]:
        """Tasks that do not stand."""
        try:
            # Its links count the folder's folders: the usual case without reading it.
            if os.stat(self._tasks).st_nlink - 2 == len(self._slots) and not self._gone:  # noqa: PTH116
                return []
            tasks = [int(task) for task in os.listdir(self._tasks)]  # noqa: PTH208
        except OSError:
            return []
        self._gone.intersection_update(tasks)
        return [task for task in tasks if task not in self._slots and task not in self._gone]

    def _look(self, milliseconds: int) -> bool:
        """Takes one event, if there is one within that time.  False where there was none."""
        index = int(lib.emu_watch_next(self._watch, milliseconds))
        if index < 0:
            self._reap()
            return False
        slot = self._watch.slots[index]
        tid = int(slot.tid)
        if slot.pid != self.pid or self._at_large:
            lib.emu_watch_go(self._watch, index)
        elif slot.kind in (lib.EMU_WATCH_CALL, lib.EMU_WATCH_RESULT):
            self._process.watch().look(index)
        elif slot.kind == lib.EMU_WATCH_STOP:
            lib.emu_watch_keep(self._watch, index)
            self._slots[tid] = index
            self._gone.discard(tid)
            self._note(tid, int(slot.nr))
        elif slot.kind == lib.EMU_WATCH_SIGNAL:
            lib.emu_watch_keep(self._watch, index)
            self._slots[tid] = index
            number = int.from_bytes(bytes(ffi.buffer(slot.info, 4)), "little")
            if GDB_SIGNALS.get(number, 143) in self._passed or (tid, number) in self._sent:
                self._sent.discard((tid, number))
                self._go(tid, self._actions.get(tid, GO_ON))
            else:
                self._signals.add(tid)
                self._reasons[tid] = Stop(tid, GDB_SIGNALS.get(number, 143))
        else:
            self._native |= slot.kind == lib.EMU_WATCH_NATIVE
            self._gone.add(tid)
            lib.emu_watch_go(self._watch, index)
        return True

    def _note(self, tid: int, reason: int) -> None:
        if reason == lib.EMU_STOPPED_BREAK:
            self._reasons[tid] = Stop(tid, reason="swbreak")
        elif reason == lib.EMU_STOPPED_STEP:
            self._reasons[tid] = Stop(tid)
        elif reason == lib.EMU_STOPPED_EXEC:
            self._executed(tid)

    def _executed(self, tid: int) -> None:
        """Another program stands at its first instruction."""
        self._breaks.clear()
        self._tell_breaks()
        isa = ISAS[self._watch.slots[self._slots[tid]].isa]
        if isa != self.arch.name:
            self._let_go()
            return
        path = self._words(tid, lib.EMU_ORDER_PROGRAM)
        self._reasons[tid] = Stop(tid, reason="exec", value=os.fsdecode(path))

    def _reap(self) -> None:
        if self.status_code is not None:
            return
        ended, status = os.waitpid(self.pid, os.WNOHANG)
        if ended:
            self.status_code = status
            self._slots.clear()

    def _ended(self) -> Stop:
        assert self.status_code is not None
        code = os.waitstatus_to_exitcode(self.status_code)
        if code >= 0:
            return Stop(self.pid, code, "exited")
        return Stop(self.pid, GDB_SIGNALS.get(-code, 143), "killed")

    def pump(self, milliseconds: int) -> None:
        """Looks at what the program does, while it runs; tells `stopped` where it has stopped."""
        self._look(milliseconds)
        if self.status_code is not None:
            self._finish(self._ended())
        elif self._reasons or (self._interrupted and not self._watch.hold):
            self._hold()
            self._report()
        elif self._later and time.monotonic() > self._patience:
            self._watch.hold = 0
            self._resume_all(self._later)
            self._later = {}

    def _hold(self) -> None:
        """Has all threads stand."""
        self._later = {}
        self._watch.hold = lib.EMU_HOLD_ALL
        end = time.monotonic() + PATIENCE / 1000
        nudged = 0.0
        while self.status_code is None:
            moving = self._moving()
            if not moving:
                break
            now = time.monotonic()
            if now > end:
                self._gone.update(moving)
                break
            if now - nudged > 0.02:
                lib.emu_watch_nudge(self.pid)
                nudged = now
            self._look(2)

    def _report(self) -> None:
        if self.status_code is not None:
            self._finish(self._ended())
            return
        interrupted, self._interrupted = self._interrupted, False
        first = next((stop for stop in self._reasons.values() if stop.thread in self._slots), None)
        if first is None or interrupted:
            thread = self._stop.thread if self._stop.thread in self._slots else next(iter(self._slots), 0)
            # A step or a breakpoint that came with the interrupt is where it stands.
            if self._reasons.get(thread) is not None and thread not in self._signals:
                del self._reasons[thread]
            first = Stop(thread or self.pid, SIGINT)
        else:
            del self._reasons[first.thread]
            # Others that stand at a breakpoint meet it again.
            for thread, stop in list(self._reasons.items()):
                if thread not in self._signals and not stop.value:
                    del self._reasons[thread]
        self._finish(first)

    def _finish(self, stop: Stop) -> None:
        self._stop = stop
        self.stopped(stop)

    # -- what there is -------------------------------------------------------------------------

    def threads(self) -> list[int]:
        return sorted(self._slots, key=lambda tid: (tid != self.pid, tid))

    def thread_text(self, thread: int) -> str:
        try:
            with open(f"/proc/{self.pid}/task/{thread}/comm", encoding="utf-8", errors="replace") as file:
                return file.read().rstrip("\n")
        except OSError:
            return ""

    def _slot(self, thread: int) -> int:
        index = self._slots.get(thread)
        if index is None:
            raise Refused(f"thread {thread} does not stand")
        return index

    def _any(self) -> int:
        """A slot through which memory can be reached."""
        if self._stop.thread in self._slots:
            return self._slots[self._stop.thread]
        if not self._slots:
            raise Refused("no thread of the program stands")
        return next(iter(self._slots.values()))

    def status(self) -> Stop:
        return self._stop if self.status_code is None else self._ended()

    def _words(self, thread: int, order: int) -> bytes:
        index = self._slot(thread) if thread else self._any()
        size = int(lib.emu_watch_order(self._watch, index, order, 0, 0))
        return bytes(ffi.buffer(self._watch.slots[index].data, max(size, 0)))

    def object(self, name: str, annex: str, thread: int = 0) -> bytes | None:
        if name == "siginfo":
            return self._siginfo(thread)
        if name not in ("auxv", "exec-file"):
            return None
        return self._words(0, lib.EMU_ORDER_AUXV if name == "auxv" else lib.EMU_ORDER_PROGRAM)

    def _siginfo(self, thread: int) -> bytes:
        """Of the signal that a thread is about to take; else of what a stop would be on Linux."""
        if thread in self._signals:
            index = self._slot(thread)
            lib.emu_watch_order(self._watch, index, lib.EMU_ORDER_SIGINFO, 0, 0)
            return bytes(ffi.buffer(self._watch.slots[index].data, SIGINFO))
        stop = self._stop
        code = SI_KERNEL if stop.signal != SIGTRAP else TRAP_BRKPT if stop.reason == "swbreak" else TRAP_TRACE
        (pc,) = self.read_registers(thread, (self.arch.pc,)) if thread in self._slots else (0,)
        word = self.arch.bits // 8
        found = struct.pack("<iii", LINUX_SIGNALS.get(stop.signal, 0), 0, code).ljust(8 + word, b"\0")
        return (found + (pc or 0).to_bytes(word, "little")).ljust(SIGINFO, b"\0")

    def setting(self, name: str, value: str | None) -> str | None:
        return None

    def monitor(self, words: str) -> str:
        if words.split() in (["help"], ["?"]):
            return "maps -- Shows the program's memory.\n"
        if words.split() == ["maps"]:
            with open(f"/proc/{self.pid}/maps", encoding="utf-8", errors="replace") as file:
                return file.read()
        return f"there is no command {words!r}; monitor help lists them\n"

    def pass_signals(self, signals: frozenset[int]) -> None:
        """These reach the program without a stop."""
        self._passed = signals

    # -- registers and memory --------------------------------------------------------------------

    def _state(self, thread: int) -> Any:
        state = self._states.get(thread)
        if state is None:
            state = self._states[thread] = self._watch.slots[self._slot(thread)].cpu
        return state

    def _get(self, state: Any, name: str) -> int | None:
        place = self._places.get(name)
        if place is None:
            if name in ("cs", "ss"):
                return 0x33 if name == "cs" else 0x2B
            return 0 if name in ("ds", "es", "fs", "gs", "fiseg", "foseg") else self._other(state, name)
        field, index, first, width = place
        if field == "x87":
            return int.from_bytes(bytes(state.x87[index : index + width // 8]), "little")
        value = getattr(state, field)
        if field == "v":
            value = value[index][0] | value[index][1] << 64
        elif index >= 0:
            value = value[index]
        return int(value) >> first & (1 << width) - 1

    def _other(self, state: Any, name: str) -> int | None:
        if name == "ftag":  # two bits each, from one: 3 for empty, else as if valid
            return sum((0 if state.x87[4] >> n & 1 else 3) << 2 * n for n in range(8))
        if name == "orig_rax":
            return (1 << 64) - 1
        return None

    def _upper(self, thread: int) -> bytearray | None:
        """A thread's ymm0h to ymm15h; None: its CPU has none."""
        index = self._slot(thread)
        size = int(lib.emu_watch_order(self._watch, index, lib.EMU_ORDER_XSAVE, 0, 0))
        data = bytes(ffi.buffer(self._watch.slots[index].data, max(size, 0)))
        there, used = (int.from_bytes(data[at : at + 8], "little") for at in (XSAVE_FEATURES, XSAVE_USED))
        if not there & AVX or size < XSAVE_AVX + 256:
            return None
        return bytearray(data[XSAVE_AVX : XSAVE_AVX + 256] if used & AVX else 256)

    def _set_upper(self, thread: int, name: str, value: int) -> None:
        upper, slot = self._upper(thread), self._watch.slots[self._slot(thread)]
        if upper is None:
            raise Refused(f"this CPU has no register {name}")
        number = int(name[3:-1])
        upper[16 * number : 16 * number + 16] = value.to_bytes(16, "little")
        data = ffi.buffer(slot.data)
        used = int.from_bytes(data[XSAVE_USED : XSAVE_USED + 8], "little") | AVX
        data[XSAVE_USED : XSAVE_USED + 8] = used.to_bytes(8, "little")
        data[XSAVE_AVX : XSAVE_AVX + 256] = bytes(upper)
        lib.emu_watch_order(self._watch, self._slot(thread), lib.EMU_ORDER_XRSTOR, 0, lib.EMU_WATCH_DATA)

    def read_registers(self, thread: int, names: tuple[str, ...]) -> list[int | None]:
        state = self._state(thread)
        values = [self._get(state, name) for name in names]
        if None in values:
            upper = None
            for n, name in enumerate(names):
                if name.startswith("ymm"):
                    upper = upper or self._upper(thread) or bytearray()
                    number = int(name[3:-1])
                    values[n] = int.from_bytes(upper[16 * number : 16 * number + 16], "little")
        return values

    def write_registers(self, thread: int, values: Mapping[str, int]) -> None:
        state = self._state(thread)
        for name, value in values.items():
            place = self._places.get(name)
            if place is None:
                if name in ("orig_rax", "ftag", "fiseg", "foseg"):
                    continue
                if name.startswith("ymm"):
                    self._set_upper(thread, name, value)
                    continue
                raise Refused(f"register {name} cannot be set")
            field, index, first, width = place
            mask = (1 << width) - 1
            if field == "x87":
                for n, byte in enumerate((value & mask).to_bytes(width // 8, "little")):
                    state.x87[index + n] = byte
            elif field == "v":
                old = state.v[index][0] | state.v[index][1] << 64
                new = old & ~(mask << first) | (value & mask) << first
                state.v[index][0], state.v[index][1] = new & (1 << 64) - 1, new >> 64
            elif index >= 0:
                getattr(state, field)[index] = value & mask
            else:
                old = getattr(state, field)
                setattr(state, field, old & ~(mask << first) | (value & mask) << first)
        self._watch.slots[self._slot(thread)].changed = 1

    def read(self, address: int, size: int) -> bytes:
        memory = Memory(self._watch, self._any())
        found = bytearray()
        try:
            while len(found) < size:  # by pages, up to the first that cannot be read
                at = address + len(found)
                length = min(size - len(found), 4096 - at % 4096)
                found += memory.read(at, length)
        except (BadAddress, Ended) as error:
            if not found:
                raise Refused(str(error)) from None
        for at, (_, before) in self._breaks.items():
            for n, byte in enumerate(before):
                if 0 <= at + n - address < len(found):
                    found[at + n - address] = byte
        return bytes(found)

    def write(self, address: int, data: bytes) -> None:
        covered = bytearray(data)
        for at, (size, before) in list(self._breaks.items()):
            new = bytearray(before)
            inside = [n for n in range(len(before)) if 0 <= at + n - address < len(data)]
            code = self._code(size)
            for n in inside:
                new[n] = data[at + n - address]
                covered[at + n - address] = code[n]
            if inside:
                self._breaks[at] = (size, bytes(new))
        self._poke(address, bytes(covered))
        self._tell_breaks()

    def _poke(self, address: int, data: bytes) -> None:
        index = self._any()
        for at in range(0, len(data), lib.EMU_WATCH_DATA):
            piece = data[at : at + lib.EMU_WATCH_DATA]
            ffi.buffer(self._watch.slots[index].data)[: len(piece)] = piece
            order = lib.EMU_ORDER_POKE
            if lib.emu_watch_order(self._watch, index, order, address + at, len(piece)) != 0:
                raise Refused(f"{len(piece)} bytes at {address + at:#x} cannot be written")

    # -- breakpoints ----------------------------------------------------------------------------------

    def _code(self, size: int) -> bytes:
        known = BREAKS[self.arch.name]
        code = known.get(size)
        if code is None:
            raise Refused(f"{self.arch.name} has no breakpoint of kind {size}")
        return bytes.fromhex(code)

    def insert(self, kind: Kind, address: int, size: int) -> None:
        if address in self._breaks:
            return
        if len(self._breaks) == lib.EMU_WATCH_BREAKS:
            raise Refused(f"there are {lib.EMU_WATCH_BREAKS} breakpoints already; delete some")
        code = self._code(size)
        before = self.read(address, len(code))
        if len(before) < len(code):
            raise Refused(f"nothing to break at is at {address:#x}")
        self._poke(address, code)
        self._breaks[address] = (size, before)
        self._tell_breaks()

    def remove(self, kind: Kind, address: int, size: int) -> None:
        found = self._breaks.pop(address, None)
        if found is not None:
            with suppress(Refused):
                self._poke(address, found[1])
        self._tell_breaks()

    def _tell_breaks(self) -> None:
        """The table that the guest's processes look at."""
        for n, (address, (_, before)) in enumerate(self._breaks.items()):
            entry = self._watch.breaks[n]
            entry.addr, entry.size = address, len(before)
            ffi.buffer(entry.before)[: len(before)] = before
        self._watch.break_count = len(self._breaks)

    # -- running -------------------------------------------------------------------------------------

    def _go(self, thread: int, action: Action = GO_ON, lost: bool = False) -> None:
        index = self._slots.pop(thread)
        self._states.pop(thread, None)
        self._actions[thread] = action
        self._signals.discard(thread)
        slot = self._watch.slots[index]
        slot.step, slot.skip = int(action.step), int(lost)
        slot.start, slot.until = action.within or (0, 0)
        lib.emu_watch_go(self._watch, index)

    def resume(self, actions: Mapping[int, Action]) -> None:
        if self.status_code is not None:
            raise Refused("the program has ended")
        # What another thread has had to tell while all stood comes first.
        waiting = [thread for thread in actions if thread in self._reasons and thread in self._slots]
        if waiting and not any(action.signal for action in actions.values()):
            self._report()
            return
        steps = {thread for thread, action in actions.items() if action.step}
        self._interrupted = False
        # While some step the others stand still, unless it takes long.
        going = {thread: action for thread, action in actions.items() if not steps or thread in steps}
        self._later = {thread: action for thread, action in actions.items() if thread not in going}
        self._patience = time.monotonic() + PATIENCE / 1000
        self._watch.hold = lib.EMU_HOLD_OTHERS if steps else 0
        self._resume_all(going)
        if steps:
            self._await_step()

    def _resume_all(self, actions: Mapping[int, Action]) -> None:
        for thread, action in actions.items():
            if thread in self._slots:
                self._resume_one(thread, action)

    def _resume_one(self, thread: int, action: Action) -> None:
        linux = LINUX_SIGNALS.get(action.signal, 0)
        pending = thread in self._signals
        if linux and not pending:  # one that nobody had sent: it comes by itself, and is passed on then
            self._inject(thread, linux)
        self._go(thread, action, lost=pending and not linux)

    def _inject(self, thread: int, number: int) -> None:
        import ctypes

        self._sent.add((thread, number))
        tgkill = 234 if os.uname().machine == "x86_64" else 131
        ctypes.CDLL(None).syscall(tgkill, self.pid, thread, number)

    def _await_step(self) -> None:
        """Most steps end at once; for the others pump() waits."""
        self._look(LOOK)
        if self._reasons or self.status_code is not None:
            self._hold()
            self._report()

    def interrupt(self) -> None:
        self._interrupted = True
        lib.emu_watch_nudge(self.pid)
        self._hold()
        self._report()

    def _let_go(self) -> None:
        """The program goes on, and nobody looks on."""
        for address in list(self._breaks):
            self.remove(Kind.SOFTWARE, address, 0)
        self._at_large = True
        self._watch.tell = 0
        self._watch.hold = 0
        for thread in list(self._slots):
            self._go(thread)
        lib.emu_watch_close(self._watch, 0)

    def detach(self) -> None:
        if self.status_code is None and not self._at_large:
            self._let_go()

    def kill(self) -> None:
        if self.status_code is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, 9)
            self.status_code = os.waitpid(self.pid, 0)[1]

    def reset(self) -> None:
        raise Refused("a program is started again by starting emu again")

    def wait(self) -> int:
        """Serves the program to its end, when no debugger is there; returns its wait status."""
        self.detach()
        if self.status_code is None:
            self.status_code = os.waitpid(self.pid, 0)[1]
        return self.status_code


def serve_program(target: ProcessTarget, words: str, told: Callable[[str], None]) -> int:
    """Runs a program for a debugger, from the program's first instruction; its wait status.

    words: as listen()'s; with ",wait=off" behind it the program runs, and debuggers come when they like, one
    after the other.
    """
    end = words.removesuffix(NO_WAIT)
    waits = end == words
    listener, place, warning = listen(end)
    with listener:
        told(f"a debugger may come to {place}")
        if warning:
            told(warning)
        told("programs have no hardware watchpoints here; gdb steps instead: set can-use-hw-watchpoints 0")
        try:
            target.start()
            client = _next(listener, target) if waits else None
        finally:
            if waits and listener.family == socket.AF_UNIX:
                Path(place).unlink(missing_ok=True)
        if client is not None:
            _serve(client, target)
        target.detach()
        try:
            while not waits and (client := _next(listener, target)) is not None:
                target.attach()
                _serve(client, target)
                target.detach()
        finally:
            if not waits and listener.family == socket.AF_UNIX:
                Path(place).unlink(missing_ok=True)
    return target.wait()


def _next(listener: socket.socket, target: ProcessTarget) -> socket.socket | None:
    """The next client; None: the program has ended."""
    if target.status_code is not None:
        return None
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    fd = os.pidfd_open(target.pid)
    try:
        poll.register(fd, select.POLLIN)
        ready = [each for each, _ in poll.poll()]
    finally:
        os.close(fd)
    if listener.fileno() not in ready:
        target.wait()
        return None
    return listener.accept()[0]


def _serve(client: socket.socket, target: ProcessTarget) -> None:
    connection = Connection(client, Stub(target))
    try:
        _converse(connection, target)
    finally:
        connection.close()


def _converse(connection: Connection, target: ProcessTarget) -> None:
    """Until the client has gone or is told of the program's end."""
    poll = select.poll()
    poll.register(connection.client, select.POLLIN)
    while True:
        running = connection.stub.running
        if running:
            target.pump(LOOK)
            if not connection.flush():
                return
        if poll.poll(0 if running else None) and not connection.pump():
            return
