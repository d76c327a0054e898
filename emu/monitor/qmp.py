"""QMP without sockets: bytes of a client in, requests out; replies and events as bytes to send.

    session = Qmp()
    send(session.greeting())
    session.feed(data)
    for request in session.requests():
        send(session.reply(request, execute(request.command, request.arguments)))

A client negotiates first (qmp_capabilities); until then everything else is an error.  Each reply is one line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TypedDict

from emu.monitor.command import CommandError
from emu.monitor.json_stream import JsonStream, Malformed


class VersionTriple(TypedDict):
    major: int
    minor: int
    micro: int


# What query-version tells, for clients that look which of QEMU's commands to use: these are of this version.
VERSION: VersionTriple = {"major": 7, "minor": 2, "micro": 0}
NEGOTIATE = "qmp_capabilities"
# How long a reply may be: clients read no more than 10 MiB of one line.
LONGEST_REPLY = 10 << 20

_encode = json.JSONEncoder(separators=(", ", ": ")).encode


class Request:
    """A command and its arguments.  id: what the client wants its reply marked with."""

    __slots__ = ("arguments", "command", "marks")

    def __init__(self, command: str, arguments: dict[str, Any], marks: dict[str, Any]) -> None:
        self.command = command
        self.arguments = arguments
        self.marks = marks


class Qmp:
    """One client's conversation.  ended: nothing more will be understood; send what there is, and close."""

    def __init__(self) -> None:
        self.ended = False
        self.negotiated = False
        self._stream = JsonStream()

    def greeting(self) -> bytes:
        """What the client is to be sent first."""
        from emu import __version__

        version = {"qemu": VERSION, "package": f"emu {__version__}"}
        return line({"QMP": {"version": version, "capabilities": []}})

    def feed(self, data: bytes) -> None:
        """Bytes that the client has sent."""
        if not self.ended:
            self._stream.feed(data)

    def requests(self) -> Iterator[Request | bytes]:
        """What has come: requests to be done, and the bytes that answer what is none."""
        for value in self._stream.values():
            if isinstance(value, Malformed):
                self.ended = value.fatal
                yield refusal({}, CommandError(str(value)))
                continue
            marks: dict[str, Any] = {}
            try:
                request = self._request(value, marks)
            except CommandError as error:
                yield refusal(marks, error)
            else:
                yield request if request is not None else line({"return": {}, **marks})
            if self.ended:
                return

    def _request(self, value: Any, marks: dict[str, Any]) -> Request | None:
        """The request that a value is; None for a negotiation, which is done here."""
        if not isinstance(value, dict):
            raise CommandError("QMP input must be a JSON object")
        if "id" in value:
            marks["id"] = value["id"]
        for member in value:
            if member not in ("execute", "arguments", "id"):
                raise CommandError(f"QMP input member '{member}' is unexpected")
        name, arguments = value.get("execute"), value.get("arguments", {})
        if name is None:
            raise CommandError("QMP input lacks member 'execute'")
        if not isinstance(name, str):
            raise CommandError("QMP input member 'execute' must be a string")
        if not isinstance(arguments, dict):
            raise CommandError("QMP input member 'arguments' must be an object")
        if name != NEGOTIATE:
            if not self.negotiated:
                text = f"Expecting capabilities negotiation with '{NEGOTIATE}'"
                raise CommandError(text, "CommandNotFound")
            return Request(name, arguments, marks)
        if self.negotiated:
            text = "Capabilities negotiation is already complete, command ignored"
            raise CommandError(text, "CommandNotFound")
        for argument, wanted in arguments.items():
            if argument != "enable":
                raise CommandError(f"Parameter '{argument}' is unexpected")
            if not isinstance(wanted, list):
                raise CommandError("Invalid parameter type for 'enable', expected: array")
            if wanted:
                raise CommandError(f"QMP capability '{wanted[0]}' is not offered; enable none")
        self.negotiated = True
        return None

    def reply(self, request: Request, value: Any) -> bytes:
        """The answer to a request that was done."""
        made = line({"return": {} if value is None else value, **request.marks})
        if len(made) > LONGEST_REPLY:
            text = f"the reply has {len(made)} bytes, and no client reads more than {LONGEST_REPLY}"
            return refusal(request.marks, CommandError(f"{text}; ask for less"))
        return made

    def error(self, request: Request, error: CommandError) -> bytes:
        """The answer to a request that cannot be done."""
        return refusal(request.marks, error)


def refusal(marks: dict[str, Any], error: CommandError) -> bytes:
    """An error as a client gets it; marked with the request's id, where it had one."""
    return line({"error": {"class": error.kind, "desc": str(error)}, **marks})


def line(message: dict[str, Any]) -> bytes:
    """A message as it is sent."""
    return _encode(message).encode() + b"\r\n"
