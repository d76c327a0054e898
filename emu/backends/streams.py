"""Files, pseudo-terminals and sockets as the host end of a serial line."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import termios

from emu.backends.chardev import LIMIT, Chardev, ChardevError, DescriptorChardev
from emu.backends.telnet import CHARACTERWISE, Telnet

# Bytes of a Unix socket's path, sun_path without its last.
LONGEST_PATH = 107

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.loop import Loop


def open_file(path: str, *, append: bool = False) -> Chardev:
    """Output into a file, made anew or lengthened; no input.  Raises ChardevError."""
    flags = os.O_APPEND if append else os.O_TRUNC
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | flags, 0o666)
    except OSError as error:
        raise ChardevError(
            f"file {path} for a serial line cannot be written: {error.strerror}; choose another"
        ) from None
    return DescriptorChardev(-1, fd)


class PtyChardev(DescriptorChardev):
    """A pseudo-terminal; `path` is where a terminal program opens the other end.

    Nobody need be there: of what is not read the latest LIMIT bytes are kept.
    """

    def __init__(self) -> None:
        import tty

        master, slave = os.openpty()
        # The other end stays open: without it, reading ours fails until somebody comes.
        self._slave = slave
        tty.setraw(slave)
        self.path = os.ttyname(slave)
        self.filename = f"pty:{self.path}"
        super().__init__(master, master)

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.full:
            with self._lock:
                del self._waiting[: -LIMIT // 2]
                self.full = False

    def close(self) -> None:
        super().close()
        if self._slave >= 0:
            os.close(self._slave)
            self._slave = -1


def open_pty() -> PtyChardev:
    """A new pseudo-terminal."""
    return PtyChardev()


class SocketChardev(DescriptorChardev):
    """One connection at a time; what is written while there is none is lost, as on a line nobody listens to.

    Input of a connection that ended is kept until the device takes it, or somebody else connects.
    listener: where connections come from; None for a connection that stands already; telnet: whether its
    bytes are telnet's; awaited: the machine is not to run before somebody is there.
    """

    def __init__(
        self,
        connection: socket.socket | None,
        listener: socket.socket | None,
        path: str,
        *,
        telnet: bool = False,
    ) -> None:
        super().__init__(-1, -1)
        self.path = path
        self.awaited = False
        self._telnet: Telnet | None = None
        self.telnet = telnet
        self._listener = listener
        self._socket_path = ""
        if listener is not None:
            listener.setblocking(False)
            if listener.family == socket.AF_UNIX:
                self._socket_path = path
        if connection is not None:
            self._take(connection)

    def keep_path(self) -> None:
        """The socket in the file system is somebody else's."""
        self._socket_path = ""

    @property
    def connected(self) -> bool:
        return self.read_fd >= 0

    @property
    def filename(self) -> str:  # type: ignore[override]
        kind = "unix" if self.path.startswith("/") or ":" not in self.path else "tcp"
        serves = ",server=on" if self._listener is not None else ""
        return f"{'' if self.connected else 'disconnected:'}{kind}:{self.path}{serves}"

    def open(self, loop: Loop) -> None:
        super().open(loop)
        self._listen()

    def close(self) -> None:
        if self._listener is not None:
            if self._loop is not None:
                self._loop.watch(self._listener.fileno())
            self._listener.close()
            self._listener = None
        super().close()
        if self._socket_path:
            try:
                os.unlink(self._socket_path)
            except OSError:
                pass  # somebody tidied it up before us
            self._socket_path = ""

    def write(self, data: bytes) -> None:
        super().write(data.replace(b"\xff", b"\xff\xff") if self.telnet else data)

    def input(self, data: bytes) -> None:
        super().input(self._telnet.plain(data) if self._telnet is not None else data)

    def hung_up(self) -> None:
        if self._loop is not None and self.read_fd >= 0:
            self._loop.watch(self.read_fd)
        with self._lock:
            fd, self.read_fd, self.write_fd = self.read_fd, -1, -1
            self._waiting.clear()
        if fd >= 0:
            os.close(fd)
        self._watching = self._blocked = False
        self._unheld()
        self._listen()
        self.changed()

    def _gone(self) -> None:
        unread = bytearray(4)
        fcntl.ioctl(self.read_fd, termios.FIONREAD, unread)
        if not any(unread):
            self.hung_up()
            return
        self._stop_reading()
        self._listen()

    def _take(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fd = connection.detach()
        self.awaited = False
        with self._lock:
            self.read_fd = self.write_fd = fd
            if self.telnet:
                self._telnet = Telnet()
                self._waiting[:0] = CHARACTERWISE

    def _listen(self) -> None:
        if self._loop is not None and self._listener is not None:
            self._loop.watch(self._listener.fileno(), read=self._accept)

    def _accept(self) -> None:
        assert self._listener is not None
        assert self._loop is not None
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # it went away again before we came
        if self.connected:
            self.hung_up()
        self._loop.watch(self._listener.fileno())
        self._take(connection)
        self._watch()
        self.changed()


def open_socket(kind: str, words: str) -> SocketChardev:
    """A socket: PATH or HOST:PORT, with ",server" to wait for connections.  Raises ChardevError."""
    address, _, mode = words.partition(",")
    if mode not in ("", "server"):
        raise ChardevError(f"{kind}:{words}: there is no {mode!r}; the only word after the comma is server")
    return open_address(kind, address, server=mode == "server")


def open_address(kind: str, address: str, *, server: bool, telnet: bool = False) -> SocketChardev:
    """A socket of kind unix or tcp, connected or waiting for connections.  Raises ChardevError.

    TCP is for this host alone: a serial line asks nobody for a password.
    """
    target: str | tuple[str, int]
    if kind == "unix":
        family, target = socket.AF_UNIX, address
    else:
        host, colon, port = address.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ChardevError(f"tcp:{address} is no address; use tcp:127.0.0.1:PORT")
        if host not in ("localhost", "127.0.0.1"):
            raise ChardevError(
                f"tcp:{address}: only this host may use a serial line; use tcp:127.0.0.1:{port}"
            )
        family, target = socket.AF_INET, ("127.0.0.1", int(port))
    end = socket.socket(family, socket.SOCK_STREAM)
    try:
        if not server:
            end.connect(target)
            return SocketChardev(end, None, address, telnet=telnet)
        if kind == "unix":
            bind_privately(end, address)
        else:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            end.bind(target)
        end.listen(1)
    except OSError as error:
        end.close()
        cause = error.strerror or str(error)
        doing = "listen at" if server else "connect to"
        remedy = "choose another" if server else "start what listens there first, or add ,server"
        raise ChardevError(f"cannot {doing} {kind}:{address}: {cause}; {remedy}") from None
    if kind == "tcp":
        address = "{}:{}".format(*end.getsockname()[:2])
    return SocketChardev(None, end, address, telnet=telnet)


def open_inherited(fd: int, *, telnet: bool = False) -> SocketChardev:
    """A socket that whoever started us made: it listens, or is connected.  Raises ChardevError."""
    try:
        end = socket.socket(fileno=fd)
        listens = bool(end.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError as error:
        raise ChardevError(f"descriptor {fd} is no socket ({error.strerror}); hand a socket on") from None
    name = end.getsockname()
    path = name if isinstance(name, str) else "{}:{}".format(*name[:2]) if name else ""
    made = SocketChardev(None if listens else end, end if listens else None, path, telnet=telnet)
    made.keep_path()
    return made


def bind_privately(listener: socket.socket, path: str) -> None:
    """Binds a Unix socket that its owner alone may connect to, where a process may have left one behind.

    It is seen there once it listens, so whoever finds it can connect.  (umask() would be every thread's.)
    Raises OSError.
    """
    _remove_stale_socket(path)
    folder, name = os.path.split(path)
    aside = os.path.join(folder, f".{name}.{os.getpid()}")
    if len(os.fsencode(aside)) > LONGEST_PATH:
        aside = path
    listener.bind(aside)
    try:
        os.chmod(aside, 0o600)
        listener.listen(1)
        if aside != path:
            os.link(aside, path)
    except FileExistsError:
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
    finally:
        if aside != path:
            os.unlink(aside)


def _remove_stale_socket(path: str) -> None:
    """Removes a socket that a process left behind; one that somebody listens at stays."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(path)
    except ConnectionRefusedError:
        os.unlink(path)
    except OSError:
        pass  # nothing there, or bind() will say what is wrong
