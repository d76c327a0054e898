"""Watching a guest: its system calls, signals and ends, from the process that runs it.

The guest's processes share a piece of memory with this one (native/watch.h).  A guest thread that does
something asked for waits there until it has been looked at here; so hooks run in one interpreter, one after
another, whichever of the guest's threads and processes they are about, and none of those ever enters Python.
"""

from __future__ import annotations

import os
import signal
import time
from errno import EFAULT, ESRCH, errorcode

from accel.errors import EmuError
from emu.native import ffi, lib
from isa.arch import find
from isa.syscalls import load, number, numbers, places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Protocol

    from isa.syscalls import Syscall

    Hook = Callable[["Call"], object]

    class Listener(Protocol):
        """Told of everything: strace."""

        def call(self, call: Call) -> None: ...
        def result(self, call: Call) -> None: ...
        def signal(self, event: Event, info: bytes) -> None: ...
        def end(self, event: Event, status: int) -> None: ...
        def native(self, event: Event) -> None: ...
        def gone(self, pid: int, status: int) -> None: ...


# By enum emu_isa of accel/native/engine.h.
ISAS = ("", "aarch64", "arm", "riscv64", "x86_64")
# Results that are no values: ERESTART*, and registers that are as they shall be (execve, exit, sigreturn).
RESTARTS = range(-516, -511)
KEPT = -600
_PATIENCE = 50  # ms between looks for a process that was killed


class BadAddress(EmuError):
    """A guest address where nothing is mapped, or not with the rights that are needed."""


class Ended(EmuError):
    """The guest's process was killed while it was looked at."""


class Memory:
    """The memory of a guest process that waits; addresses are the guest's.

    Raises BadAddress where the guest itself would get a fault.
    """

    def __init__(self, watch: Any, slot: int) -> None:
        self._watch = watch
        self._index = slot
        self._slot = watch.slots[slot]

    def _order(self, order: int, address: int, size: int) -> int:
        done = int(lib.emu_watch_order(self._watch, self._index, order, address & (1 << 64) - 1, size))
        if done == -EFAULT:
            raise BadAddress(f"guest address {address:#x}: not {size} bytes that can be used are there")
        if done == -ESRCH:
            raise Ended(f"process {self._slot.pid} was killed")
        return done

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes, 0 or more."""
        pieces = []
        for at in range(0, size, lib.EMU_WATCH_DATA):
            length = min(size - at, lib.EMU_WATCH_DATA)
            self._order(lib.EMU_ORDER_READ, address + at, length)
            pieces.append(bytes(ffi.buffer(self._slot.data, length)))
        return b"".join(pieces)

    def write(self, address: int, data: bytes) -> None:
        """Where the guest may not write either, the bytes before the fault may have been written."""
        for at in range(0, len(data), lib.EMU_WATCH_DATA):
            piece = data[at : at + lib.EMU_WATCH_DATA]
            ffi.buffer(self._slot.data)[: len(piece)] = piece
            self._order(lib.EMU_ORDER_WRITE, address + at, len(piece))

    def text(self, address: int, limit: int = 4095) -> tuple[bytes, bool]:
        """The bytes before the first NUL, at most `limit` (up to 4095), and whether the NUL was found."""
        limit = min(limit, lib.EMU_WATCH_DATA - 1)
        length = self._order(lib.EMU_ORDER_STRING, address, limit + 1)
        found = length >= 0
        return bytes(ffi.buffer(self._slot.data, length if found else limit)), found

    def string(self, address: int) -> str:
        """The NUL-terminated string there, as os.fsdecode has it; at most 4095 bytes of it."""
        return os.fsdecode(self.text(address)[0])


class Registers:
    """The registers of a guest thread that waits, by GDB's names ("x0", "sp", "rip"); values are unsigned.

    At a system call the program counter is behind its instruction, and what is set in the registers of
    arguments or result is overwritten or not looked at: change `Call.args` and `Call.result`.
    """

    def __init__(self, memory: Memory, isa: str) -> None:
        self._memory = memory
        self._isa = isa
        self._state: Any = None

    def _load(self) -> Any:
        if self._state is None:
            self._memory._order(lib.EMU_ORDER_SAVE, 0, 0)
            self._state = ffi.new("emu_cpu_state *")
            ffi.buffer(self._state)[:] = ffi.buffer(self._memory._slot.data, ffi.sizeof("emu_cpu_state"))
        return self._state

    def __iter__(self) -> Iterator[str]:
        return iter(_registers(self._isa))

    def _find(self, name: str) -> tuple[str, int]:
        try:
            return _registers(self._isa)[name]
        except KeyError:
            known = ", ".join(_registers(self._isa))
            raise EmuError(f"{self._isa} has no register {name!r} here; there are {known}") from None

    def __getitem__(self, name: str) -> int:
        field, index = self._find(name)
        value = getattr(self._load(), field)
        return int(value if index < 0 else value[index])

    def __setitem__(self, name: str, value: int) -> None:
        field, index = self._find(name)
        state = self._load()
        value &= (1 << (32 if self._isa == "arm" else 64)) - 1
        if index < 0:
            setattr(state, field, value)
        else:
            getattr(state, field)[index] = value
        ffi.buffer(self._memory._slot.data)[: ffi.sizeof("emu_cpu_state")] = ffi.buffer(state)[:]
        self._memory._order(lib.EMU_ORDER_LOAD, 0, 0)


def _registers(isa: str, known: dict[str, dict[str, tuple[str, int]]] = {}) -> dict[str, tuple[str, int]]:  # noqa: B006
    """Field and index in emu_cpu_state (accel/native/engine.h) by name; -1: no array."""
    if isa not in known:
        if isa == "x86_64":
            general = [
                "rax",
                "rcx",
                "rdx",
                "rbx",
                "rsp",
                "rbp",
                "rsi",
                "rdi",
                *(f"r{n}" for n in range(8, 16)),
            ]
            others = {
                "rip": ("pc", -1),
                "eflags": ("flags", -1),
                "fs_base": ("tls", 0),
                "gs_base": ("tls", 1),
            }
        elif isa == "aarch64":
            general = [*(f"x{n}" for n in range(31)), "sp"]
            others = {"pc": ("pc", -1), "cpsr": ("flags", -1), "TPIDR_EL0": ("tls", 0)}
        elif isa == "arm":
            general = [*(f"r{n}" for n in range(13)), "sp", "lr"]
            others = {"pc": ("pc", -1), "cpsr": ("flags", -1), "TPIDRURO": ("tls", 0)}
        else:
            general = [register.name for register in find(isa).registers[:32]]
            others = {"pc": ("pc", -1)}
        known[isa] = {name: ("r", n) for n, name in enumerate(general)} | others
    return known[isa]


class Event:
    """Something that a guest thread has told, and waits to be looked at.

    pid, tid    of the process and the thread, as this process sees them
    isa         "aarch64", "arm", "riscv64" or "x86_64": of the program that runs there now
    memory, registers
    """

    def __init__(self, watch: Any, slot: int) -> None:
        self._slot = watch.slots[slot]
        self.pid = int(self._slot.pid)
        self.tid = int(self._slot.tid)
        self.isa = ISAS[self._slot.isa]
        self.memory = Memory(watch, slot)
        self.registers = Registers(self.memory, self.isa)


class Call(Event):
    """A system call of the guest, before or after it is answered.

    name, number  as the guest's ABI has them; name is "" for a number that nobody has
    syscall       the call in isa.syscalls, with its arguments' names and types; None for such a number
    args          the arguments as ints, in the order of the manual page; before the call they can be changed
    result        None before the call: setting it answers the call, which then is not made.  After it the
                  value, or -errno, and it can be changed
    """

    def __init__(self, watch: Any, slot: int) -> None:
        super().__init__(watch, slot)
        self.number = int(self._slot.nr)
        self.syscall = _calls(self.isa).get(self.number)
        self.name = self.syscall.name if self.syscall else ""
        self._wide = self.isa != "arm"
        self.raw = [int(word) for word in self._slot.args]
        self.args = self._decode()
        self._before = list(self.args)
        self.result: int | None = None
        if self._slot.kind == lib.EMU_WATCH_RESULT:
            self.result = int(self._slot.result)

    def _places(self) -> list[tuple[int, ...]]:
        assert self.syscall is not None
        return places(self.syscall, self._wide, find(self.isa).abi.aligned_pairs)

    def _decode(self) -> list[int]:
        if self.syscall is None:
            return list(self.raw)
        values = []
        for argument, where in zip(self.syscall.arguments, self._places(), strict=True):
            value = self.raw[where[0]]
            if len(where) == 2:
                value = value & 0xFFFF_FFFF | self.raw[where[1]] << 32
            values.append(number(argument, value, self._wide))
        return values

    def refuse(self, errno: int) -> None:
        """Answers the call with an error of the module errno, as EPERM: it is not made."""
        if errno not in errorcode:
            raise EmuError(f"{errno} is no errno; take one of the module errno, as errno.EPERM")
        self.result = -errno

    def _give_back(self) -> None:
        """What a hook has changed, for the thread that waits."""
        after = self._slot.kind == lib.EMU_WATCH_RESULT
        if self.result is not None:
            self._slot.result = _signed(self.result)
            self._slot.skip = 0 if after else 1
        if self.args == self._before or after:
            return
        if len(self.args) != len(self._before):
            raise EmuError(
                f"{self.name or self.number} takes {len(self._before)} arguments, not {len(self.args)}"
            )
        mask = (1 << (64 if self._wide else 32)) - 1
        where = self._places() if self.syscall else [(n,) for n in range(6)]
        for value, registers in zip(self.args, where, strict=True):
            for register in registers:
                self._slot.args[register] = value & mask
                value >>= 32
        self._before = list(self.args)

    def __repr__(self) -> str:
        return f"<Call {self.name or self.number}({', '.join(map(hex, self.args))}) of {self.tid}>"


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _calls(isa: str, known: dict[str, dict[int, Syscall]] = {}) -> dict[int, Syscall]:  # noqa: B006
    if isa not in known:
        known[isa] = load(isa)
    return known[isa]


class Watch:
    """Who is told of what a guest does."""

    def __init__(self) -> None:
        self._watch = lib.emu_watch_new()
        if self._watch == ffi.NULL:
            raise EmuError("no memory for watching a program")
        self._watch.tell = lib.EMU_TELL_ENDS
        self._before: dict[str, list[Hook]] = {}
        self._after: dict[str, list[Hook]] = {}
        self.listener: Listener | None = None

    @property
    def pointer(self) -> Any:
        return self._watch

    def close(self) -> None:
        if self._watch is not None:
            lib.emu_watch_free(self._watch)
            self._watch = None

    def listen(self, listener: Listener) -> None:
        """Tells `listener` of everything."""
        self.listener = listener
        self._watch.tell |= lib.EMU_TELL_SIGNALS
        for row in range(lib.EMU_WATCH_ROWS):
            for isa in range(1, lib.EMU_WATCH_ISAS):
                self._watch.wanted[isa][row] = lib.EMU_WANT_CALL | lib.EMU_WANT_RESULT

    def count(self) -> None:
        """Counts calls, errors and time from now on."""
        self._watch.counting = 1

    def counts(self) -> dict[str, tuple[int, int, int]]:
        """Calls, errors and nanoseconds by name, of all ISAs together; "" for numbers that no ABI has."""
        found: dict[str, tuple[int, int, int]] = {}
        for index, isa in enumerate(ISAS):
            table = self._watch.counts[index]
            names = {int(lib.emu_watch_row(nr)): name for nr, name in numbers(isa).items()} if isa else {}
            for row in range(lib.EMU_WATCH_ROWS):
                each = table[row]
                if each.calls:
                    name = names.get(row, "")
                    calls, errors, ns = found.get(name, (0, 0, 0))
                    found[name] = (calls + each.calls, errors + each.errors, ns + each.ns)
        return found

    def engine(self) -> tuple[int, int]:
        """Guest instructions that were translated, and those done by another engine, one each time."""
        return int(self._watch.engine[0]), int(self._watch.engine[1])

    def hook(self, name: str, before: Hook | None, after: Hook | None) -> None:
        """As Process.on_syscall has it."""
        rows = []
        for index, isa in enumerate(ISAS[1:], 1):
            for nr, each in numbers(isa).items():
                if name in ("*", each):
                    rows.append((index, int(lib.emu_watch_row(nr))))
            if name == "*":
                rows += [(index, row) for row in range(lib.EMU_WATCH_ROWS)]
        if not rows:
            raise EmuError(f"no ISA has a system call {name!r}; see: python -m emu.linux.capabilities")
        for hooks, hook, want in (
            (self._before, before, lib.EMU_WANT_CALL),
            (self._after, after, lib.EMU_WANT_RESULT),
        ):
            if hook is None:
                continue
            hooks.setdefault(name, []).append(hook)
            for index, row in rows:
                self._watch.wanted[index][row] |= want

    def follow(self, pid: int, *, descendants: bool = False, end: float | None = None) -> int | None:
        """Looks at what is told until the process `pid` has ended; returns its wait status.

        descendants: until all have ended that are or become children of this process.  end: returns None when
        time.monotonic() has come so far, and may be called again.  What a hook raises is raised here, after
        the guest has been killed.
        """
        found: int | None = None
        patience = _PATIENCE
        try:
            while True:
                slot = int(lib.emu_watch_next(self._watch, patience))
                if slot >= 0:
                    if self.look(slot) != pid:
                        continue
                    patience = 1  # it is about to be gone
                try:
                    ended, status = os.waitpid(-1 if descendants else pid, os.WNOHANG)
                except ChildProcessError:
                    if found is None:
                        raise
                    break
                if ended and self.listener is not None:
                    self.listener.gone(ended, status)
                if ended == pid:
                    found = status
                    if not descendants:
                        break
                if end is not None and time.monotonic() >= end:
                    return None
                patience = min(patience * 2, _PATIENCE)
        except BaseException:
            lib.emu_watch_close(self._watch, 1)
            if found is None:
                try:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                except (ChildProcessError, ProcessLookupError):
                    pass
            raise
        lib.emu_watch_close(self._watch, 0)
        return found

    def stop(self) -> None:
        """The program and its children die at their next system call.  From any thread."""
        lib.emu_watch_close(self._watch, 1)

    def open(self) -> None:
        """Before each start of the program: what is told is looked at."""
        self._watch.closed = 0

    def look(self, slot: int) -> int:
        """One event; returns the pid of a process whose main thread ends with it, else 0."""
        try:
            ends = self._tell(slot)
        except Ended:
            ends = 0
        # Where a hook has raised, the thread waits for its process's end.
        lib.emu_watch_go(self._watch, slot)
        return ends

    def _tell(self, slot: int) -> int:
        kind = self._watch.slots[slot].kind
        if kind in (lib.EMU_WATCH_CALL, lib.EMU_WATCH_RESULT):
            self._call(Call(self._watch, slot))
            return 0
        event = Event(self._watch, slot)
        if self.listener is not None:
            if kind == lib.EMU_WATCH_SIGNAL:
                self.listener.signal(event, bytes(ffi.buffer(self._watch.slots[slot].info)))
            elif kind == lib.EMU_WATCH_END:
                self.listener.end(event, int(self._watch.slots[slot].result))
            else:
                self.listener.native(event)
        return event.pid if kind == lib.EMU_WATCH_END and event.pid == event.tid else 0

    def _call(self, call: Call) -> None:
        before = call.result is None
        if before and self.listener is not None:
            self.listener.call(call)
        # A call that begins again or becomes EINTR has no result yet.
        if before or (call.result != KEPT and call.result not in RESTARTS):
            hooks = self._before if before else self._after
            for hook in hooks.get(call.name, []) + hooks.get("*", []):
                hook(call)
                call._give_back()
        if not before and self.listener is not None:
            self.listener.result(call)
