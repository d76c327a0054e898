"""Where a stream of a machine's state goes to or comes from, by QEMU's words:

fd:NAME or fd:N     a descriptor that a monitor's client has named (getfd), or that was inherited
unix:PATH           a socket; who takes the machine listens
tcp:HOST:PORT       the same
file:PATH           a file, which is whole or is not there
exec:COMMAND        a shell's command, by its standard input or output
"""

from __future__ import annotations

import os
import select
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

from emu.snapshot.errors import SnapshotError

SCHEMES = ("fd", "unix", "tcp", "file", "exec")
# What is written at once: between two of them a migration can be cancelled.
PIECE = 1 << 16
WAIT = 200  # ms


class Cancelled(Exception):
    """Nobody wants the stream any more."""


def parts(uri: str) -> tuple[str, str]:
    """The scheme and the rest.  Raises SnapshotError."""
    scheme, colon, rest = uri.partition(":")
    if not colon or scheme not in SCHEMES or not rest:
        raise SnapshotError(
            f"unknown migration protocol: {uri}; use fd:NAME, unix:PATH, tcp:HOST:PORT, file:PATH or"
            " exec:COMMAND"
        )
    return scheme, rest


def command(words: str, *, reads: bool) -> subprocess.Popen[bytes]:
    """Starts exec:'s command, which reads the stream or writes it.  Raises SnapshotError, OSError."""
    from emu.system.sandbox import may_spawn

    if not may_spawn():
        raise SnapshotError("exec: starts a process, which -sandbox spawn=deny forbids; use unix: or fd:")
    pipe = subprocess.PIPE
    return subprocess.Popen(
        ["/bin/sh", "-c", words], stdin=pipe if reads else None, stdout=None if reads else pipe
    )


class Channel:
    """One end of a stream.  cancelled: asked between pieces, and while nothing comes or goes."""

    def __init__(self, fd: int, cancelled: Callable[[], bool]) -> None:
        self.fd = fd
        self.cancelled = cancelled
        self.process: subprocess.Popen[bytes] | None = None
        self.aside: tuple[Path, Path] | None = None
        kind = os.fstat(fd).st_mode
        if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
            os.set_blocking(fd, False)  # a partner who stands still must not hold us

    def _wait(self, what: int) -> None:
        poll = select.poll()
        poll.register(self.fd, what)
        while not poll.poll(WAIT):
            if self.cancelled():
                raise Cancelled
        if self.cancelled():
            raise Cancelled

    def write(self, data: bytes) -> None:
        """Writes all of it."""
        view = memoryview(data)
        while view:
            self._wait(select.POLLOUT)
            try:
                view = view[os.write(self.fd, view[:PIECE]) :]
            except BlockingIOError:
                continue

    def read(self, size: int) -> bytes:
        """Reads what there is, up to so many bytes; none at the end."""
        while True:
            self._wait(select.POLLIN)
            try:
                return os.read(self.fd, size)
            except BlockingIOError:
                continue

    def finish(self) -> None:
        """The stream is complete.  Raises SnapshotError, OSError."""
        if self.aside is not None:
            os.fsync(self.fd)
            self.aside[0].replace(self.aside[1])
            self.aside = None
        self._close()
        if self.process is not None and self.process.wait() != 0:
            raise SnapshotError(f"the command of exec: ended with status {self.process.returncode}")

    def close(self) -> None:
        """Ends it, complete or not; again does nothing."""
        self._close()
        if self.aside is not None:
            self.aside[0].unlink(missing_ok=True)
            self.aside = None
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()

    def _close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def outgoing(scheme: str, rest: str, fd: int | None, cancelled: Callable[[], bool]) -> Channel:
    """Opens a stream to write to; waits for nobody.  fd: that of fd:.  Raises SnapshotError."""
    try:
        if scheme == "fd":
            assert fd is not None
            return Channel(fd, cancelled)
        if scheme == "file":
            target = Path(rest)
            aside = target.with_name(f".{target.name}.{os.getpid()}")
            channel = Channel(
                os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), cancelled
            )
            channel.aside = (aside, target)
            return channel
        if scheme == "exec":
            process = command(rest, reads=True)
            assert process.stdin is not None
            channel = Channel(os.dup(process.stdin.fileno()), cancelled)
            process.stdin.close()
            channel.process = process
            return channel
        with _socket(scheme) as made:
            made.connect(_address(scheme, rest))
            return Channel(made.detach(), cancelled)
    except OSError as error:
        raise SnapshotError(f"{scheme}:{rest}: {error.strerror or error}") from None


class Door:
    """Where a stream will come in.  Made at once, so that whoever sends finds it; opened by open()."""

    def __init__(self, scheme: str, rest: str, fd: int | None, cancelled: Callable[[], bool]) -> None:
        self.scheme = scheme
        self.rest = rest
        self.fd = fd
        self.cancelled = cancelled
        self._listens: socket.socket | None = None
        if scheme in ("unix", "tcp"):
            try:
                self._listens = _socket(scheme)
                if scheme == "unix":
                    from emu.backends.streams import bind_privately

                    bind_privately(self._listens, rest)
                else:
                    self._listens.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    self._listens.bind(_address(scheme, rest))
                self._listens.listen(1)
            except OSError as error:
                raise SnapshotError(f"{scheme}:{rest}: {error.strerror or error}") from None

    def open(self) -> Channel:
        """Waits for the sender.  Raises SnapshotError, Cancelled."""
        try:
            if self._listens is not None:
                waiting = Channel(self._listens.fileno(), self.cancelled)
                waiting._wait(select.POLLIN)
                with self._listens, self._listens.accept()[0] as taken:
                    if self.scheme == "unix":
                        Path(self.rest).unlink(missing_ok=True)
                    return Channel(taken.detach(), self.cancelled)
            if self.scheme == "fd":
                assert self.fd is not None
                return Channel(self.fd, self.cancelled)
            if self.scheme == "file":
                return Channel(os.open(self.rest, os.O_RDONLY | os.O_CLOEXEC), self.cancelled)
            process = command(self.rest, reads=False)
            assert process.stdout is not None
            channel = Channel(os.dup(process.stdout.fileno()), self.cancelled)
            process.stdout.close()
            channel.process = process
            return channel
        except OSError as error:
            raise SnapshotError(f"{self.scheme}:{self.rest}: {error.strerror or error}") from None

    def close(self) -> None:
        """Nobody comes in any more."""
        if self._listens is not None:
            self._listens.close()


def _socket(scheme: str) -> socket.socket:
    return socket.socket(socket.AF_UNIX if scheme == "unix" else socket.AF_INET)


def _address(scheme: str, rest: str) -> str | tuple[str, int]:
    if scheme == "unix":
        return rest
    host, _, port = rest.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise SnapshotError(f"tcp:{rest}: give tcp:HOST:PORT")
    return host or "127.0.0.1", int(port)
