"""`emu --strace`: lines as `strace -f` writes them.

A line is put together from what threads tell in turn: a call that another thread's line interrupts is
`<unfinished ...>` and comes back as `<... read resumed>`.
"""

from __future__ import annotations

import os

from emu.linux.decode import (
    Decoder,
    arguments_text,
    known,
    quoted,
    quoted_path,
    ready_text,
    result_text,
    shown,
    siginfo_text,
    signal_name,
)
from emu.linux.watch import BadAddress
from isa.syscalls import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from emu.linux.watch import Call, Event
    from isa.syscalls import Syscall

COLUMN = 40  # where the result stands, if the call is not longer


class Trace:
    """Lines, from what threads tell.  write: gets text; always: a thread's id stands before each line.

    Without `always`, while there is more than one thread.
    """

    def __init__(self, write: Callable[[str], object], *, always: bool = False) -> None:
        self._write = write
        self._always = always
        self._decoders: dict[str, tuple[Decoder, dict[int, Syscall]]] = {}
        self._open: int | None = None  # the thread whose line is not finished
        self._begun: dict[int, int] = {}  # arguments shown so far, of threads in a call
        self._threads: dict[int, int] = {}  # tid: pid
        self._told: set[int] = set()  # pids whose end has been told
        self._column = 0

    def start(self, pid: int, program: str, argv: Sequence[str], variables: int) -> None:
        """The program's own start, which is no call of its own."""
        self._threads[pid] = pid
        words = ", ".join(quoted(os.fsencode(word)) for word in argv)
        self._begin(pid)
        self._put(f"execve({quoted_path(os.fsencode(program))}, [{words}], [/* {variables} vars */])")
        self._finish("0")

    def _decoder(self, isa: str) -> tuple[Decoder, dict[int, Syscall]]:
        if isa not in self._decoders:
            self._decoders[isa] = Decoder(isa), load(isa)
        return self._decoders[isa]

    def _put(self, text: str) -> None:
        self._column += len(text)
        self._write(text)

    def _begin(self, tid: int) -> None:
        """A new line."""
        if self._open is not None:
            self._put(" <unfinished ...>\n")
        self._open = None
        self._column = 0
        if self._always:
            self._put(f"{tid:<5} ")
        elif len(self._threads) > 1:
            self._put(f"[pid {tid:5}] ")

    def _finish(self, result: str) -> None:
        self._put(" " * (COLUMN - 1 - self._column) + f" = {result}\n")
        self._open = None

    def _meet(self, tid: int, pid: int) -> None:
        if tid not in self._threads:
            self._threads[tid] = pid

    def call(self, call: Call) -> None:
        self._meet(call.tid, call.pid)
        decoder, _ = self._decoder(call.isa)
        self._begin(call.tid)
        if call.syscall is None:
            self._begun[call.tid] = 6
            self._put(f"syscall_{call.number:#x}({', '.join(map(hex, call.args))})")
        else:
            last = known(call.syscall, call.args)
            self._begun[call.tid] = last
            text = arguments_text(decoder, call.syscall, call.args, call.memory, 0, last)
            more = ", " if 0 < last < shown(call.syscall, call.args) else ""
            self._put(f"{call.name}({text}{more}")
            if last == shown(call.syscall, call.args):
                self._put(")")
        self._open = call.tid
        if call.name in ("exit", "exit_group"):
            self._finish("?")
            self._begun.pop(call.tid, None)

    def result(self, call: Call) -> None:
        first = self._begun.pop(call.tid, None)
        if first is None or call.result is None:
            return  # a fork's, in the child
        decoder, _ = self._decoder(call.isa)
        if call.name in ("wait4", "waitid", "waitpid") and call.result >= 0:
            self._reaped(call, decoder)
        last = shown(call.syscall, call.args) if call.syscall else 6
        if self._open != call.tid:
            self._begin(call.tid)
            self._put(f"<... {call.name or f'syscall_{call.number:#x}'} resumed>")
            if last == first:
                self._put(")")
        if call.syscall is None:
            self._finish(result_text(decoder, None, call.args, call.result))
            return
        if last > first:
            text = arguments_text(decoder, call.syscall, call.args, call.memory, first, last, call.result)
            self._put(text.removeprefix(", ") + ")")
        text = result_text(decoder, call.syscall, call.args, call.result)
        self._finish(text + ready_text(decoder, call.syscall, call.args, call.memory, call.result))
        if call.name in ("clone", "clone3", "fork", "vfork") and call.result > 0:
            new = call.result
            self._told.discard(new)
            if new not in self._threads:
                self._threads[new] = new
                if not self._always:
                    self._write(f"emu: Process {new} attached\n")

    def signal(self, event: Event, info: bytes) -> None:
        self._meet(event.tid, event.pid)
        decoder, _ = self._decoder(event.isa)
        number = int.from_bytes(info[:4], "little")
        self._begin(event.tid)
        self._put(f"--- {signal_name(number)} {siginfo_text(info, decoder.names)} ---\n")

    def end(self, event: Event, status: int) -> None:
        self._end(event.tid, event.pid, status)

    def native(self, event: Event) -> None:
        """What follows is not seen: the process has gone over to the host's kernel."""
        if self._open == event.tid:
            self._finish("? <goes on as a native program, which is not traced>")
        self._begun.pop(event.tid, None)

    def _reaped(self, call: Call, decoder: Decoder) -> None:
        """A child that was killed could not tell its end itself: its parent has heard of it."""
        try:
            if call.name != "waitid":
                pid = call.result or 0
                status = int.from_bytes(call.memory.read(call.args[1], 4), "little") if call.args[1] else 9
            else:
                info = call.memory.read(call.args[2], 28) if call.args[2] else bytes(28)
                code = int.from_bytes(info[8:12], "little")
                at = 16 if decoder.wide else 12
                pid = int.from_bytes(info[at : at + 4], "little") if code in (2, 3) else 0
                status = int.from_bytes(info[at + 8 : at + 12], "little")
        except BadAddress:
            return
        if pid in self._threads and pid not in self._told and os.WIFSIGNALED(status):
            self.gone(pid, status)
            self._told.discard(pid)

    def gone(self, pid: int, status: int) -> None:
        """A process was reaped; if it was killed it could not tell its end itself."""
        if pid not in self._told:
            for tid in [tid for tid, owner in self._threads.items() if owner == pid and tid != pid]:
                self._threads.pop(tid)
            self._end(pid, pid, status)
        self._told.discard(pid)

    def _end(self, tid: int, pid: int, status: int) -> None:
        self._begin(tid)
        if os.WIFSIGNALED(status):
            text = f"killed by {signal_name(os.WTERMSIG(status))}"
        else:
            text = f"exited with {os.waitstatus_to_exitcode(status)}"
        self._put(f"+++ {text} +++\n")
        self._threads.pop(tid, None)
        self._begun.pop(tid, None)
        if tid == pid:
            self._told.add(pid)
