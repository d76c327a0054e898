"""The human monitor where people type: a prompt, keys and lines, telnet's negotiation."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from emu.backends.telnet import CHARACTERWISE, Telnet
from emu.monitor.command import Later
from emu.monitor.hmp import LONGEST_LINE, Hmp, human_commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.backends.chardev import Chardev
    from emu.loop import Loop
    from emu.monitor.client import Client
    from emu.monitor.events import Event
    from emu.monitor.server import Speech

PROMPT = b"(emu) "
WELCOME = b"emu's monitor; `help` tells the commands\r\n"
HISTORY = 100


class LineEditor:
    """Keys to lines, with what is to be shown of them; echo: whether the terminal shows none itself."""

    def __init__(self, echo: bool) -> None:
        self.echo = echo
        self.line = ""
        self._escape = b""
        self._after_return = False
        self._history: list[str] = []
        self._place = 0

    def keys(self, data: bytes) -> Iterator[tuple[bytes, str | None]]:
        """For what was typed: bytes to show, and a line when one is complete."""
        text = bytearray()
        for byte in data:
            if not self._escape and (0x20 <= byte < 0x7F or byte >= 0x80):
                text.append(byte)
                continue
            if text:
                yield self._insert(text), None
                text = bytearray()
            yield self._key(byte)
        if text:
            yield self._insert(text), None

    def _insert(self, typed: bytes | bytearray) -> bytes:
        self._after_return = False
        room = LONGEST_LINE + 1 - len(self.line)
        added = typed.decode(errors="replace")[:room]
        self.line += added
        return added.encode() if self.echo else b""

    def _key(self, byte: int) -> tuple[bytes, str | None]:
        after_return, self._after_return = self._after_return, byte == 0x0D
        if self._escape:
            return self._in_escape(byte), None
        if byte in (0x0D, 0x0A):
            if byte == 0x0A and after_return:
                return b"", None
            line, self.line = self.line, ""
            if line.strip() and self._history[-1:] != [line]:
                self._history = [*self._history[1 - HISTORY :], line]
            self._place = len(self._history)
            return (b"\r\n" if self.echo else b""), line
        if byte in (0x7F, 0x08):
            return self._replace(self.line[:-1]), None
        if byte in (0x15, 0x03):  # Ctrl-U, Ctrl-C
            return self._replace(""), None
        if byte == 0x17:  # Ctrl-W
            return self._replace("".join(self.line.rstrip().rpartition(" ")[:2])), None
        if byte == 0x09:
            return self._complete(), None
        if byte == 0x1B:
            self._escape = b"\x1b"
        return b"", None

    def _in_escape(self, byte: int) -> bytes:
        self._escape += bytes([byte])
        if len(self._escape) < 3 and byte in b"[O":
            return b""
        key, self._escape = self._escape[-1:], b""
        if key not in (b"A", b"B") or not self._history:
            return b""
        self._place = min(max(0, self._place + (1 if key == b"B" else -1)), len(self._history))
        return self._replace(self._history[self._place] if self._place < len(self._history) else "")

    def _complete(self) -> bytes:
        names = [name for name in sorted(human_commands()) if name.startswith(self.line)]
        if len(names) == 1:
            return self._replace(names[0] + " ")
        return b""

    def _replace(self, line: str) -> bytes:
        before, self.line = self.line, line
        if not self.echo or before == line:
            return b""
        return b"\r" + PROMPT + line.encode() + b"\x1b[K"


class HmpSpeech:
    """A person's conversation.  telnet: with its negotiation; echo: typed keys are shown."""

    def __init__(self, client: Client, *, telnet: bool = False, echo: bool = False) -> None:
        self.client = client
        self.ended = False
        self.hmp = Hmp(client)
        self._telnet = Telnet() if telnet else None
        self.editor = LineEditor(echo or telnet)

    def begin(self) -> bytes:
        return (CHARACTERWISE if self._telnet else b"") + WELCOME + PROMPT

    def hear(self, data: bytes) -> Iterator[bytes | Later[Any]]:
        typed = self._telnet.plain(data) if self._telnet else data
        for shown, line in self.editor.keys(typed.replace(b"\0", b"")):
            yield shown
            if line is not None:
                answer = self.hmp.execute(line)
                if isinstance(answer, Later):
                    yield answer
                    answer = answer.result()
                yield answer.encode(errors="replace") + PROMPT

    def told(self, event: Event) -> bytes:
        return b""


class MonitorFront:
    """A conversation behind a chardev: --monitor stdio, or Ctrl-A C at the console."""

    ROOM = 4096

    def __init__(self, speech: Speech, chardev: Chardev, loop: Loop) -> None:
        self.lock = threading.RLock()
        self.chardev = chardev
        self.speech = speech
        self.loop = loop
        self._heard = b""  # what comes while a command takes long
        self._left: Iterator[bytes | Later[Any]] | None = None
        self._later: Later[Any] | None = None

    def begin(self) -> None:
        """Shows the prompt, or greets."""
        self.chardev.write(self.speech.begin())

    def room(self) -> int:
        return max(0, self.ROOM - len(self._heard))

    def receive(self, data: bytes) -> None:
        self._heard += data
        self._answer()

    def _answer(self) -> None:
        while self._later is None:
            if self._left is None:
                if not self._heard:
                    return
                self._left, self._heard = self.speech.hear(self._heard), b""
            shown = next(self._left, None)
            if shown is None:
                self._left = None
            elif isinstance(shown, bytes):
                if shown:
                    self.chardev.write(shown)
            else:
                self._later = shown
                self.loop.call(self._step)

    def _step(self) -> None:
        if self._later is None:
            return
        pause = self._later.step()
        if pause is not None:
            self.loop.call_later(pause, self._step)
            return
        self._later = None
        with self.lock:
            self._answer()
        self.chardev.accept()

    def told(self, event: Event) -> None:
        """An event, for who wants to hear of it."""
        shown = self.speech.told(event)
        if shown:
            self.chardev.write(shown)

    def drained(self) -> None:
        """The terminal takes output again."""
