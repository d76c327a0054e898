"""The host's terminal as a serial line: raw mode, the escape character, and the terminal as it was before.

Every key goes to the guest, Ctrl-C too, but Ctrl-A, which begins a command, in a pipe as on a terminal:

    Ctrl-A X  ends the machine       Ctrl-A Ctrl-A  sends Ctrl-A
    Ctrl-A H  tells these            Ctrl-A C       the monitor, and back
    Ctrl-A P  presses the power button
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import termios
from collections.abc import Callable
from typing import Any, TextIO

from accel.errors import DeviceError
from emu.backends.chardev import DescriptorChardev

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from emu.loop import Loop

ESCAPE = 0x01
HELP = (
    "\r\nCtrl-A X  end the machine\r\nCtrl-A P  press its power button\r\nCtrl-A H  this help\r\n"
    "Ctrl-A C  the monitor, and back\r\nCtrl-A Ctrl-A  send Ctrl-A\r\n"
)


class Terminal:
    """Raw mode of a terminal, and back; both may be called again and again."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._before: list[Any] | None = None

    def raw(self) -> None:
        """Keys as they are typed, without echo or signals; output is left as it is."""
        if self._before is None:
            self._before = termios.tcgetattr(self.fd)
            atexit.register(self.restore)
        mode: list[Any] = [part[:] if isinstance(part, list) else part for part in self._before]
        mode[0] &= ~(
            termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR
            | termios.IGNCR | termios.ICRNL | termios.IXON
        )  # fmt: skip
        mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        mode[6][termios.VMIN] = 1
        mode[6][termios.VTIME] = 0
        termios.tcsetattr(self.fd, termios.TCSANOW, mode)

    def restore(self) -> None:
        """The terminal as it was before raw()."""
        if self._before is None:
            return
        before, self._before = self._before, None
        atexit.unregister(self.restore)
        try:
            termios.tcsetattr(self.fd, termios.TCSANOW, before)
        except termios.error:
            pass  # the terminal is gone


def _descriptor(stream: TextIO | None) -> int:
    """A standard stream's, or -1 where the shell has closed it: its number may be another file's by now."""
    try:
        return -1 if stream is None else stream.fileno()
    except OSError:  # something else stands in for it
        return -1


class Console(DescriptorChardev):
    """Standard input and output; a terminal is made raw while the machine is open.

    ended, powerdown: called for Ctrl-A X and P, in the event loop's thread; monitor: gives what takes keys
    between one Ctrl-A C and the next; lost: called when nobody reads the output any more.  A terminal is read
    even while the guest takes nothing: Ctrl-A X must end a guest that hangs.  From a pipe or a file a command
    is obeyed when the guest has taken what comes before it.
    """

    filename = "stdio"
    TYPED_LIMIT = 1 << 16

    def __init__(self) -> None:
        read_fd = _descriptor(sys.stdin)
        write_fd = _descriptor(sys.stdout)
        super().__init__(read_fd, write_fd, owned=False, nonblocking=False)
        self.ended: Callable[[], None] | None = None
        self.powerdown: Callable[[], None] | None = None
        self.monitor: Callable[[], Callable[[bytes], None]] | None = None
        self.lost: Callable[[], None] | None = None
        self._monitoring: Callable[[bytes], None] | None = None
        self._escaped = False
        self._typed = bytearray()
        self._terminal = Terminal(read_fd) if read_fd >= 0 and os.isatty(read_fd) else None
        self._hooked = False

    @property
    def window(self) -> tuple[int, int] | None:
        if self._terminal is None:
            return None
        try:
            size = os.get_terminal_size(self._terminal.fd)
        except OSError:
            return None  # the terminal is gone
        return size.columns, size.lines

    def open(self, loop: Loop) -> None:
        if sys.stdout is not None:
            sys.stdout.flush()
        if self._terminal is not None:
            self._terminal.raw()
            try:
                signal.signal(signal.SIGCONT, self._continued)
                signal.signal(signal.SIGWINCH, self._resized)
                self._hooked = True
            except ValueError:
                pass  # not the main thread: what the shell does to the terminal is not ours to repair then
        super().open(loop)

    def close(self) -> None:
        super().close()
        if self._terminal is not None:
            if self._hooked:
                signal.signal(signal.SIGCONT, signal.SIG_DFL)
                signal.signal(signal.SIGWINCH, signal.SIG_DFL)
                self._hooked = False
            self._terminal.restore()

    def accept(self) -> None:
        loop = self._loop
        if loop is not None and self._typed:
            loop.call(self._feed)
        if self._terminal is None:
            super().accept()

    def input(self, data: bytes) -> None:
        for key in data:
            if self._escaped:
                self._escaped = False
                self._command(key)
            elif key == ESCAPE:
                self._escaped = True
            elif self._monitoring is not None:
                self._monitoring(bytes([key]))
            else:
                self._typed.append(key)
        del self._typed[self.TYPED_LIMIT :]
        self._feed()

    def _room(self) -> int:
        if self._terminal is not None or self._monitoring is not None:
            return 4096
        return max(0, super()._room() - len(self._typed))

    def _feed(self) -> None:
        if self.front is None:
            return
        with self.front.lock:
            count = min(self.front.room(), len(self._typed))
            if count:
                keys = bytes(self._typed[:count])
                del self._typed[:count]
                self.front.receive(keys)

    def _command(self, key: int) -> None:
        if key == ESCAPE:
            self._typed.append(ESCAPE)
        elif key in b"xX" and self.ended is not None:
            self.ended()
        elif key in b"pP" and self.powerdown is not None:
            try:
                self.powerdown()
            except DeviceError as error:
                self.write(f"\r\n{error}\r\n".encode())
        elif key in b"hH?":
            self.write(HELP.encode())
        elif key in b"cC" and self._monitoring is not None:
            self._monitoring = None
            self.write(b"\r\n")
        elif key in b"cC" and self.monitor is not None:
            self.write(b"\r\n")
            self._monitoring = self.monitor()

    def _continued(self, number: int, frame: FrameType | None) -> None:
        """After a stop the shell has set its own mode."""
        if self._loop is None or self._terminal is None:
            return
        try:
            ours = os.tcgetpgrp(self._terminal.fd) == os.getpgrp()
        except OSError:
            ours = True  # not our controlling terminal: no shell stops us there
        if ours:
            self._terminal.raw()

    def _resized(self, number: int, frame: FrameType | None) -> None:
        if self._loop is not None:
            self._loop.call(self.changed)

    def lost_output(self) -> None:
        super().lost_output()
        if self.lost is not None:
            self.lost()
