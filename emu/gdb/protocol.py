"""The packets of GDB's remote serial protocol, without sockets: bytes in, payloads out, and back.

    $payload#xx      xx: the sum of the payload's bytes modulo 256
    +  -             acknowledgements, until QStartNoAckMode is agreed on
    0x03             an interrupt, between packets

Whatever comes in, nothing is raised and no more than a packet is kept.
"""

from __future__ import annotations

# The longest payload that is taken, which a client is told; memory is read and written in hexadecimal.
PACKET_SIZE = 0x20000
# A run of zeros as long as one run-length count can say: "0*~" is 1 + (126 - 29) of them.
_ZEROS, _RUN = b"0" * 98, b"0*~"
_ESCAPED = {byte: bytes((0x7D, byte ^ 0x20)) for byte in b"#$}*"}


class Interrupt:
    """The client wants what runs to stop (Ctrl-C)."""


INTERRUPT = Interrupt()


def checksum(payload: bytes) -> int:
    """What stands behind the #."""
    return sum(payload) & 0xFF


def escape(data: bytes) -> bytes:
    """Binary data as part of a payload."""
    for byte in b"}#$*":  # } first: the others' escapes begin with it
        if byte in data:
            data = data.replace(bytes((byte,)), _ESCAPED[byte])
    return data


def unescape(data: bytes) -> bytes:
    """And back; a } at the very end stands for nothing."""
    if b"}" not in data:
        return data
    first, *rest = data.split(b"}")
    # "}" itself is never what an escape stands for before xor: 0x5d is.
    return first + b"".join(bytes((part[0] ^ 0x20,)) + part[1:] for part in rest if part)


class Packets:
    """One connection's state.

    receive() gives what has come, in order; output() what is to be sent for it: acknowledgements, and packets
    again that the other side asked for.  no_acks: both sides have agreed to do without.
    """

    def __init__(self) -> None:
        self.no_acks = False
        self._in = bytearray()
        self._out = bytearray()
        self._last = b""
        self._dropping = False  # a packet that is too long, until its end

    def receive(self, data: bytes) -> list[bytes | Interrupt]:
        """Payloads and interrupts that `data` completes."""
        events: list[bytes | Interrupt] = []
        for at in range(0, len(data), PACKET_SIZE):  # so that what is kept stays small, too
            self._in += data[at : at + PACKET_SIZE]
            self._take(events)
        return events

    def _take(self, events: list[bytes | Interrupt]) -> None:
        buffer = self._in
        at = 0
        while at < len(buffer):
            byte = buffer[at]
            if byte != 0x24:  # $
                start = buffer.find(b"$", at)
                for other in buffer[at : start if start >= 0 else None]:
                    if other == 0x03:
                        events.append(INTERRUPT)
                    elif other == 0x2D and not self.no_acks:  # -
                        self._out += self._last
                if start < 0:
                    at = len(buffer)
                    break
                at = start
            end = buffer.find(b"#", at)
            again = buffer.rfind(b"$", at + 1, end if end >= 0 else len(buffer))
            if again >= 0:  # never within a packet: the rest of that one is lost
                at = again
                self._dropping = False
            if end < 0 or end + 3 > len(buffer):
                if len(buffer) - at > PACKET_SIZE + 4:
                    self._dropping = True
                    at = len(buffer)
                    buffer[at - 1 :] = b"$"  # what is still to come is the packet's
                    at -= 1
                break
            payload = bytes(buffer[at + 1 : end])
            self._got(payload, bytes(buffer[end + 1 : end + 3]), events)
            at = end + 3
        del buffer[:at]

    def _got(self, payload: bytes, sum_: bytes, events: list[bytes | Interrupt]) -> None:
        dropped, self._dropping = self._dropping or len(payload) > PACKET_SIZE, False
        if not self.no_acks:
            try:
                good = int(sum_, 16) == checksum(payload) and not dropped
            except ValueError:
                good = False
            self._out += b"+" if good else b"-"
            if not good:
                return
        if not dropped:
            events.append(payload)

    def send(self, payload: bytes) -> None:
        """A packet to the other side; binary data in it is escaped already."""
        if _ZEROS in payload:
            payload = payload.replace(_ZEROS, _RUN)
        self._last = b"$%b#%02x" % (payload, checksum(payload))
        self._out += self._last

    def output(self) -> bytes:
        """What is to be sent now."""
        out = bytes(self._out)
        self._out.clear()
        return out
