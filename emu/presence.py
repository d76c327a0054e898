"""Where running machines are found: a socket each, in a folder of their user's alone.

    $XDG_RUNTIME_DIR/emu/PID        or /tmp/emu-UID/PID where there is no such folder

QMP is spoken there, by code that is loaded when the first client comes: that the socket is there costs a
start nothing that can be felt.  A machine that cannot have one runs without.
"""

from __future__ import annotations

import os
import stat
from _socket import AF_UNIX, SOCK_NONBLOCK, SOCK_STREAM
from _socket import socket as Socket  # the module around it takes longer to load than all of this
from contextlib import suppress

from emu.folders import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from emu.loop import Loop

WAITING = 16


def private(path: str) -> bool:
    """Whether a folder is there and nobody else can have put anything into it."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077


class Presence:
    """This process's machine in the folder, until close().  came: called with each connection."""

    def __init__(self, loop: Loop, came: Callable[[socket.socket], None]) -> None:
        self._loop = loop
        self._came = came
        self._path = ""
        place = runtime()
        self._socket = Socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK)
        try:
            with suppress(FileExistsError):
                os.mkdir(place, 0o700)
            if not private(place):
                raise PermissionError
            # It gets its name when it listens: who finds it and is refused may take it for one left behind.
            aside = f"{place}/.{os.getpid()}"
            with suppress(FileNotFoundError):
                os.unlink(aside)
            self._socket.bind(aside)
            os.chmod(aside, 0o600)
            self._socket.listen(WAITING)
            self._path = f"{place}/{os.getpid()}"
            os.rename(aside, self._path)
        except OSError:
            self._socket.close()
            self._path = ""
            return
        loop.watch(self._socket.fileno(), read=self._accept)

    def _accept(self) -> None:
        try:
            fd, _ = self._socket._accept()  # type: ignore[attr-defined]
        except BlockingIOError:
            return
        except OSError:  # no descriptors are left: seen no more, rather than tried in circles
            self.close()
            return
        import socket

        self._came(socket.socket(fileno=fd))

    def close(self) -> None:
        """Takes it away."""
        if self._path:
            self._loop.watch(self._socket.fileno())
            self._socket.close()
            with suppress(FileNotFoundError):
                os.unlink(self._path)
            self._path = ""


def connections(known: set[str]) -> dict[str, socket.socket]:
    """A connection to each machine whose file's name is not known; files left behind are removed."""
    import socket

    found: dict[str, socket.socket] = {}
    place = runtime()
    if not private(place):
        return found
    for name in os.listdir(place):
        if not name.isdigit() or name in known:
            continue
        path = f"{place}/{name}"
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            end.connect(path)
        except OSError as error:
            end.close()
            if isinstance(error, ConnectionRefusedError):
                with suppress(FileNotFoundError):
                    os.unlink(path)
            continue
        found[name] = end
    return found
