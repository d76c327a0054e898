"""Hooks on a program's addresses: a debugger that lives here, in place of one that comes in.

What stops and steps threads is a debugger's target (emu/gdb/process.py); a thread that has come to an address
stands, as do all others, while its hooks are called.
"""

from __future__ import annotations

import os
import signal
import struct
import time

from accel.errors import EmuError
from emu.gdb.process import GDB_SIGNALS, LOOK, ProcessTarget
from emu.gdb.target import Action, Kind, Refused, Stop
from emu.linux.process import isa_of
from emu.linux.watch import BadAddress
from emu.native import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from emu.linux.process import Files, Process
    from emu.linux.watch import Watch

    Hook = Callable[["Hit"], object]

AT_ENTRY = 9
THUMB = 0x20


class Registers:
    """A thread's registers by isa's names ("x0", "pc", "v0", "rip"); values are unsigned."""

    def __init__(self, target: ProcessTarget, thread: int) -> None:
        self._target = target
        self._thread = thread

    def __iter__(self) -> Iterator[str]:
        return iter([register.name for register in self._target.registers])

    def __getitem__(self, name: str) -> int:
        (value,) = self._target.read_registers(self._thread, (name,))
        if value is None:
            raise EmuError(f"{self._target.arch.name} has no register {name!r}; there are {', '.join(self)}")
        return value

    def __setitem__(self, name: str, value: int) -> None:
        self[name]
        self._target.write_registers(self._thread, {name: value})


class Memory:
    """The program's memory, without what stops threads in it.  Raises BadAddress."""

    def __init__(self, target: ProcessTarget) -> None:
        self._target = target

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes."""
        try:
            found = self._target.read(address, size) if size else b""
        except Refused:
            found = b""
        if len(found) < size:
            raise BadAddress(f"guest address {address + len(found):#x} cannot be read")
        return found

    def write(self, address: int, data: bytes) -> None:
        """Also where the program may only read."""
        try:
            self._target.write(address, data)
        except Refused as error:
            raise BadAddress(str(error)) from None

    def string(self, address: int) -> str:
        """The NUL-terminated string there, as os.fsdecode has it; at most 4095 bytes of it."""
        found = bytearray()
        while len(found) < 4095 and b"\0" not in found:
            at = address + len(found)
            found += self.read(at, min(64, 4096 - at % 4096))
        return os.fsdecode(bytes(found[:4095].partition(b"\0")[0]))


class Hit:
    """A thread that has come to the address of a hook; the instruction there has not been executed.

    address; pid, tid; registers, memory: which the hook may change (with another pc, it goes on there).
    """

    def __init__(self, target: ProcessTarget, thread: int, address: int) -> None:
        self.address = address
        self.pid = target.pid
        self.tid = thread
        self.registers = Registers(target, thread)
        self.memory = Memory(target)

    def stop(self) -> None:
        """Kills the program: run() returns -9."""
        os.kill(self.pid, signal.SIGKILL)

    def __repr__(self) -> str:
        return f"<Hit of {self.address:#x} by {self.tid}>"


class Started:
    """What a target sees of a process that has been started already."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.files: Files = process.files

    def watch(self) -> Watch:
        return self._process.watch()

    def start(self) -> int:
        assert self._process.pid is not None
        return self._process.pid


class Stops:
    """The hooks of a program."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._wanted: list[tuple[int | str, Hook]] = []
        self._hooks: dict[int, list[Hook]] = {}
        self._sizes: dict[int, int] = {}
        self._target: ProcessTarget | None = None
        self._stop: Stop | None = None
        isa = isa_of(process.path, process.files)
        if not isa:
            raise EmuError(f"{process.path} is no ELF program that can be stopped at addresses")
        self._isa = isa

    def hook(self, where: int | str, function: Hook) -> None:
        """As Process.on_address."""
        if self._target is not None:
            raise EmuError("the program has been started; name its addresses before")
        self._wanted.append((where, function))

    def begin(self) -> None:
        """Before the program is started: it stands at its first instruction then."""
        self._target = ProcessTarget(Started(self._process), self._isa)  # type: ignore[arg-type]
        self._target.pass_signals(frozenset((*GDB_SIGNALS.values(), 143)))
        self._target.stopped = self._stopped
        self._stop = None
        self._hooks.clear()

    def _stopped(self, stop: Stop) -> None:
        self._stop = stop

    def follow(self, pid: int, end: float | None) -> int | None:
        """Calls hooks until the program has ended; its wait status, or None at the time `end`."""
        target = self._target
        assert target is not None
        try:
            if target.pid == 0:
                target.start()
                self._place(target)
                self._resume(target)
            while target.status_code is None:
                target.pump(LOOK)
                self._serve(target)
                if end is not None and time.monotonic() >= end and target.status_code is None:
                    return None
        except BaseException:
            lib.emu_watch_close(self._process.watch().pointer, 1)
            if target.status_code is None:
                try:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                except (ChildProcessError, ProcessLookupError):
                    pass
            self._target = None
            raise
        lib.emu_watch_close(self._process.watch().pointer, 0)
        self._target = None
        return target.status_code

    def _serve(self, target: ProcessTarget) -> None:
        """What it has stopped for, until it runs again."""
        while self._stop is not None and target.status_code is None:
            stop, self._stop = self._stop, None
            if stop.reason == "swbreak":
                (pc,) = target.read_registers(stop.thread, (target.arch.pc,))
                for hook in self._hooks.get(pc or 0, []):
                    hook(Hit(target, stop.thread, pc or 0))
                self._step_over(target, stop.thread)
            elif stop.reason == "exec":
                self._hooks.clear()
            if target.status_code is None and self._stop is None:
                self._resume(target)

    def _step_over(self, target: ProcessTarget, thread: int) -> None:
        """Executes the instruction at a breakpoint, if the thread is still there."""
        (pc,) = target.read_registers(thread, (target.arch.pc,))
        if pc not in self._sizes:
            return
        target.remove(Kind.SOFTWARE, pc, self._sizes[pc])
        try:
            target.resume({thread: Action(step=True)})
            while self._stop is None and target.status_code is None:
                target.pump(LOOK)
        finally:
            if target.status_code is None and self._hooks:
                target.insert(Kind.SOFTWARE, pc, self._sizes[pc])
        if self._stop is not None and not self._stop.reason:
            self._stop = None  # the step is done

    def _resume(self, target: ProcessTarget) -> None:
        target.resume({thread: Action() for thread in target.threads()})

    # -- where ----------------------------------------------------------------------------------

    def _place(self, target: ProcessTarget) -> None:
        for where, function in self._wanted:
            address, size = address_of(target, self._process.files, where)
            if address not in self._hooks:
                try:
                    target.insert(Kind.SOFTWARE, address, size)
                except Refused as error:
                    raise EmuError(f"no hook at {address:#x}: {error}") from None
            self._sizes[address] = size
            self._hooks.setdefault(address, []).append(function)


def address_of(target: ProcessTarget, files: Files, where: int | str) -> tuple[int, int]:
    """The address of an instruction and the size of a breakpoint there; where: as for Process.on_address."""
    name = target.arch.name
    size = {"x86_64": 1, "riscv64": 2}.get(name, 4)
    thumb = False
    if isinstance(where, str):
        address = _symbol(target, files, where)
        if name == "arm":
            (cpsr,) = target.read_registers(target.pid, ("cpsr",))
            thumb = bool((cpsr or 0) & THUMB)
    else:
        address = where & ~1 if name == "arm" else where
        thumb = address != where
    return address, 2 if thumb else size


def _symbol(target: ProcessTarget, files: Files, name: str) -> int:
    from emu.trace.symbols import Image

    path = os.fsdecode(target.object("exec-file", "") or b"")
    fd = files.peek(path)
    data = b""
    if fd >= 0:
        with open(fd, "rb") as file:
            data = file.read()
    image = Image(data)
    found = image.find(name)
    if not found:
        raise EmuError(f"{path} has no function {name!r} with a symbol; give its address")
    word = struct.Struct("<Q" if target.arch.bits == 64 else "<I")
    auxv = target.object("auxv", "") or b""
    values = [value for (value,) in word.iter_unpack(auxv[: len(auxv) // word.size * word.size])]
    entry = dict(zip(values[::2], values[1::2], strict=False)).get(AT_ENTRY, image.entry)
    # Both may have a 1 for Thumb.
    return int(found[0][0] + entry - image.entry)
