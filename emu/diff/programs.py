"""A Linux program as a side of a comparison: stepped as by a debugger, system calls as the first side's.

What the first program's system calls have brought, their results and what they wrote into memory, the second
one gets: it asks the kernel only for what makes its own memory, files and threads what they are.  So both
read the same input, at the same time of day, and the second one writes nothing.
"""

from __future__ import annotations

import time
from collections import deque

from accel.errors import EmuError
from emu.diff.lockstep import Found, Lockstep
from emu.gdb.process import GDB_SIGNALS, LOOK, ProcessTarget
from emu.gdb.target import SIGTRAP, Action, Kind, Refused, Stop
from emu.linux.process import Process, isa_of
from emu.linux.stops import Started, address_of
from emu.linux.watch import BadAddress, Call
from emu.native import lib
from emu.trace.disassembly import Disassembly

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from emu.diff.lockstep import Side

# What the second side does itself.
PERFORMED = frozenset(
    [
        "brk",
        "mmap",
        "mmap2",
        "munmap",
        "mprotect",
        "mremap",
        "madvise",
        "mlock",
        "munlock",
        "membarrier",
        "rt_sigaction",
        "rt_sigprocmask",
        "rt_sigreturn",
        "sigreturn",
        "sigaltstack",
        "sigaction",
        "sigprocmask",
        "rt_sigsuspend",
        "set_tid_address",
        "set_robust_list",
        "rseq",
        "arch_prctl",
        "set_tls",
        "cacheflush",
        "prctl",
        "personality",
        "riscv_flush_icache",
        "clone",
        "clone3",
        "fork",
        "vfork",
        "exit",
        "exit_group",
        "execve",
        "execveat",
        "futex",
        "kill",
        "tkill",
        "tgkill",
        "open",
        "openat",
        "openat2",
        "creat",
        "close",
        "dup",
        "dup2",
        "dup3",
        "fcntl",
        "pipe",
        "pipe2",
        "eventfd2",
        "memfd_create",
    ]
)
# What it does itself, and is told the first side's result of: ids of processes.
IDENTIFYING = frozenset(("set_tid_address", "clone", "clone3", "fork", "vfork"))
SIGNALLING = frozenset(("kill", "tkill", "tgkill"))
# Bytes of memory that are taken over: at most, and where an argument does not say how many.
MOST, SOME = 1 << 20, 512
PAGE = 4096
# Seconds until a step is given up: it waits in a system call for another thread.
PATIENCE = 10.0
LONGEST = 15
THUMB = 0x20
CPU = (16, 26)  # AT_HWCAP, AT_HWCAP2


def words(data: bytes, size: int) -> list[int]:
    """Little-endian numbers of `size` bytes."""
    return [int.from_bytes(data[at : at + size], "little") for at in range(0, len(data) - size + 1, size)]


ENGINES = ("translator", "unicorn", "kvm")


def compare(
    args: Sequence[str],
    engines: tuple[str, str] = ("translator", "unicorn"),
    *,
    start: int | str | None = None,
    count: int | None = None,
    adopt: Iterable[str] = (),
    ignore: Iterable[str] = (),
    everything: bool = False,
    **options: Any,
) -> Found:
    """Runs a program of one thread on two engines, an instruction on each, up to the first difference.

    args: the program and its arguments; engines: two of ENGINES; options: Process's sysroot, root, environ,
    stdin, stdout, stderr.  What the system calls of the first brought, the second gets; it writes nothing.
    The rest is lockstep's.
    """
    sides: list[ProgramSide] = []
    try:
        for engine in engines:
            sides.append(ProgramSide(args, engine, options, everything))
        return Lockstep(sides[0], sides[1], count, frozenset(adopt), frozenset(ignore)).run(start)
    finally:
        for side in sides:
            side.close()


class Answer:
    """What a system call of the first side has brought."""

    __slots__ = ("memory", "name", "result")

    def __init__(self, name: str, result: int, memory: list[tuple[int, bytes]]) -> None:
        self.name = name
        self.result = result
        self.memory = memory


class ProgramSide:
    """A program; engine: the name of one of ENGINES, by which it is called."""

    def __init__(self, args: Sequence[str], engine: str, options: dict[str, Any], everything: bool) -> None:
        accel = "kvm" if engine == "kvm" else "tcg"
        process = Process(args[0], args, accel=accel, engine=None if accel == "kvm" else engine, **options)
        isa = isa_of(process.path, process.files)
        if not isa:
            raise EmuError(f"{process.path} is no ELF program that can be executed by steps")
        self.process = process
        self.name = engine
        self.answers: deque[Answer] = deque()
        self._stop: Stop | None = None
        process.on_syscall("*", self._called, self._answered)
        self._other: ProgramSide | None = None
        self._second = False
        process.watch()
        self.target = ProcessTarget(Started(process), isa)  # type: ignore[arg-type]
        self.target.pass_signals(frozenset((*GDB_SIGNALS.values(), 143)))
        self.target.stopped = self._stopped
        self.arch = self.target.arch
        self._disassembly = Disassembly(isa)
        process.start()
        # The next side's memory then begins where this one's did.
        process.release()
        self.target.start()
        if self.target.status_code is not None:
            raise EmuError(f"{process.path} has ended before its first instruction")
        self.thread = self.target.pid
        groups = {r.name: r.group for r in self.target.registers}
        names = [name for name, group in groups.items() if everything or group == "general"]
        values = self.target.read_registers(self.thread, tuple(names))
        there = [name for name, value in zip(names, values, strict=True) if value is not None]
        self.names = (self.arch.pc, *(name for name in there if name not in (self.arch.pc, "orig_rax")))

    def _stopped(self, stop: Stop) -> None:
        self._stop = stop

    # -- system calls --------------------------------------------------------------------------

    def _called(self, call: Call) -> None:
        """Before a call of the second side's."""
        other = self._other
        if not self._second or other is None or call.pid != self.target.pid:
            return
        if call.name in SIGNALLING:
            mine = {other.target.pid: self.target.pid}
            call.args[:] = [mine.get(value, value) for value in call.args]
        if call.name in PERFORMED or not other.answers:
            return
        answer = other.answers.popleft()
        if answer.name != call.name:
            return
        for address, data in answer.memory:
            try:
                call.memory.write(address, data)
            except BadAddress:
                pass  # the results differ then
        call.result = answer.result

    def _answered(self, call: Call) -> None:
        """After a call of the first side's, or one that identifies processes of the second's."""
        if call.pid != self.target.pid or call.syscall is None or call.result is None:
            return
        identifies = call.name in IDENTIFYING
        if self._second:
            if identifies and self._other is not None and self._other.answers:
                call.result = self._other.answers.popleft().result
            return
        if call.name in PERFORMED and not identifies:
            return
        memory: list[tuple[int, bytes]] = []
        values = dict(zip([a.name for a in call.syscall.arguments], call.args, strict=True))
        for argument, address in zip(call.syscall.arguments, call.args, strict=True):
            if argument.kind in ("out", "inout", "ptr") and address and not identifies:
                size = SOME
                if argument.kind == "out" and argument.count in values and not argument.element:
                    size = values[argument.count] if call.syscall.result != "size" else max(call.result, 0)
                memory.append((address, self._there(call, address, min(size, MOST))))
        self.answers.append(Answer(call.name, call.result, memory))

    @staticmethod
    def _there(call: Call, address: int, size: int) -> bytes:
        """As much as can be read."""
        try:
            return call.memory.read(address, size)
        except BadAddress:
            try:
                return call.memory.read(address, min(size, PAGE - address % PAGE))
            except BadAddress:
                return b""

    # -- what lockstep asks for ----------------------------------------------------------------------

    def state(self) -> tuple[int, ...]:
        return tuple(value or 0 for value in self.target.read_registers(self.thread, self.names))

    def set(self, values: dict[str, int]) -> None:
        self.target.write_registers(self.thread, values)

    def instruction(self, address: int) -> tuple[bytes, str]:
        try:
            data = self.target.read(address, LONGEST if self.arch.name == "x86_64" else 4)
        except (Refused, OSError):
            return b"", ""
        thumb = self.arch.name == "arm" and bool((self._get("cpsr") or 0) & THUMB)
        text, size = self._disassembly.of(address, data, thumb)
        return data[:size], text

    def _get(self, name: str) -> int | None:
        return self.target.read_registers(self.thread, (name,))[0]

    def reach(self, where: int | str) -> None:
        address, size = address_of(self.target, self.process.files, where)
        try:
            self.target.insert(Kind.SOFTWARE, address, size)
        except Refused as error:
            raise EmuError(f"no program can stop at {address:#x}: {error}") from None
        self._stop = None
        self.target.resume({thread: Action() for thread in self.target.threads()})
        while self._stop is None:
            self.target.pump(LOOK)
        if self._stop.reason != "swbreak":
            raise EmuError(f"{self.name}: the program has {self._stop.reason} before it came to {where}")
        self.target.remove(Kind.SOFTWARE, address, size)

    def step(self) -> str:
        self._stop = None
        self.target.resume({self.thread: Action(step=True)})
        end = time.monotonic() + PATIENCE
        while self._stop is None:
            if time.monotonic() > end:
                return "it waits in a system call"
            self.target.pump(LOOK)
        stop = self._stop
        if stop.reason == "exited":
            return f"it has ended with status {stop.signal}"
        if stop.reason == "killed":
            return f"signal {stop.signal} (gdb's number) has killed it"
        if stop.reason == "exec":
            return f"it executes {stop.value}"
        return "" if stop.signal == SIGTRAP else f"signal {stop.signal} (gdb's number)"

    def memory(self, other: Side) -> tuple[int, bytes, bytes] | None:
        return None  # it has gone with the programs

    def agree(self, other: Side) -> None:
        """The second one's stack is the first one's: arguments, environment, random bytes.

        Both are told of the CPU what holds on either engine.
        """
        assert isinstance(other, ProgramSide)
        self._other, other._other, other._second = other, self, True
        sp = self._get(self.arch.sp)
        assert sp is not None
        if other._get(self.arch.sp) == sp:
            stack = bytearray(self.target.read(sp, MOST))
            size = self.arch.bits // 8
            theirs = words(other.target.object("auxv", "") or b"", size)
            known = dict(zip(theirs[::2], theirs[1::2], strict=False))
            mine = words(bytes(stack), size)
            # argc, its arguments and a 0, the environment and a 0, then pairs up to a 0.
            at = mine.index(0, 2 + mine[0]) + 1
            while mine[at]:
                if mine[at] in CPU:
                    both = mine[at + 1] & known.get(mine[at], 0)
                    stack[(at + 1) * size : (at + 2) * size] = both.to_bytes(size, "little")
                at += 2
            for side in (self, other):
                side.target.write(sp, bytes(stack))

    def close(self) -> None:
        if self.target.status_code is None:
            lib.emu_watch_close(self.process.watch().pointer, 1)
            self.target.kill()
        self.process.ended(self.target.status_code or 0)
        self.process.close()
