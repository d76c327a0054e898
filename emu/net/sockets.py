"""Cables between guests: streams as QEMU's -netdev socket has them, and pairs within one process."""

from __future__ import annotations

import os
import socket

from emu.devices.native import lib
from emu.keyval import Options
from emu.net import NetError, Peer

# Bytes that may lie in the cable; fewer make small packets wait for the other side's thread.
CABLE = 1 << 20


class Stream(Peer):
    """Frames in a stream: over a connection, or over one after the other that a listener takes."""

    def __init__(self, connection: socket.socket | None, listener: socket.socket | None = None) -> None:
        if connection is not None and connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fds = [-1 if end is None else end.detach() for end in (connection, listener)]
        super().__init__(lib.emu_net_stream_new(*fds))


def pair() -> tuple[Peer, Peer]:
    """The two ends of a cable between two guests of this process (or of one that inherits an end)."""
    made = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in made:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CABLE)
    first, second = (Peer(lib.emu_net_frames_new(end.detach())) for end in made)
    return first, second


def _place(words: str, option: str) -> tuple[str, int]:
    host, colon, port = words.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) >= 1 << 16:
        raise NetError(f"--net socket: {option}={words}: write ADDRESS:PORT, as 127.0.0.1:1234")
    return host, int(port)


def from_words(options: Options) -> Peer:
    """By the options of --net socket.  Raises NetError."""
    ways = {name: options.word(name) for name in ("listen", "connect", "unix", "fd")}
    server = options.switch("server")
    given = [name for name, value in ways.items() if value]
    if len(given) != 1:
        raise NetError("--net socket: give one of listen=:PORT, connect=ADDRESS:PORT, unix=PATH, fd=N")
    option = given[0]
    value = ways[option]
    if server and option != "unix":
        raise NetError("--net socket: server=on goes with unix=PATH")
    try:
        if option == "fd":
            return _inherited(value)
        if option == "unix":
            return _unix(value, server)
        host, port = _place(value, option)
        if option == "listen":
            # Without an address only this host's programs may come.
            return Stream(None, socket.create_server((host or "127.0.0.1", port)))
        return Stream(socket.create_connection((host or "127.0.0.1", port), timeout=10))
    except OSError as error:
        what = error.strerror or str(error)
        remedy = "start the other side first" if option == "connect" else "choose another"
        raise NetError(f"--net socket: {option}={value}: {what}; {remedy}") from None


def _unix(path: str, server: bool) -> Peer:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if not server:
            made.connect(path)
            return Stream(made)
        from emu.backends.streams import bind_privately

        bind_privately(made, path)
        made.listen(1)
        return Stream(None, made)
    except BaseException:
        made.close()
        raise


def _inherited(words: str) -> Peer:
    if not words.isascii() or not words.isdigit():
        raise NetError(f"--net socket: fd={words}: give the number of a descriptor")
    fd = int(words)
    try:
        kind = socket.socket(fileno=os.dup(fd))
    except OSError as error:
        raise NetError(f"--net socket: fd={words}: {error.strerror}; hand a socket on") from None
    with kind:
        stream = kind.type == socket.SOCK_STREAM
    return Peer(lib.emu_net_stream_new(fd, -1) if stream else lib.emu_net_frames_new(fd))
