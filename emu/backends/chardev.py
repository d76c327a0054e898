"""Character devices: the host end of a serial line.

A Chardev stands between a device (its front end) and the host.  The device calls write() from a vCPU's
thread; bytes are gathered and leave on a newline, when many are waiting, or a few milliseconds later from the
event loop.  When the host does not take them, `full` turns true and the device holds its transmitter, as a
line with flow control does: no thread ever waits for the host.  Input is fetched only as far as the device
has room.

`open_chardev("pty")` and its like make one from the words of `--serial`.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from typing import Any, Protocol

from accel.errors import EmuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.loop import Loop

# Host bytes that may wait before the guest's transmitter is held, and from which on they leave at once.
LIMIT = 1 << 16
MANY = 1 << 10
# Seconds until what waits leaves without a newline: below what a person at a terminal notices.
LINGER = 0.004


class ChardevError(EmuError):
    """A host end that cannot be opened, or words that name none."""


class FrontEnd(Protocol):
    """The device's side; called in the event loop's thread with `lock` held."""

    lock: Any

    def room(self) -> int:
        """How many bytes the receiver takes now."""

    def receive(self, data: bytes) -> None:
        """Bytes from the host, at most room()."""

    def drained(self) -> None:
        """The host takes bytes again: `full` has turned false."""


class Chardev:
    """Base of all: gathers output.  As it stands it is `null`: everything written is gone.

    path: where its other end is to be found, or ""; filename: what it is, as monitors tell it; connected:
    whether it leads to somebody; window: columns and rows of the window that shows it, None where there is
    none; changed: what the device wants called when one of these is another, in the event loop's thread.
    """

    path = ""
    filename = "null"

    def __init__(self) -> None:
        self.front: FrontEnd | None = None
        self.changed: Callable[[], None] = lambda: None
        self.full = False
        self._waiting = bytearray()
        self._lock = threading.Lock()
        self._loop: Loop | None = None
        self._scheduled = False

    @property
    def connected(self) -> bool:
        return True

    @property
    def window(self) -> tuple[int, int] | None:
        return None

    # -- the device's calls -------------------------------------------------

    def connect(self, front: FrontEnd) -> None:
        """Gives the stream its device."""
        self.front = front

    def write(self, data: bytes) -> None:
        """Takes bytes from the guest; from any thread, never waits."""
        with self._lock:
            self._waiting += data
            if b"\n" in data or len(self._waiting) >= MANY:
                self._push()
            if self._waiting and not self._scheduled and self._loop is not None:
                self._scheduled = True
                self._loop.call_later(LINGER, self._flush)
            self.full = len(self._waiting) >= LIMIT

    def accept(self) -> None:
        """The device has room again; from any thread."""

    # -- the machine's calls --------------------------------------------------

    def open(self, loop: Loop) -> None:
        """Begins to serve, in the event loop `loop`."""
        self._loop = loop
        self._flush()

    def close(self) -> None:
        """Sends what waits, as far as the host takes it, and ends."""
        with self._lock:
            self._push()
            self._loop = None

    def quiet(self) -> Chardev:
        """What stands for it in a copy of the machine, which has no host ends."""
        return Chardev()

    # -- what a kind of host end defines -------------------------------------

    def send(self, data: memoryview) -> int:
        """Gives bytes to the host without waiting; returns how many it took."""
        return len(data)

    def blocked(self) -> None:
        """Bytes are left because the host took none: see to it that unblock() is called in time."""

    # -- inner ----------------------------------------------------------------

    def _push(self) -> None:
        while self._waiting:
            with memoryview(self._waiting) as view:
                sent = self.send(view)
            if sent == 0:
                return
            del self._waiting[:sent]

    def _flush(self) -> None:
        with self._lock:
            self._scheduled = False
            self._push()
            left = bool(self._waiting)
        if left:
            self.blocked()
        else:
            self._unheld()

    def unblock(self) -> bool:
        """Sends more; returns whether all is gone.  In the event loop's thread."""
        with self._lock:
            self._push()
            left = bool(self._waiting)
        if not left:
            self._unheld()
        return not left

    def _unheld(self) -> None:
        with self._lock:
            was, self.full = self.full, len(self._waiting) >= LIMIT
        if was and not self.full and self.front is not None:
            with self.front.lock:
                self.front.drained()


class MemoryChardev(Chardev):
    """Output kept in memory, input given by type(): for tests and scripts."""

    filename = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.output = bytearray()
        self._typed = bytearray()

    def write(self, data: bytes) -> None:
        self.output += data
        if self._loop is not None:
            self._loop.wake()

    @property
    def text(self) -> str:
        """All output as text; what is not UTF-8 is shown as replacement characters."""
        return self.output.decode(errors="replace")

    def type(self, data: bytes | str) -> None:
        """Sends input to the guest, as it has room for it."""
        self._typed += data.encode() if isinstance(data, str) else data
        self.accept()

    def accept(self) -> None:
        if self._loop is not None and self._typed:
            self._loop.call(self._feed)

    def open(self, loop: Loop) -> None:
        super().open(loop)
        self.accept()

    def _feed(self) -> None:
        if self.front is None:
            return
        with self.front.lock:
            count = min(self.front.room(), len(self._typed))
            if count:
                data = bytes(self._typed[:count])
                del self._typed[:count]
                self.front.receive(data)


class DescriptorChardev(Chardev):
    """A host end that is a pair of descriptors (which may be one).

    owned: whether close() closes them.  With nonblocking=False they are someone else's too (the terminal)
    and their mode must not change: then poll(2) is asked before each write, and pieces are small.
    """

    filename = "file"
    PIECE = 512  # POSIX: a pipe that poll() calls writable takes this much without waiting

    def __init__(self, read_fd: int, write_fd: int, *, owned: bool = True, nonblocking: bool = True) -> None:
        super().__init__()
        self.read_fd = read_fd
        self.write_fd = write_fd
        self.owned = owned
        self.nonblocking = nonblocking
        self._watching = False
        self._blocked = False
        if nonblocking:
            for fd in {read_fd, write_fd} - {-1}:
                os.set_blocking(fd, False)

    def open(self, loop: Loop) -> None:
        super().open(loop)
        self._watch()

    def close(self) -> None:
        loop = self._loop
        super().close()
        if loop is not None:
            for fd in {self.read_fd, self.write_fd} - {-1}:
                loop.watch(fd)
        if self.owned:
            for fd in {self.read_fd, self.write_fd} - {-1}:
                os.close(fd)
        self.read_fd = self.write_fd = -1

    def accept(self) -> None:
        # Mostly the descriptor is watched anyway; a wake for each byte the guest takes would be wasted.
        loop = self._loop
        if loop is not None and not self._watching:
            loop.call(self._watch)

    def send(self, data: memoryview) -> int:
        if self.write_fd < 0:
            return len(data)
        try:
            if self.nonblocking:
                return os.write(self.write_fd, data)
            if not select_writable(self.write_fd):
                return 0
            return os.write(self.write_fd, data[: self.PIECE])
        except BlockingIOError:
            return 0
        except OSError:
            self.lost_output()
            return len(data)

    def lost_output(self) -> None:
        """The host's reader is gone: output goes nowhere from now on."""
        self.write_fd = -1 if self.write_fd != self.read_fd else self.write_fd

    def hung_up(self) -> None:
        """The host's writer is gone: no more input."""
        self._stop_reading()
        if self.read_fd != self.write_fd:
            self.read_fd = -1

    def input(self, data: bytes) -> None:
        """Bytes from the host, at most as many as the device has room for."""
        if self.front is not None:
            with self.front.lock:
                self.front.receive(data)

    def blocked(self) -> None:
        self._blocked = True
        self._watch()

    # -- inner: in the event loop's thread -----------------------------------

    def _room(self) -> int:
        if self.front is None:
            return 0
        with self.front.lock:
            return self.front.room()

    def _watch(self) -> None:
        loop = self._loop
        if loop is None:
            return
        # False first: an accept() that comes while the device is being asked is not for nothing.
        self._watching = False
        self._watching = self._room() > 0 and self.read_fd >= 0
        read = self._readable if self._watching else None
        write = self._writable if self._blocked and self.write_fd >= 0 else None
        if self.read_fd == self.write_fd:
            if self.read_fd >= 0:
                hangup = None if read or write else self._gone
                loop.watch(self.read_fd, read=read, write=write, hangup=hangup)
            return
        if self.read_fd >= 0:
            loop.watch(self.read_fd, read=read)
        if self.write_fd >= 0:
            loop.watch(self.write_fd, write=write)

    def _writable(self) -> None:
        if self.unblock():
            self._blocked = False
            self._watch()

    def _gone(self) -> None:
        """The other end is closed, while nothing was read."""
        self.hung_up()

    def _stop_reading(self) -> None:
        self._watching = False
        if self._loop is not None and self.read_fd >= 0:
            self._loop.watch(self.read_fd)

    def _readable(self) -> None:
        room = self._room()
        if room == 0:
            self._watch()
            return
        try:
            data = os.read(self.read_fd, room)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.input(data)
        else:
            self.hung_up()


def select_writable(fd: int) -> bool:
    """Whether a write of a small piece would not wait."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(0))


def open_chardev(words: str) -> Chardev:
    """A host end by the words of `--serial`.

    stdio | null | pty | file:PATH | unix:PATH[,server] | tcp:127.0.0.1:PORT[,server].  Raises ChardevError.
    """
    kind, _, rest = words.partition(":")
    if kind == "null" and not rest:
        return Chardev()
    if kind == "stdio" and not rest:
        from emu.console import Console

        return Console()
    if kind == "pty" and not rest:
        from emu.backends.streams import open_pty

        return open_pty()
    if kind == "file" and rest:
        from emu.backends.streams import open_file

        return open_file(rest)
    if kind in ("unix", "tcp") and rest:
        from emu.backends.streams import open_socket

        return open_socket(kind, rest)
    raise ChardevError(
        f"no serial line is called {words!r}; use stdio, null, pty, file:PATH, unix:PATH[,server] or"
        " tcp:127.0.0.1:PORT[,server]"
    )
