"""The stub: what a client of GDB's protocol may ask, and the answers.  No sockets, no engine.

A command is a method with @command of what its packet begins with; the longest beginning that fits is
taken.  It returns the answer, or None where that comes later (what runs has to stop first).  An empty answer
says that there is no such command, which is how clients find out what they can use.
"""

from __future__ import annotations

import os
import re
from binascii import hexlify, unhexlify
from typing import Any

from emu.gdb.protocol import INTERRUPT, PACKET_SIZE, Packets, escape, unescape
from emu.gdb.target import Action, Refused, Stop
from isa.gdb import target_xml

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.gdb.target import Target

    Command = Callable[["Stub", bytes], bytes | None]

OK = b"OK"
UNKNOWN = b""
_COMMANDS: dict[bytes, Command] = {}
# File-I/O's errors have the numbers of a common few systems (appendix E.13.8.2); others are 9999.
_FILEIO_ERRORS = frozenset((1, 2, 4, 5, 9, 13, 14, 16, 17, 19, 20, 21, 22, 23, 24, 27, 28, 29, 30))
_FILES = 16  # open at a time
_HEX = re.compile(rb"-?[0-9a-fA-F]{1,16}")


class Malformed(Exception):
    """A packet that is none of the protocol's."""


def command(*beginnings: bytes) -> Callable[[Command], Command]:
    """Enters a method into the table."""

    def enter(method: Command) -> Command:
        for beginning in beginnings:
            _COMMANDS[beginning] = method
        return method

    return enter


def number(text: bytes) -> int:
    """A hexadecimal number of at most 64 bits."""
    if not _HEX.fullmatch(text):
        raise Malformed
    return int(text, 16)


def numbers(text: bytes, separator: bytes = b",") -> list[int]:
    """Several, `separator` between them."""
    return [number(part) for part in text.split(separator)]


def unhex(text: bytes) -> bytes:
    """Bytes written as pairs of digits."""
    try:
        return unhexlify(text)
    except ValueError:
        raise Malformed from None


class Stub:
    """One client's connection to a target: receive() what it sends, and send on what output() has."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.packets = Packets()
        self.ended = False  # detached or killed: the connection is of no more use
        self.running = False
        self._current = 0  # thread of g, m ...; 0: any
        self._continued = 0  # of c and s; 0: any, -1: all
        self._features: frozenset[bytes] = frozenset()
        self._errors = False  # the client understands E.text
        self._files: dict[int, int] = {}
        self._waiting: list[bytes] = []  # commands that came while it ran
        self._order = {r.name: n for n, r in enumerate(target.registers)}
        self._xml = target_xml(
            target.arch,
            system=any(r.group == "system" for r in target.registers),
            extensions=any(r in target.arch.extensions for r in target.registers),
            osabi=target.osabi,
        )
        self._thread_xml = b""
        # g stops before the first register that is slow to read: clients ask for those by p.
        fast = [r.group != "system" or not r.encoding for r in target.registers]
        self._in_g = target.registers[: fast.index(False) if False in fast else None]
        self._g_names = tuple(r.name for r in self._in_g)
        self._g_sizes = tuple((r.width + 7) // 8 for r in self._in_g)
        arch = target.arch
        frame = {"aarch64": ("x29",), "arm": ("r11", "lr"), "riscv64": ("fp",), "x86_64": ("rbp",)}[arch.name]
        names = dict.fromkeys((*frame, arch.sp, arch.pc))
        self._expedited = tuple(name for name in names if name in self._order)
        target.stopped = self.stopped

    # -- bytes -------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Takes what the client has sent."""
        for event in self.packets.receive(data):
            if event is INTERRUPT:
                if self.running:
                    self.target.interrupt()
            elif isinstance(event, bytes):
                if self.running and not event.startswith((b"vCtrlC", b"vCont;t")):
                    self._waiting.append(event)
                    del self._waiting[64:]
                else:
                    self._execute(event)

    def output(self) -> bytes:
        """What is to be sent to it."""
        return self.packets.output()

    def close(self) -> None:
        """The client has gone."""
        for fd in self._files.values():
            os.close(fd)
        self._files.clear()

    def _execute(self, packet: bytes) -> None:
        answer = self._answer(packet)
        if answer is not None:
            self.packets.send(answer)

    def _answer(self, packet: bytes) -> bytes | None:
        for length in range(min(len(packet), 24), 0, -1):
            method = _COMMANDS.get(packet[:length])
            if method is None:
                continue
            try:
                return method(self, packet[length:])
            except Malformed:
                return b"E16"  # EINVAL
            except Refused as refusal:
                return self._refusal(str(refusal))
        return UNKNOWN

    def _refusal(self, text: str) -> bytes:
        if not self._errors:
            return b"E01"
        return b"E.emu." + text.encode("ascii", "replace").replace(b"#", b"?").replace(b"$", b"?")

    # -- stopping ----------------------------------------------------------------------------

    def stopped(self, stop: Stop) -> None:
        """What runs has stopped, or ended."""
        if not self.running:
            return
        self.running = False
        self.packets.send(self._stop(stop))
        while self._waiting and not self.running:
            self._execute(self._waiting.pop(0))

    def _stop(self, stop: Stop) -> bytes:
        if stop.reason == "exited":
            return b"W%02x" % (stop.signal & 0xFF)
        if stop.reason == "killed":
            return b"X%02x" % (stop.signal & 0xFF)
        self._current = stop.thread
        parts = [b"T%02x" % stop.signal]
        values = self.target.read_registers(stop.thread, self._expedited)
        for name, value in zip(self._expedited, values, strict=True):
            if value is not None:
                register = self.target.registers[self._order[name]]
                parts.append(b"%x:%b;" % (register.number, self._hex(register.width, value)))
        parts.append(b"thread:%x;" % stop.thread)
        if stop.reason in ("watch", "rwatch", "awatch"):
            assert isinstance(stop.value, int)
            parts.append(b"%b:%x;" % (stop.reason.encode(), stop.value))
        elif stop.reason in ("swbreak", "hwbreak") and stop.reason.encode() in self._features:
            parts.append(stop.reason.encode() + b":;")
        elif stop.reason == "exec" and b"exec-events" in self._features:
            parts.append(b"exec:%b;" % hexlify(os.fsencode(str(stop.value))))
        return b"".join(parts)

    @command(b"?")
    def _why(self, rest: bytes) -> bytes:
        return self._stop(self.target.status())

    # -- what a client can do ------------------------------------------------------------------

    @command(b"qSupported")
    def _supported(self, rest: bytes) -> bytes:
        offered = rest.lstrip(b":").split(b";")
        self._features = frozenset(word[:-1] for word in offered if word.endswith(b"+"))
        self._errors = bool(self._features & {b"error-message", b"swbreak", b"hwbreak", b"vContSupported"})
        known = [
            b"PacketSize=%x" % PACKET_SIZE,
            b"QStartNoAckMode+",
            b"qXfer:features:read+",
            b"qXfer:threads:read+",
            b"vContSupported+",
            b"swbreak+",
            b"hwbreak+",
            b"binary-upload+",
        ]
        for name in ("auxv", "exec-file", "libraries-svr4", "memory-map", "siginfo"):
            if self.target.object(name, "", self._thread()) is not None:
                known.append(b"qXfer:%b:read+" % name.encode())
        if self.target.osabi:
            known += [b"QPassSignals+", b"exec-events+"]
        return b";".join(known)

    @command(b"QStartNoAckMode")
    def _no_acks(self, rest: bytes) -> bytes | None:
        self.packets.send(OK)
        self.packets.no_acks = True
        return None

    @command(b"qSymbol", b"QThreadEvents", b"QCatchSyscalls")
    def _ignored(self, rest: bytes) -> bytes:
        return OK if rest.startswith(b":") and len(rest) < 3 else UNKNOWN

    @command(b"QPassSignals:")
    def _pass_signals(self, rest: bytes) -> bytes:
        signals = frozenset(number(word) for word in rest.split(b";") if word)
        passing = getattr(self.target, "pass_signals", None)
        if passing is None:
            return UNKNOWN
        passing(signals)
        return OK

    @command(b"qHostInfo")
    def _host(self, rest: bytes) -> bytes:
        return self._described()

    @command(b"qProcessInfo")
    def _process(self, rest: bytes) -> bytes:
        if not self.target.osabi:
            return UNKNOWN
        return b"pid:%x;" % self.target.pid + self._described()

    def _described(self) -> bytes:
        arch = self.target.arch
        system = "unknown-linux-gnu" if self.target.osabi else "unknown-none"
        name = {"arm": "armv7"}.get(arch.name, arch.name)
        when = b"after" if arch.name == "x86_64" else b"before"
        return b"triple:%b;endian:little;ptrsize:%d;ostype:%b;watchpoint_exceptions_received:%b;" % (
            hexlify(f"{name}-{system}".encode()),
            arch.bits // 8,
            b"linux" if self.target.osabi else b"unknown",
            when,
        )

    @command(b"qAttached")
    def _attached(self, rest: bytes) -> bytes:
        return b"1" if self.target.attached else b"0"

    @command(b"qXfer:")
    def _transfer(self, rest: bytes) -> bytes:
        name, _, rest = rest.partition(b":")
        operation, _, rest = rest.partition(b":")
        annex, colon, place = rest.rpartition(b":")
        if operation != b"read" or not colon:
            return UNKNOWN
        where = numbers(place)
        if len(where) != 2 or min(where) < 0:
            raise Malformed
        offset, length = where
        length = min(length, PACKET_SIZE // 2)
        if name == b"features":
            data: bytes | None = self._xml.encode() if annex == b"target.xml" else None
        elif name == b"threads":
            if offset == 0 or not self._thread_xml:
                self._thread_xml = self._threads_xml()
            data = self._thread_xml
        else:
            words = (name.decode("ascii", "replace"), annex.decode("ascii", "replace"))
            data = self.target.object(*words, self._thread())
        if data is None:
            return b"E00"
        piece = data[offset : offset + length]
        return (b"m" if offset + length < len(data) else b"l") + escape(piece)

    def _threads_xml(self) -> bytes:
        from html import escape as text

        lines = ["<threads>"]
        for thread in self.target.threads():
            described = self.target.thread_text(thread)
            lines.append(f'<thread id="{thread:x}" name="{text(described)}"></thread>')
        lines.append("</threads>")
        return "\n".join(lines).encode("utf-8", "replace")

    # -- threads ------------------------------------------------------------------------------

    def _thread(self) -> int:
        if self._current > 0:
            return self._current
        return self.target.status().thread

    @command(b"qfThreadInfo")
    def _first_threads(self, rest: bytes) -> bytes:
        return b"m" + b",".join(b"%x" % thread for thread in self.target.threads())

    @command(b"qsThreadInfo")
    def _more_threads(self, rest: bytes) -> bytes:
        return b"l"

    @command(b"qThreadExtraInfo,")
    def _thread_extra(self, rest: bytes) -> bytes:
        return hexlify(self.target.thread_text(number(rest)).encode("utf-8", "replace"))

    @command(b"qC")
    def _current_thread(self, rest: bytes) -> bytes:
        return UNKNOWN if rest else b"QC%x" % self._thread()

    @command(b"H")
    def _select(self, rest: bytes) -> bytes:
        operation, thread = rest[:1], number(rest[1:])
        if thread > 0 and thread not in self.target.threads():
            return b"E03"  # ESRCH
        if operation == b"g":
            self._current = max(thread, 0)
        elif operation == b"c":
            self._continued = thread
        else:
            return UNKNOWN
        return OK

    @command(b"T")
    def _alive(self, rest: bytes) -> bytes:
        return OK if number(rest) in self.target.threads() else b"E03"

    # -- registers ------------------------------------------------------------------------------

    def _hex(self, width: int, value: int | None) -> bytes:
        size = (width + 7) // 8
        if value is None:
            return b"xx" * size
        return hexlify((value & (1 << 8 * size) - 1).to_bytes(size, "little"))

    @command(b"g")
    def _registers(self, rest: bytes) -> bytes:
        values = self.target.read_registers(self._thread(), self._g_names)
        if None not in values:
            parts = zip(values, self._g_sizes, strict=True)
            return hexlify(b"".join([value.to_bytes(size, "little") for value, size in parts]))  # type: ignore[union-attr]
        return b"".join(self._hex(r.width, v) for r, v in zip(self._in_g, values, strict=True))

    @command(b"G")
    def _set_registers(self, rest: bytes) -> bytes:
        data = unhex(rest)
        values = {}
        for register, size in zip(self._in_g, self._g_sizes, strict=True):
            if len(data) < size:
                break
            values[register.name] = int.from_bytes(data[:size], "little") & (1 << register.width) - 1
            data = data[size:]
        present = self.target.read_registers(self._thread(), tuple(values))
        changed = {n: v for (n, v), old in zip(values.items(), present, strict=True) if old not in (None, v)}
        if changed:
            self.target.write_registers(self._thread(), changed)
        return OK

    def _register(self, text: bytes) -> Any:
        wanted = number(text)
        for register in self.target.registers:
            if register.number == wanted:
                return register
        raise Malformed

    @command(b"p")
    def _read_register(self, rest: bytes) -> bytes:
        register = self._register(rest)
        (value,) = self.target.read_registers(self._thread(), (register.name,))
        return self._hex(register.width, value)

    @command(b"P")
    def _write_register(self, rest: bytes) -> bytes:
        name, _, text = rest.partition(b"=")
        register = self._register(name)
        value = int.from_bytes(unhex(text), "little") & (1 << register.width) - 1
        self.target.write_registers(self._thread(), {register.name: value})
        return OK

    # -- memory ----------------------------------------------------------------------------------

    def _read(self, rest: bytes) -> bytes:
        place = numbers(rest)
        if len(place) != 2 or min(place) < 0:
            raise Malformed
        return self.target.read(place[0], min(place[1], PACKET_SIZE // 2 - 8)) if place[1] else b""

    @command(b"m")
    def _read_memory(self, rest: bytes) -> bytes:
        try:
            return hexlify(self._read(rest))
        except Refused:
            return b"E14"  # EFAULT

    @command(b"x")
    def _read_binary(self, rest: bytes) -> bytes:
        try:
            return b"b" + escape(self._read(rest))
        except Refused:
            return b"E14"

    def _write(self, head: bytes, data: bytes) -> bytes:
        place = numbers(head)
        if len(place) != 2 or place[0] < 0 or place[1] != len(data):
            raise Malformed
        if data:
            try:
                self.target.write(place[0], data)
            except Refused:
                return b"E14"
        return OK

    @command(b"M")
    def _write_memory(self, rest: bytes) -> bytes:
        head, _, text = rest.partition(b":")
        return self._write(head, unhex(text))

    @command(b"X")
    def _write_binary(self, rest: bytes) -> bytes:
        head, _, data = rest.partition(b":")
        return self._write(head, unescape(data))

    @command(b"Z")
    def _insert(self, rest: bytes) -> bytes:
        return self._break(rest, "insert")

    @command(b"z")
    def _remove(self, rest: bytes) -> bytes:
        return self._break(rest, "remove")

    def _break(self, rest: bytes, change: str) -> bytes:
        kind, _, rest = rest.partition(b",")
        place = numbers(rest.partition(b";")[0])
        if len(place) != 2 or min(place) < 0:
            raise Malformed
        known = {b"%d" % kind.value: kind for kind in self.target.kinds}.get(kind)
        if known is None:
            return UNKNOWN
        getattr(self.target, change)(known, *place)
        return OK

    # -- running -------------------------------------------------------------------------------

    def _resume(self, actions: dict[int, Action]) -> None:
        self.running = True
        try:
            self.target.resume(actions)
        except BaseException:
            self.running = False
            raise

    @command(b"vCont?")
    def _can_continue(self, rest: bytes) -> bytes:
        return b"vCont;c;C;s;S;r;t"

    @command(b"vCont;")
    def _continue_each(self, rest: bytes) -> bytes | None:
        threads = self.target.threads()
        actions: dict[int, Action] = {}
        others: Action | None = None
        for part in rest.split(b";"):
            word, _, which = part.partition(b":")
            action = self._action(word)
            if action is None:
                return OK  # t: all are stopped
            if which in (b"", b"-1"):
                others = others or action
            else:
                actions.setdefault(number(which), action)
        actions = {thread: action for thread, action in actions.items() if thread in threads}
        if others is not None:
            for thread in threads:
                actions.setdefault(thread, others)
        if not actions:
            return b"E03"
        self._resume(actions)
        return None

    def _action(self, word: bytes) -> Action | None:
        kind, rest = word[:1], word[1:]
        if kind == b"t":
            return None
        if kind in (b"c", b"s") and not rest:
            return Action(step=kind == b"s")
        if kind in (b"C", b"S"):
            return Action(step=kind == b"S", signal=number(rest))
        if kind == b"r":
            bounds = numbers(rest)
            if len(bounds) == 2:
                return Action(step=True, within=(bounds[0], bounds[1]))
        raise Malformed

    @command(b"vCtrlC")
    def _control_c(self, rest: bytes) -> bytes:
        if self.running:
            self.target.interrupt()
        return OK

    def _go(self, step: bool, rest: bytes, *, signalled: bool = False) -> None:
        signal = 0
        if signalled:
            text, _, rest = rest.partition(b";")
            signal = number(text)
        threads = self.target.threads()
        moving = self._continued if self._continued in threads else self.target.status().thread
        if rest:
            self.target.write_registers(moving, {self.target.arch.pc: number(rest)})
        if step or self._continued > 0:
            self._resume({moving: Action(step=step, signal=signal)})
        else:
            self._resume({t: Action(signal=signal if t == moving else 0) for t in threads})

    @command(b"c")
    def _go_on(self, rest: bytes) -> None:
        self._go(False, rest)

    @command(b"s")
    def _step(self, rest: bytes) -> None:
        self._go(True, rest)

    @command(b"C")
    def _go_on_with(self, rest: bytes) -> None:
        self._go(False, rest, signalled=True)

    @command(b"S")
    def _step_with(self, rest: bytes) -> None:
        self._go(True, rest, signalled=True)

    @command(b"D")
    def _detach(self, rest: bytes) -> bytes:
        self.ended = True
        self.target.detach()
        return OK

    @command(b"k")
    def _kill(self, rest: bytes) -> None:
        self.ended = True
        self.target.kill()

    @command(b"vKill;")
    def _kill_told(self, rest: bytes) -> bytes:
        self.ended = True
        self.target.kill()
        return OK

    @command(b"R")
    def _restart(self, rest: bytes) -> None:
        self.target.reset()

    # -- monitor -----------------------------------------------------------------------------------

    @command(b"qRcmd,")
    def _monitor(self, rest: bytes) -> bytes | None:
        words = unhex(rest).decode("utf-8", "replace")
        text = self.target.monitor(words).encode("utf-8", "replace")
        for at in range(0, len(text), PACKET_SIZE // 4):
            self.packets.send(b"O" + hexlify(text[at : at + PACKET_SIZE // 4]))
        return OK

    @command(b"qqemu.")
    def _setting(self, rest: bytes) -> bytes:
        answer = self.target.setting(rest.decode("ascii", "replace"), None)
        return UNKNOWN if answer is None else answer.encode()

    @command(b"Qqemu.")
    def _set_setting(self, rest: bytes) -> bytes:
        words = rest.decode("ascii", "replace")
        name, _, text = words.partition("=" if "=" in words else ":")
        return UNKNOWN if self.target.setting(name, text) is None else OK

    # -- files: the executable and its libraries ------------------------------------------------

    @command(b"vFile:setfs:")
    def _file_system(self, rest: bytes) -> bytes:
        return b"F0"

    @command(b"vFile:open:")
    def _file_open(self, rest: bytes) -> bytes:
        name, _, options = rest.partition(b",")
        flags, _, _ = options.partition(b",")
        if number(flags) & 3:
            return b"F-1,1e"  # EROFS
        if len(self._files) == _FILES:
            return b"F-1,18"  # EMFILE
        try:
            fd = self.target.open(os.fsdecode(unhex(name)))
        except (OSError, ValueError) as error:
            return self._file_error(error)
        handle = next(n for n in range(3, 3 + _FILES + 1) if n not in self._files)
        self._files[handle] = fd
        return b"F%x" % handle

    def _file_error(self, error: Exception) -> bytes:
        code = error.errno if isinstance(error, OSError) else 22
        return b"F-1,%x" % (code if code in _FILEIO_ERRORS else 9999)

    @command(b"vFile:close:")
    def _file_close(self, rest: bytes) -> bytes:
        fd = self._files.pop(number(rest), None)
        if fd is None:
            return b"F-1,9"
        os.close(fd)
        return b"F0"

    @command(b"vFile:pread:")
    def _file_read(self, rest: bytes) -> bytes:
        place = numbers(rest)
        if len(place) != 3 or place[0] not in self._files or min(place) < 0:
            return b"F-1,9"
        try:
            data = os.pread(self._files[place[0]], min(place[1], PACKET_SIZE // 2), min(place[2], 1 << 62))
        except OSError as error:
            return self._file_error(error)
        return b"F%x;%b" % (len(data), escape(data))

    @command(b"vFile:fstat:")
    def _file_status(self, rest: bytes) -> bytes:
        fd = self._files.get(number(rest))
        if fd is None:
            return b"F-1,9"
        found = os.fstat(fd)
        words = (0, 0, found.st_mode, 1, 0, 0, 0)
        data = b"".join((word & 0xFFFF_FFFF).to_bytes(4, "big") for word in words)
        data += b"".join(n.to_bytes(8, "big") for n in (found.st_size, 4096, (found.st_size + 511) // 512))
        data += b"".join(int(t).to_bytes(4, "big") for t in (found.st_atime, found.st_mtime, found.st_ctime))
        return b"F%x;%b" % (len(data), escape(data))

    @command(b"vFile:")
    def _file_other(self, rest: bytes) -> bytes:
        return UNKNOWN
