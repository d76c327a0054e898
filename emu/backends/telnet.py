"""Telnet (RFC 854, 857, 858), as far as a line needs it: we echo, and get keys as they are typed."""

from __future__ import annotations

IAC, DONT, DO, WONT, WILL, SB, SE = 255, 254, 253, 252, 251, 250, 240
ECHO, GO_AHEAD = 1, 3
CHARACTERWISE = bytes([IAC, WILL, ECHO, IAC, WILL, GO_AHEAD])


class Telnet:
    """Takes telnet's own bytes out of what a client sends."""

    def __init__(self) -> None:
        self._state = "data"

    def plain(self, data: bytes) -> bytes:
        """What was typed."""
        typed = bytearray()
        for byte in data:
            if self._state == "data":
                if byte == IAC:
                    self._state = "command"
                else:
                    typed.append(byte)
            elif self._state == "command":
                self._state = "data"
                if byte == IAC:
                    typed.append(IAC)
                elif WILL <= byte <= DONT:
                    self._state = "option"
                elif byte == SB:
                    self._state = "parameters"
            elif self._state == "option":
                self._state = "data"
            elif self._state == "parameters":
                if byte == IAC:
                    self._state = "parameters end"
            else:
                self._state = "data" if byte == SE else "parameters"
        return bytes(typed)
