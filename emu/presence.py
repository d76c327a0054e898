"""Where running machines are found: a socket each, in a folder of their user's alone.

    $XDG_RUNTIME_DIR/emu/PID        or /tmp/emu-UID/PID where there is no such folder

QMP is spoken there, by code that is loaded when the first client comes: that the socket is there costs a
start nothing that can be felt.  A machine that cannot have one runs without.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.loop import Loop

WAITING = 16


def folder() -> Path:
    """Where the sockets are, or would be."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "emu" if runtime else Path(f"/tmp/emu-{os.getuid()}")


def private(path: Path) -> bool:
    """Whether a folder is there and nobody else can have put anything into it."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077


class Presence:
    """This process's machine in the folder, until close().  came: called with each connection."""

    def __init__(self, loop: Loop, came: Callable[[socket.socket], None]) -> None:
        self._loop = loop
        self._came = came
        self._path: Path | None = None
        place = folder()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            place.mkdir(0o700, exist_ok=True)
            if not private(place):
                raise PermissionError
            path = place / str(os.getpid())
            # It gets its name when it listens: who finds it and is refused may take it for one left behind.
            aside = place / f".{path.name}"
            aside.unlink(missing_ok=True)
            self._socket.bind(str(aside))
            aside.chmod(0o600)
            self._socket.listen(WAITING)
            aside.rename(path)
        except OSError:
            self._socket.close()
            return
        self._path = path
        loop.watch(self._socket.fileno(), read=self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except BlockingIOError:
            return
        except OSError:  # no descriptors are left: seen no more, rather than tried in circles
            self.close()
            return
        self._came(connection)

    def close(self) -> None:
        """Takes it away."""
        if self._path is not None:
            self._loop.watch(self._socket.fileno())
            self._socket.close()
            self._path.unlink(missing_ok=True)
            self._path = None


def connections(known: set[str]) -> dict[str, socket.socket]:
    """A connection to each machine whose file's name is not known; files left behind are removed."""
    found: dict[str, socket.socket] = {}
    place = folder()
    if not private(place):
        return found
    for path in place.iterdir():
        if not path.name.isdigit() or path.name in known:
            continue
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            end.connect(str(path))
        except OSError as error:
            end.close()
            if isinstance(error, ConnectionRefusedError):
                path.unlink(missing_ok=True)
            continue
        found[path.name] = end
    return found
