"""QMP: the host's ends of character streams."""

from __future__ import annotations

import os
from typing import Any, Literal, NotRequired, TypedDict

from emu.monitor.command import CommandError, command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.backends.chardev import Chardev
    from emu.monitor.client import Client

ChardevInfo = TypedDict("ChardevInfo", {"label": str, "filename": str, "frontend-open": bool})
Backend = Literal["file", "null", "pty", "socket", "stdio"]


class ChardevReturn(TypedDict):
    pty: NotRequired[str]


class BackendInfo(TypedDict):
    name: Backend


class ChardevBackend(TypedDict):
    type: Backend
    data: NotRequired[dict[str, Any]]


@command("query-chardev")
def query_chardev(client: Client) -> list[ChardevInfo]:
    """The host's ends: of serial lines, of ports, and of monitors."""
    told: list[ChardevInfo] = [
        {"label": name, "filename": each.filename, "frontend-open": _open(each)}
        for name, each in client.machine.inventory.chardevs.items()
    ]
    ends = client.control.monitors.ends if client.control.monitors is not None else []
    return told + [{"label": end.label, "filename": end.filename, "frontend-open": True} for end in ends]


def _open(chardev: Chardev) -> bool:
    """Whether somebody listens in the guest: a serial line always does, a port when it is opened."""
    front = chardev.front
    return front is not None and bool(getattr(front, "opened", True))


@command("query-chardev-backends")
def query_chardev_backends(client: Client) -> list[BackendInfo]:
    """The kinds of ends there are."""
    return [{"name": "file"}, {"name": "null"}, {"name": "pty"}, {"name": "socket"}, {"name": "stdio"}]


@command("chardev-add")
def chardev_add(client: Client, id: str, backend: ChardevBackend) -> ChardevReturn:
    """Makes a host's end that nothing uses yet: null, a pty, a file, or a socket, which nothing waits for."""
    from emu.backends.chardev import open_chardev

    inventory = client.machine.inventory
    if not id or id in inventory.chardevs:
        raise CommandError(f"chardev id '{id}' is taken or empty; give another")
    kind, data = backend["type"], backend.get("data", {})
    if kind not in ("null", "pty", "file", "socket"):
        raise CommandError(f"a {kind} cannot be added to a running machine; start it with one")
    words: str = kind
    if kind == "file":
        path = data.get("out")
        if not isinstance(path, str) or not path:
            raise CommandError("Parameter 'backend.data.out' expects a file's name")
        words = f"file:{path}"
    made = _socket(client, data) if kind == "socket" else open_chardev(words)
    made.open(client.machine.loop)
    inventory.add_chardev(id, made)
    return {"pty": made.path} if kind == "pty" else {}


def _socket(client: Client, data: dict[str, Any]) -> Chardev:
    """The end that `data` (QEMU's ChardevSocket) says.  Raises CommandError, or ChardevError."""
    from emu.backends.streams import open_address, open_inherited

    address, server, telnet = data.get("addr"), data.get("server", True), data.get("telnet", False)
    where = address.get("data") if isinstance(address, dict) else None
    if not isinstance(address, dict) or not isinstance(where, dict):
        raise CommandError("Parameter 'backend.data.addr' expects a socket's address")
    if not isinstance(server, bool) or not isinstance(telnet, bool):
        raise CommandError("Parameters 'server' and 'telnet' of 'backend.data' expect true or false")
    path, host, port, name = (where.get(each) for each in ("path", "host", "port", "str"))
    match address.get("type"):
        case "unix" if isinstance(path, str) and path:
            return open_address("unix", path, server=server, telnet=telnet)
        case "inet" if isinstance(host, str) and isinstance(port, str):
            return open_address("tcp", f"{host or '127.0.0.1'}:{port}", server=server, telnet=telnet)
        case "fd" if isinstance(name, str):
            if name not in client.descriptors:
                raise CommandError(f"File descriptor named '{name}' has not been found")
            fd = client.descriptors.pop(name)
            try:
                return open_inherited(fd, telnet=telnet)
            except BaseException:
                os.close(fd)
                raise
    raise CommandError(
        "Parameter 'backend.data.addr' expects type unix with path, inet with host and port, or fd with str"
    )


@command("chardev-remove")
def chardev_remove(client: Client, id: str) -> None:
    """Removes a host's end that nothing uses."""
    inventory = client.machine.inventory
    chardev = inventory.chardevs.get(id)
    if chardev is None:
        raise CommandError(f"Chardev '{id}' not found")
    if chardev.front is not None:
        raise CommandError(f"Chardev '{id}' is busy")
    del inventory.chardevs[id]
    chardev.close()
