"""The host's ends of network cards, by the words of `--net`.

    user[,hostfwd=tcp:127.0.0.1:2222-:22][,restrict=on][,net=10.0.2.0/24][,host=A][,dns=A][,dhcpstart=A]
        [,hostname=NAME][,ipv6=off]
    tap,ifname=NAME[,script=no]
    socket,(listen=[ADDRESS]:PORT | connect=ADDRESS:PORT | unix=PATH[,server=on] | fd=N)
    none

each with mac=XX:XX:XX:XX:XX:XX where the guest's address matters.  Frames of `socket` are QEMU's -netdev
socket's, so a guest of QEMU's may be at the other end.  hostfwd may come several times.

What moves frames is C (native/net.h), in the card's thread.
"""

from __future__ import annotations

from typing import Any

from accel.errors import EmuError
from emu.devices.native import ffi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# The first card's address; QEMU's, which is nobody's.
MAC = bytes((0x52, 0x54, 0x00, 0x12, 0x34, 0x56))


class NetError(EmuError):
    """A network that cannot be had, or words that name none."""


class Peer:
    """An end on the host: a card takes it, once."""

    def __init__(self, pointer: Any) -> None:
        if pointer == ffi.NULL:
            raise MemoryError("network")
        self._pointer = pointer

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


class Words:
    """Options of the form name=value, each asked for once; what nobody asked for is an error."""

    def __init__(self, kind: str, words: list[str]) -> None:
        self.kind = kind
        self.given: dict[str, list[str]] = {}
        for word in words:
            name, equals, value = word.partition("=")
            if not equals or not value:
                raise NetError(f"--net {kind}: {word!r} is no option; options are name=value")
            self.given.setdefault(name, []).append(value)

    def all(self, name: str) -> list[str]:
        """Every value of an option."""
        return self.given.pop(name, [])

    def one(self, name: str, default: str = "") -> str:
        """The value of an option that comes once at most."""
        values = self.all(name)
        if len(values) > 1:
            raise NetError(f"--net {self.kind}: {name} is given {len(values)} times; give it once")
        return values[0] if values else default

    def switch(self, name: str, default: bool) -> bool:
        """on or off."""
        word = self.one(name, "on" if default else "off")
        if word not in ("on", "off"):
            raise NetError(f"--net {self.kind}: {name}={word}; use on or off")
        return word == "on"

    def end(self) -> None:
        """Raises NetError for what is left."""
        for name in self.given:
            raise NetError(f"--net {self.kind}: there is no option {name!r}; see emu boot --help")


def open_net(words: str, number: int = 0) -> tuple[Peer, bytes] | None:
    """The end that the words name and the card's address (by default from the card's number); None: no card.

    Raises NetError.
    """
    kind, *rest = words.split(",")
    kinds: dict[str, Callable[[Words], Peer]] = {"user": _user, "tap": _tap, "socket": _socket}
    if kind == "none" and not rest:
        return None
    if kind not in kinds:
        raise NetError(f"no network is called {kind!r}; use user, tap, socket or none")
    given = Words(kind, rest)
    mac = address(given.one("mac")) if "mac" in given.given else MAC[:5] + bytes((MAC[5] + number & 0xFF,))
    return kinds[kind](given), mac


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


def _user(words: Words) -> Peer:
    from emu.net.user import User

    return User.from_words(words)


def _tap(words: Words) -> Peer:
    from emu.net.tap import Tap

    name, script = words.one("ifname"), words.one("script", "no")
    words.end()
    if script != "no":
        raise NetError(
            f"--net tap: script={script}: emu runs no scripts; set the interface up and say script=no"
        )
    if not name:
        raise NetError("--net tap: which interface? give ifname=NAME")
    return Tap(name)


def _socket(words: Words) -> Peer:
    from emu.net.sockets import from_words

    return from_words(words)
