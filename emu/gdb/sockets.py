"""Where clients connect to, TCP ports and Unix sockets, and one that has."""

from __future__ import annotations

import socket
from contextlib import suppress

from emu.gdb.stub import Stub
from emu.gdb.target import Refused

LOCAL = ("localhost", "127.0.0.1", "::1")
_CHUNK = 65536


class BadEnd(Refused):
    """No end of a connection can be had by these words."""


def listen(words: str) -> tuple[socket.socket, str, str]:
    """A listening socket by the words of --gdb, where it is for a person, and a warning or "".

    PORT, tcp:[HOST]:PORT or tcp::PORT (this host alone, unless HOST says more), unix:PATH (mode 0600).
    Raises BadEnd.
    """
    if words.startswith("unix:"):
        return _listen_unix(words[5:])
    host, _, port = words.removeprefix("tcp:").rpartition(":")
    host = host.strip("[]") or "localhost"
    if not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
        raise BadEnd(f"{words!r} is no place for a debugger; use tcp::1234, unix:PATH or a port")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(1)
    except OSError as error:
        raise BadEnd(f"{words}: {error.strerror}; choose another port") from None
    warning = ""
    if host not in LOCAL:
        warning = f"who reaches {host}:{port} rules this guest; tcp::{port} would listen on this host alone"
    return listener, f"{host}:{listener.getsockname()[1]}", warning


def _listen_unix(path: str) -> tuple[socket.socket, str, str]:
    from emu.backends.streams import bind_privately

    listener = socket.socket(socket.AF_UNIX)
    try:
        bind_privately(listener, path)
        listener.listen(1)
    except OSError as error:
        listener.close()
        raise BadEnd(f"unix:{path}: {error.strerror}; choose another path") from None
    return listener, path, ""


class Connection:
    """A client's socket and its stub; pump() when it is readable."""

    def __init__(self, client: socket.socket, stub: Stub) -> None:
        self.client = client
        self.stub = stub
        client.setblocking(False)
        with suppress(OSError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def pump(self) -> bool:
        """Takes what has come, and answers.  False when the client has gone, or is to go."""
        try:
            data = self.client.recv(_CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        self.stub.receive(data)
        return self.flush() and not self.stub.ended

    def flush(self) -> bool:
        """Sends what there is to send; False when the client has gone."""
        out = self.stub.output()
        try:
            if out:
                self.client.setblocking(True)
                self.client.settimeout(10)
                self.client.sendall(out)
                self.client.setblocking(False)
        except OSError:
            return False
        return True

    def close(self) -> None:
        self.stub.close()
        self.client.close()
