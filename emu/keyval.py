"""Options within an option, as QEMU writes them: `FILE,format=qcow2,readonly=on`; a doubled comma is one."""

from __future__ import annotations

from collections.abc import Iterable

from accel.errors import DeviceError

SWITCH = {"on": True, "off": False, "yes": True, "no": False}


class Options(dict[str, list[str]]):
    """The options by name; each may come again.  option: what they are options of, for messages."""

    def __init__(self, words: str, option: str, known: Iterable[str], *, first: str = "") -> None:
        """first: the name of a first word that has none.  Raises DeviceError for a name that is not known."""
        super().__init__()
        self.option = option
        known = tuple(known)
        for number, word in enumerate(split(words)):
            name, equals, value = word.partition("=")
            if number == 0 and first and (not equals or name not in (*known, first)):
                name, value = first, word
            elif not equals:
                value = "on"
            if name not in known and name != first:
                what = ", ".join(known)
                raise DeviceError(f"{option} {words}: no option is called {name!r}; it takes {what}")
            self.setdefault(name, []).append(value)

    def word(self, name: str, default: str = "", among: Iterable[str] = ()) -> str:
        """The last value of an option; among: what it may be.  Raises DeviceError."""
        value = self[name][-1] if name in self else default
        among = tuple(among)
        if among and value not in among:
            raise DeviceError(f"{self.option}: {name}={value}; it may be {', '.join(among)}")
        return value

    def switch(self, name: str, default: bool = False) -> bool:
        """An option that is on or off.  Raises DeviceError."""
        return SWITCH[self.word(name, among=SWITCH)] if name in self else default


def split(words: str) -> list[str]:
    """The parts between single commas."""
    parts = [""]
    rest = words
    while rest:
        head, comma, rest = rest.partition(",")
        parts[-1] += head
        if comma and rest.startswith(","):
            parts[-1] += ","
            rest = rest[1:]
        elif comma:
            parts.append("")
    return parts
