"""Clients of a whole machine, in its loop."""

from __future__ import annotations

import socket
from pathlib import Path

from emu.gdb.sockets import Connection, listen
from emu.gdb.stub import Stub

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.gdb.machine import MachineTarget
    from emu.loop import Loop


class MachineServer:
    """Serves one client at a time, in a machine's loop."""

    def __init__(self, target: MachineTarget, words: str) -> None:
        self.target = target
        self.loop: Loop = target.machine.loop
        self._listener, self.place, self.warning = listen(words)
        self.lacks = ""
        if target.lacks:
            name = target.machine.accel.caps.name
            self.lacks = f"{name} on this host has no {' and no '.join(target.lacks)}; --accel tcg has"
        self._unlink = self.place if self._listener.family == socket.AF_UNIX else ""
        self._listener.setblocking(False)
        self._connection: Connection | None = None
        self.loop.watch(self._listener.fileno(), read=self._accept)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        if self._connection is not None:
            client.close()  # one debugger is enough
            return
        self._connection = Connection(client, Stub(self.target))
        tell: Callable[..., None] = self.target.stopped

        def stopped(stop: object) -> None:
            tell(stop)
            self._flush()

        self.target.stopped = stopped
        self.target.attach()
        self.loop.watch(client.fileno(), read=self._read)

    def _read(self) -> None:
        connection = self._connection
        if connection is not None and not connection.pump():
            self._drop()

    def _flush(self) -> None:
        if self._connection is not None and not self._connection.flush():
            self.loop.call(self._drop)

    def _drop(self) -> None:
        """The client has gone; the machine goes on."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self.loop.watch(connection.client.fileno())
        self.target.stopped = lambda stop: None
        if not connection.stub.ended:
            self.target.detach()
        connection.close()

    def leave(self) -> None:
        """Listens no more; who is there is let go soon: it may be who asked for this, and wants an answer."""
        self._unlisten()
        if self._connection is not None:
            self.loop.call(self._drop)

    def ended(self, code: int) -> None:
        """The machine's run has ended with that exit code."""
        self.target.ended(code)

    def close(self) -> None:
        if self._connection is not None:
            self.loop.watch(self._connection.client.fileno())
            self._connection.close()
            self._connection = None
        self._unlisten()

    def _unlisten(self) -> None:
        self.loop.watch(self._listener.fileno())
        self._listener.close()
        if self._unlink:
            Path(self._unlink).unlink(missing_ok=True)
