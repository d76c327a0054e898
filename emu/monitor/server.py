"""The ends that monitors listen at or connect to, and the sessions there.

    unix:PATH[,server=on][,wait=off]    a socket of mode 0600     fd:N    one that was inherited
    tcp:HOST:PORT[,server=on][,wait=off]                          telnet:HOST:PORT, for HMP alone

Everything happens in the machine's loop and nothing waits: what a client does not read is kept up to a limit,
its commands are not read meanwhile, and beyond the limit it is disconnected.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from typing import Any, Protocol

from accel.errors import EmuError
from emu.backends.streams import bind_privately
from emu.keyval import Options
from emu.monitor.balloons import BalloonWatch
from emu.monitor.ports import watch_ports
from emu.monitor.slots import watch_slots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from emu.loop import Loop
    from emu.monitor.client import Client, Control
    from emu.monitor.command import Later
    from emu.monitor.events import Event

# Connections at one time, and bytes that may wait for a client before it is not heard, or let go.
MOST_SESSIONS = 64
FULL, TOO_MUCH = 1 << 20, 32 << 20
PIECE = 1 << 16
# Seconds without accepting after a failure.
PAUSE = 0.2
# Descriptors in one message, as the kernel limits them.
MOST_DESCRIPTORS = 253
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class MonitorError(EmuError):
    """A monitor's end that cannot be had."""


class Speech(Protocol):
    """What is spoken in a session: QMP, or HMP."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will be understood."""

    def begin(self) -> bytes:
        """What the client is to be sent first."""

    def hear(self, data: bytes) -> Iterator[bytes | Later[Any]]:
        """Does what the bytes ask for, and gives what answers it, piece by piece.

        A Later's steps are the hearer's to do, until there are no more; only then it asks for the next piece.
        """

    def told(self, event: Event) -> bytes:
        """What the client is to be sent of an event."""


class Session:
    """One connection."""

    def __init__(self, end: socket.socket, monitors: Monitors, speech: Speech, client: Client) -> None:
        self.end = end
        self.monitors = monitors
        self.speech = speech
        self.client = client
        self._waiting = bytearray()
        self._left: Iterator[bytes | Later[Any]] | None = None
        self._later: Later[Any] | None = None
        self._finished = False
        end.setblocking(False)
        self.passes = end.family == socket.AF_UNIX
        if end.family in (socket.AF_INET, socket.AF_INET6):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.monitors.run.listeners.append(self._told)
        self.send(speech.begin())
        self._watch()

    def send(self, data: bytes) -> None:
        """Sends, at once or as the client reads."""
        if self.end.fileno() < 0 or not data:
            return
        self._waiting += data
        self._push()
        if len(self._waiting) > TOO_MUCH:
            self.close()

    def close(self) -> None:
        """Ends the connection; again does nothing."""
        if self.end.fileno() < 0:
            return
        self.monitors.loop.watch(self.end.fileno())
        self.monitors.run.listeners.remove(self._told)
        self.end.close()
        self._waiting.clear()
        if self._later is not None:
            self._later.close()
            self._later = None
        self.client.close()
        self.monitors.left(self)

    def flush(self, seconds: float) -> None:
        """Waits until the client has what was sent to it, but not for long."""
        try:
            self.end.settimeout(seconds)
            self.end.sendall(self._waiting)
        except OSError:
            pass  # it does not read, or is gone

    def _told(self, event: Event) -> None:
        self.send(self.speech.told(event))

    def _push(self) -> None:
        try:
            while self._waiting:
                del self._waiting[: self.end.send(self._waiting[:PIECE])]
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def _watch(self) -> None:
        if self.end.fileno() < 0:
            return
        if self._finished and not self._waiting:
            self.close()
            return
        hears = len(self._waiting) < FULL and not self._finished and self._later is None
        write = self._writable if self._waiting else None
        read = self._readable if hears else None
        self.monitors.loop.watch(
            self.end.fileno(), read=read, write=write, hangup=None if read or write else self.close
        )

    def _writable(self) -> None:
        self._push()
        self._answer()

    def _readable(self) -> None:
        if self._left is None:
            try:
                data = self._receive()
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.close()
                return
            self._left = self.speech.hear(data)
        self._answer()

    def _receive(self) -> bytes:
        if not self.passes:
            return self.end.recv(PIECE)
        data, descriptors, _, _ = socket.recv_fds(self.end, PIECE, MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        self.client.take(descriptors)
        return data

    def _answer(self) -> None:
        """Does what has come, as long as the client reads what comes of it."""
        while self._left is not None and self._later is None and self._takes():
            answer = next(self._left, None)
            if answer is None:
                self._left = None
            elif isinstance(answer, bytes):
                self.send(answer)
            else:
                self._later = answer
                self.monitors.loop.call(self._step)
        if self.speech.ended and self._left is None:
            self._finished = True
        self._watch()

    def _takes(self) -> bool:
        return self.end.fileno() >= 0 and len(self._waiting) < FULL

    def _step(self) -> None:
        """Goes on with what takes long."""
        if self._later is None:
            return
        pause = self._later.step()
        if pause is not None:
            self.monitors.loop.call_later(pause, self._step)
            return
        self._later = None
        self._answer()


class Monitors:
    """All ends and sessions of a machine."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.run = control.run
        self.loop: Loop = control.machine.loop
        self.sessions: list[Session] = []
        self.ends: list[End] = []
        control.monitors = self
        self._balloon = BalloonWatch(self.run)
        watch_ports(self.run)
        watch_slots(self.run)

    def open(self, kind: str, words: str) -> End:
        """Opens an end for "qmp" or "hmp".  Raises MonitorError."""
        end = End(self, kind, words)
        self.ends.append(end)
        return end

    def begin(self, end: socket.socket, kind: str, telnet: bool = False) -> None:
        """A session on a connection."""
        from emu.monitor.client import Client

        client = Client(self.control)
        if len(self.sessions) >= MOST_SESSIONS:
            # Closed without a word: it might not read it, and a monitor waits for nobody.
            end.close()
            return
        speech: Any
        if kind == "qmp":
            from emu.monitor.speech import QmpSpeech

            speech = QmpSpeech(client)
        else:
            from emu.monitor.terminal import HmpSpeech

            speech = HmpSpeech(client, telnet=telnet)
        self.sessions.append(Session(end, self, speech, client))

    def wait(self, until: Callable[[], bool]) -> None:
        """Serves until every end that asked for it (wait=on) has had a client, or until() is true."""
        machine = self.control.machine
        with self.loop.hearing():
            while any(end.wait for end in self.ends) and not until():
                machine.turn()

    def left(self, session: Session) -> None:
        """A session has ended."""
        if session in self.sessions:
            self.sessions.remove(session)

    def close(self) -> None:
        """Sends what waits and ends everything."""
        for session in list(self.sessions):
            session.flush(0.2)
            session.close()
        for end in self.ends:
            end.close()
        self.ends.clear()


class End:
    """One option's end: a listening socket, or a connection.

    wait: whether the machine is to wait for the first client; filename: as query-chardev tells it.
    """

    def __init__(self, monitors: Monitors, kind: str, words: str) -> None:
        self.monitors = monitors
        self.kind = kind
        self.words = words
        self.label = f"compat_monitor{len(monitors.ends)}"
        self.warning = ""
        self._path = ""
        scheme, _, rest = words.partition(":")
        option = f"--{'qmp' if kind == 'qmp' else 'monitor'} {words}"
        if (
            scheme not in ("unix", "tcp", "fd", "telnet")
            or not rest
            or (scheme == "telnet" and kind == "qmp")
        ):
            telnet = "" if kind == "qmp" else ", telnet:HOST:PORT"
            raise MonitorError(
                f"{option}: use unix:PATH[,server=on][,wait=off], tcp:HOST:PORT{telnet} or fd:N"
            )
        names = ("server", "wait", "nowait", "nodelay")
        options = Options(rest, option, ("path",), first="path", switches=names)
        address = options.word("path")
        serves = options.switch("server", scheme in ("fd", "telnet"))
        self.telnet = scheme == "telnet"
        self.wait = serves and options.switch("wait", scheme != "fd") and not options.switch("nowait")
        try:
            self.socket = self._inherited(option, address) if scheme == "fd" else socket.socket(
                *(socket.AF_UNIX if scheme == "unix" else _family(address), socket.SOCK_STREAM)
            )  # fmt: skip
        except OSError as error:
            raise MonitorError(f"{option}: {error.strerror}; see ulimit -n") from None
        self.listens = scheme == "fd" and bool(
            self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        )
        try:
            if scheme == "unix":
                self._open_unix(address, serves)
            elif scheme != "fd":
                self._open_tcp(option, address, serves)
        except (OSError, ValueError) as error:
            self.socket.close()
            cause = getattr(error, "strerror", None) or str(error)
            doing = "listen there" if serves else "connect"
            remedy = "choose another" if serves else "start what listens there first, or add server=on"
            raise MonitorError(f"{option}: cannot {doing}: {cause}; {remedy}") from None
        self.address = address
        self.scheme = scheme
        if self.listens:
            self.socket.setblocking(False)
            self._listen()
        else:
            monitors.begin(self.socket, kind, self.telnet)

    @property
    def filename(self) -> str:
        """As query-chardev has it."""
        return f"{self.scheme}:{self.address}{',server=on' if self.listens else ''}"

    def close(self) -> None:
        """Listens no more."""
        if not self.listens or self.socket.fileno() < 0:
            return
        self.monitors.loop.watch(self.socket.fileno())
        self.socket.close()
        if self._path:
            with suppress(FileNotFoundError):
                os.unlink(self._path)

    def _open_unix(self, path: str, serves: bool) -> None:
        if not serves:
            self.socket.connect(path)
            return
        bind_privately(self.socket, path)
        self._path = path
        self.socket.listen(MOST_SESSIONS)
        self.listens = True

    def _open_tcp(self, option: str, address: str, serves: bool) -> None:
        host, _, port = address.rpartition(":")
        if not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"{address} is no HOST:PORT")
        host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
        if not serves:
            self.socket.connect((host, int(port)))
            return
        if host not in LOOPBACK:
            self.warning = (
                f"{option}: whoever reaches {host} steers the machine, and is asked for no password;"
                " use 127.0.0.1 or unix:PATH"
            )
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((host, int(port)))
        self.socket.listen(MOST_SESSIONS)
        self.listens = True

    def _inherited(self, option: str, number: str) -> socket.socket:
        if not number.isascii() or not number.isdigit() or len(number) > 9:
            raise MonitorError(f"{option}: {number!r} is no descriptor; give its number")
        try:
            is_socket = stat.S_ISSOCK(os.fstat(int(number)).st_mode)
        except OSError:
            is_socket = False
        if not is_socket:
            raise MonitorError(
                f"{option}: descriptor {number} is no socket; pass one that listens or is connected"
            )
        os.set_inheritable(int(number), False)
        return socket.socket(fileno=int(number))

    def _listen(self) -> None:
        if self.socket.fileno() >= 0:
            self.monitors.loop.watch(self.socket.fileno(), read=self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self.socket.accept()
        except BlockingIOError:
            return
        except OSError:
            # It went away again, or no descriptors are left: then it would be tried in circles.
            self.monitors.loop.watch(self.socket.fileno())
            self.monitors.loop.call_later(PAUSE, self._listen)
            return
        self.wait = False
        self.monitors.begin(connection, self.kind, self.telnet)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if address.startswith("[") else socket.AF_INET
