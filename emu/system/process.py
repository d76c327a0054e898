"""The process: into the background, its number in a file, descriptors that it inherited, its name."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

from accel.errors import DeviceError
from emu.system.given import Given

# prctl(2)
PR_SET_NAME = 15


class Descriptors:
    """Descriptors that whoever started us has left open, by number or in sets (-add-fd)."""

    def __init__(self) -> None:
        self.sets: dict[int, list[int]] = {}
        self._taken: set[int] = set()

    def add(self, words: str) -> None:
        """-add-fd fd=N,set=M.  Raises DeviceError."""
        given = Given("-add-fd", words)
        fd = self.take(given.needed("fd"), "-add-fd")
        self.sets.setdefault(given.number("set"), []).append(fd)
        given.idle("opaque")
        given.finish()

    def take(self, number: str, option: str) -> int:
        """A descriptor by its number, which nobody else gets.  Raises DeviceError."""
        if not number.isascii() or not number.isdigit() or len(number) > 9:
            raise DeviceError(f"{option}: fd={number} is no descriptor; give its number")
        fd = int(number)
        try:
            os.set_inheritable(fd, False)
        except OSError as error:
            raise DeviceError(f"{option}: fd={fd}: {error.strerror}; leave it open for us") from None
        if fd in self._taken or fd < 3:
            raise DeviceError(f"{option}: fd={fd} is used already; give another")
        self._taken.add(fd)
        return fd

    def path(self, path: str) -> str:
        """Where to open a path: in /dev/fdset/M the first descriptor that can be written, or else the first.

        Raises DeviceError for a set that there is not.
        """
        if not path.startswith("/dev/fdset/"):
            return path
        number = path.removeprefix("/dev/fdset/")
        fds = self.sets.get(int(number)) if number.isascii() and number.isdigit() else None
        if not fds:
            raise DeviceError(f"{path}: there is no such set; give -add-fd fd=N,set={number}")
        writable = [fd for fd in fds if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY]
        return f"/proc/self/fd/{(writable or fds)[0]}"


class Background:
    """-daemonize: the parent waits until the child is ready, then ends with 0; else with the child's status.

    Before anything is opened and before there are threads.
    """

    def __init__(self) -> None:
        self._pipe = -1

    def fork(self) -> None:
        """Returns in the child; the parent does not return."""
        read, write = os.pipe2(os.O_CLOEXEC)
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            os.close(read)
            self._pipe = write
            os.setsid()
            return
        os.close(write)
        ready = os.read(read, 1)
        if ready:
            os._exit(0)
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF or 1)

    def ready(self) -> None:
        """Standard input and output go nowhere from now on, and the parent ends."""
        if self._pipe < 0:
            return
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.chdir("/")
        for fd in (0, 1, 2):
            os.dup2(nowhere, fd)
        os.close(nowhere)
        os.write(self._pipe, b"1")
        os.close(self._pipe)
        self._pipe = -1


class PidFile:
    """A file with the process's number, locked while it runs, removed when it ends."""

    def __init__(self, path: str) -> None:
        self.path = Path(path).absolute()
        self._fd = -1

    def write(self) -> None:
        """Raises DeviceError where it cannot be had, or is another running process's."""
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DeviceError(f"-pidfile {self.path}: {error.strerror}; choose another") from None
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise DeviceError(f"-pidfile {self.path}: a running process has it; choose another") from None
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        self._fd = fd

    def close(self) -> None:
        """Removes it."""
        if self._fd >= 0:
            self.path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1


def call_process(name: str) -> None:
    """Sets what `ps` and `top` call the process."""
    try:
        Path("/proc/self/comm").write_text(name[:15])
    except OSError:
        pass  # a sandbox without /proc: the name is for people alone
