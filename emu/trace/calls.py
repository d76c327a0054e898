"""System calls and signals for a writer, through the watch (emu/linux/watch.py): a thread waits at each."""

from __future__ import annotations

import os
from time import monotonic_ns

from emu.linux.decode import (
    Decoder,
    arguments_text,
    known,
    ready_text,
    result_text,
    shown,
    siginfo_text,
    signal_name,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.linux.watch import Call, Event
    from emu.trace.session import Session


class _Begun:
    __slots__ = ("args", "last", "ns", "text")

    def __init__(self, ns: int, text: str, last: int, args: list[int]) -> None:
        self.ns, self.text, self.last, self.args = ns, text, last, args


class Calls:
    """A listener of the watch."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._decoders: dict[str, Decoder] = {}
        self._begun: dict[int, _Begun] = {}

    def _decoder(self, isa: str) -> Decoder:
        if isa not in self._decoders:
            self._decoders[isa] = Decoder(isa)
        return self._decoders[isa]

    def call(self, call: Call) -> None:
        session = self._session
        session.drain()
        name = call.name or f"syscall_{call.number:#x}"
        if call.syscall is None:
            text, last = f"{name}({', '.join(map(hex, call.args))}", 6
        else:
            last = known(call.syscall, call.args)
            text = arguments_text(self._decoder(call.isa), call.syscall, call.args, call.memory, 0, last)
            text = f"{name}({text}"
        begun = _Begun(monotonic_ns(), text, last, list(call.args))
        if call.name in ("exit", "exit_group"):
            self._put(begun, call, None, f"{text}) = ?")
        else:
            self._begun[call.tid] = begun

    def result(self, call: Call) -> None:
        self._session.drain()
        begun = self._begun.pop(call.tid, None)
        if begun is None or call.result is None:
            return  # a fork's, in the child
        decoder = self._decoder(call.isa)
        text = begun.text
        if call.syscall is not None:
            last = shown(call.syscall, call.args)
            if last > begun.last:
                more = arguments_text(
                    decoder, call.syscall, call.args, call.memory, begun.last, last, call.result
                )
                text += more if begun.last else more.removeprefix(", ")
            outcome = result_text(decoder, call.syscall, call.args, call.result)
            outcome += ready_text(decoder, call.syscall, call.args, call.memory, call.result)
        else:
            outcome = result_text(decoder, None, call.args, call.result)
        self._put(begun, call, call.result, f"{text}) = {outcome}")

    def _put(self, begun: _Begun, call: Call, result: int | None, text: str) -> None:
        session = self._session
        if session.writer is not None and session.wanted(call.tid):
            name = call.name or f"syscall_{call.number:#x}"
            session.writer.call(begun.ns, monotonic_ns(), call.pid, call.tid, name, begun.args, result, text)

    def signal(self, event: Event, info: bytes) -> None:
        self._session.drain()
        number = int.from_bytes(info[:4], "little")
        name = signal_name(number)
        text = f"--- {name} {siginfo_text(info, self._decoder(event.isa).names)} ---"
        self._event("signal", event, text, name=name)

    def end(self, event: Event, status: int) -> None:
        self._session.drain()
        if os.WIFSIGNALED(status):
            text = f"killed by {signal_name(os.WTERMSIG(status))}"
        else:
            text = f"exited with {os.waitstatus_to_exitcode(status)}"
        self._event("end", event, f"+++ {text} +++", name=text)

    def native(self, event: Event) -> None:
        """What follows is not seen: the process has gone over to the host's kernel."""
        self._session.drain()
        text = "goes on as a native program, which is not traced"
        self._event("native", event, f"+++ {text} +++", name=text)

    def gone(self, pid: int, status: int) -> None:
        """A process was reaped."""

    def _event(self, kind: str, event: Event, text: str, name: str) -> None:
        session = self._session
        if session.writer is not None and session.wanted(event.tid):
            session.writer.event(kind, monotonic_ns(), event.pid, event.tid, name=name, text=text)
