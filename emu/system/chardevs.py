"""-chardev, -serial, -monitor, -qmp: the host's ends of lines.

An end is made when something is put at it: a serial line or a port wants a Chardev, a monitor on a socket
listens itself (emu/monitor/server.py) and wants words.
"""

from __future__ import annotations

from accel.errors import DeviceError, nearest
from emu.backends.chardev import Chardev
from emu.system.given import Given
from emu.system.process import Descriptors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.console import Console
    from emu.inventory import Inventory

KINDS = ("null", "stdio", "pty", "file", "socket")


class Backend:
    """One end.  name: its id; mux: the human monitor is there too, behind Ctrl-A C."""

    def __init__(self, name: str, kind: str, given: Given) -> None:
        self.name = name
        self.kind = kind
        self.given = given
        self.mux = False
        self.used_by = ""


class Ends:
    """All ends by id.  console: the terminal, if a line ends there."""

    def __init__(self, inventory: Inventory, descriptors: Descriptors) -> None:
        self.inventory = inventory
        self.descriptors = descriptors
        self.backends: dict[str, Backend] = {}
        self.console: Console | None = None
        self.opened: list[Chardev] = []

    def define(self, words: str) -> Backend:
        """-chardev.  Raises DeviceError."""
        given = Given("-chardev", words, first="backend")
        kind = given.needed("backend")
        given.option = f"-chardev {kind}"
        if kind not in KINDS:
            raise DeviceError(
                f"-chardev {kind} is not supported{nearest(kind, KINDS)}; use {', '.join(KINDS)}"
            )
        return self._enter(Backend(given.needed("id"), kind, given))

    def legacy(self, option: str, words: str, name: str) -> Backend:
        """What -serial and its like name: a chardev, or an end of its own, which gets the name given."""
        kind, _, rest = words.partition(":")
        if kind == "chardev":
            if rest not in self.backends:
                raise DeviceError(
                    f"{option} {words}: no chardev has the id {rest!r}; give -chardev ...,id={rest}"
                )
            return self.backends[rest]
        if kind == "mon":
            backend = self.legacy(option, rest, name)
            backend.mux = True
            return backend
        simple = {"null": "null", "stdio": "stdio", "pty": "pty"}
        if words in simple:
            return self._enter(Backend(name, words, Given(f"{option} {words}", "")))
        if kind == "file" and rest:
            given = Given(f"{option} file", "")
            given.values["path"] = [rest]
            return self._enter(Backend(name, "file", given))
        if kind in ("unix", "tcp", "telnet") and rest:
            given = Given(f"{option} {kind}", rest, first="address", json=False)
            address = given.word("address")
            if kind == "unix":
                given.values["path"] = [address]
            else:
                host, _, port = address.rpartition(":")
                given.values |= {
                    "host": [host],
                    "port": [port],
                    "telnet": ["on" if kind == "telnet" else "off"],
                }
            return self._enter(Backend(name, "socket", given))
        raise DeviceError(
            f"{option} {words} is not supported; use stdio, mon:stdio, null, pty, file:PATH, unix:PATH,"
            " tcp:HOST:PORT, telnet:HOST:PORT, chardev:ID or none"
        )

    def _enter(self, backend: Backend) -> Backend:
        if backend.name in self.backends:
            raise DeviceError(f"two chardevs have the id {backend.name!r}; rename one")
        self.backends[backend.name] = backend
        return backend

    def _claim(self, backend: Backend, user: str) -> None:
        if backend.used_by:
            raise DeviceError(
                f"chardev {backend.name} is at {backend.used_by} already; for the terminal say mux=on"
            )
        backend.used_by = user

    # -- as a line ---------------------------------------------------------------

    def chardev(self, backend: Backend, user: str) -> Chardev:
        """The end as a Chardev, for `user`.  Raises DeviceError, or ChardevError where it cannot be had."""
        self._claim(backend, user)
        given = backend.given
        given.idle("logfile", "logappend")
        if given.word("mux", "off") == "on":
            backend.mux = True
        made = self._make(backend, given)
        given.finish()
        self.opened.append(made)
        return self.inventory.add_chardev(backend.name, made)

    def idle(self) -> list[Chardev]:
        """Makes the ends that nothing is put at, for devices that come later; the terminal is not kept so.

        Raises as chardev() does.
        """
        left = [each for each in self.backends.values() if not each.used_by and each.kind != "stdio"]
        return [self.chardev(each, "") for each in left]

    def _make(self, backend: Backend, given: Given) -> Chardev:
        if backend.mux and backend.kind != "stdio":
            raise DeviceError(
                f"chardev {backend.name}: mux=on is for stdio; give the monitor an end of its own"
            )
        if backend.kind == "null":
            return Chardev()
        if backend.kind == "pty":
            given.idle("path")
            from emu.backends.streams import open_pty

            return open_pty()
        if backend.kind == "stdio":
            given.idle("signal")
            if self.console is not None:
                raise DeviceError(
                    "two lines cannot both be stdio; use pty or unix:PATH,server for the second"
                )
            from emu.console import Console

            self.console = Console()
            return self.console
        if backend.kind == "file":
            from emu.backends.streams import open_file

            path, append = given.needed("path"), given.switch("append")
            return open_file(self.descriptors.path(path), append=append)
        return self._socket(given)

    def _socket(self, given: Given) -> Chardev:
        from emu.backends.streams import open_address, open_inherited

        telnet, fd = given.switch("telnet"), given.word("fd")
        server, wait = given.switch("server"), given.switch("wait", True)
        given.idle("nodelay", "delay", "reconnect", "ipv4", "ipv6", "tight")
        given.only("abstract", "off")
        given.only("websocket", "off")
        if fd:
            return open_inherited(self.descriptors.take(fd, given.option), telnet=telnet)
        path, host, port = given.word("path"), given.word("host"), given.word("port")
        if bool(path) == bool(port):
            raise DeviceError(f"{given.option}: give path=PATH, host=HOST,port=PORT or fd=N")
        kind, address = ("unix", path) if path else ("tcp", f"{host or '127.0.0.1'}:{port}")
        made = open_address(kind, address, server=server, telnet=telnet)
        made.awaited = server and wait
        return made

    # -- as a monitor's -------------------------------------------------------------

    def monitor(self, backend: Backend, user: str) -> str | Chardev:
        """The end for a monitor: words for a socket, else a Chardev.  Raises DeviceError."""
        given = backend.given
        if backend.kind != "socket":
            return self.chardev(backend, user)
        self._claim(backend, user)
        telnet, fd = given.switch("telnet"), given.word("fd")
        server, wait = given.switch("server"), given.switch("wait", True)
        given.idle("nodelay", "delay", "reconnect", "ipv4", "ipv6", "tight", "mux", "logfile", "logappend")
        given.only("abstract", "off")
        path, host, port = given.word("path"), given.word("host"), given.word("port")
        given.finish()
        if fd:
            return f"fd:{self.descriptors.take(fd, given.option)}"
        if bool(path) == bool(port):
            raise DeviceError(f"{given.option}: give path=PATH, host=HOST,port=PORT or fd=N")
        ways = f",server={'on' if server else 'off'}" + (f",wait={'on' if wait else 'off'}" if server else "")
        if path:
            return f"unix:{path.replace(',', ',,')}{ways}"
        return f"{'telnet' if telnet else 'tcp'}:{host or '127.0.0.1'}:{port}{ways}"
