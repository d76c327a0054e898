"""QMP as it is spoken in a session: requests are done as they come, and events told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from emu.monitor.command import CommandError, Later
from emu.monitor.qmp import Qmp, line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.monitor.client import Client
    from emu.monitor.events import Event


class QmpSpeech:
    """A client's QMP."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.qmp = Qmp()

    @property
    def ended(self) -> bool:
        return self.qmp.ended

    def begin(self) -> bytes:
        return self.qmp.greeting()

    def hear(self, data: bytes) -> Iterator[bytes | Later[Any]]:
        self.qmp.feed(data)
        for request in self.qmp.requests():
            if isinstance(request, bytes):
                yield request
                continue
            try:
                value = self.client.execute(request.command, request.arguments)
                if isinstance(value, Later):
                    yield value
                    value = value.result()
            except CommandError as error:
                yield self.qmp.error(request, error)
            else:
                yield self.qmp.reply(request, value)

    def told(self, event: Event) -> bytes:
        # A client that has not negotiated yet does not expect any.
        return line(event.message()) if self.qmp.negotiated else b""
