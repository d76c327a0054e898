"""The host's ends of network cards, by the words of `--net`.

    user[,hostfwd=tcp:127.0.0.1:2222-:22][,restrict=on][,net=10.0.2.0/24][,host=A][,dns=A][,dhcpstart=A]
        [,hostname=NAME][,ipv6=off]
    tap,(ifname=NAME[,script=no] | fd=N)
    socket,(listen=[ADDRESS]:PORT | connect=ADDRESS:PORT | unix=PATH[,server=on] | fd=N)
    none

each with mac=XX:XX:XX:XX:XX:XX where the guest's address matters.  Frames of `socket` are QEMU's -netdev
socket's, so a guest of QEMU's may be at the other end.  hostfwd may come several times.

What moves frames is C (native/net.h), in the card's thread.
"""

from __future__ import annotations

from typing import Any

from accel.errors import DeviceError, nearest
from emu.devices.native import ffi
from emu.keyval import Options

# The first card's address; QEMU's, which is nobody's.
MAC = bytes((0x52, 0x54, 0x00, 0x12, 0x34, 0x56))


# Options by kind, besides mac; and those that are on or off.
KINDS = {
    "user": ("hostfwd", "net", "host", "dns", "dhcpstart", "hostname"),
    "tap": ("ifname", "script", "fd"),
    "socket": ("listen", "connect", "unix", "fd"),
}
SWITCHES = {"user": ("restrict", "ipv6"), "tap": (), "socket": ("server",)}


class NetError(DeviceError):
    """A network that cannot be had, or words that name none."""


class Peer:
    """An end on the host: a card takes it, once."""

    def __init__(self, pointer: Any) -> None:
        if pointer == ffi.NULL:
            raise MemoryError("network")
        self._pointer = pointer

    @property
    def free(self) -> bool:
        """Whether a card may have it still."""
        return self._pointer is not None

    def take(self) -> Any:
        """The emu_net of net.h, the caller's from now on.  Raises NetError for one that a card has."""
        if self._pointer is None:
            raise NetError("this end of a network is a card's already; make a second one")
        pointer, self._pointer = self._pointer, None
        return pointer

    def close(self) -> None:
        """Ends what no card took."""
        if self._pointer is not None:
            from emu.devices.native import lib

            lib.emu_net_free(self.take())


def open_net(words: str, number: int = 0) -> tuple[Peer, bytes] | None:
    """The end that the words name and the card's address (by default from the card's number); None: no card.

    Raises NetError, or another DeviceError for words that are no options.
    """
    kind, _, rest = words.partition(",")
    if kind == "none" and not rest:
        return None
    if kind not in KINDS:
        raise NetError(f"no network is called {kind!r}{nearest(kind, KINDS)}; use {', '.join(KINDS)} or none")
    options = Options(rest, f"--net {kind}", ("mac", *KINDS[kind]), switches=SWITCHES[kind])
    mac = address(options.word("mac")) if "mac" in options else MAC[:5] + bytes((MAC[5] + number & 0xFF,))
    if kind == "user":
        from emu.net.user import User

        return User.from_words(options), mac
    if kind == "tap":
        return _tap(options), mac
    from emu.net.sockets import from_words

    return from_words(options), mac


def address(words: str) -> bytes:
    """A card's address; not a group's.  Raises NetError."""
    parts = words.split(":")
    if len(parts) != 6 or not all(len(part) == 2 and part.isalnum() for part in parts):
        raise NetError(f"mac={words}: an address has six bytes, as 52:54:00:12:34:56")
    try:
        made = bytes.fromhex("".join(parts))
    except ValueError:
        raise NetError(f"mac={words}: an address has hexadecimal digits, as 52:54:00:12:34:56") from None
    if made[0] & 1:
        raise NetError(f"mac={words}: this is a group's address; make the first byte even")
    return made


def _tap(options: Options) -> Peer:
    from emu.net.tap import InheritedTap, Tap

    fd = options.word("fd")
    if fd:
        if not fd.isascii() or not fd.isdigit() or "ifname" in options:
            raise NetError(f"--net tap: fd={fd}: give the number of a descriptor, and no ifname")
        try:
            return InheritedTap(int(fd))
        except OSError as error:
            raise NetError(f"--net tap: fd={fd}: {error.strerror}; hand an open interface on") from None
    name, script = options.word("ifname"), options.word("script", "no")
    if script != "no":
        raise NetError(
            f"--net tap: script={script}: emu runs no scripts; set the interface up and say script=no"
        )
    if not name:
        raise NetError("--net tap: which interface? give ifname=NAME")
    return Tap(name)
