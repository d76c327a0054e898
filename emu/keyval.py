"""Options within an option, as QEMU writes them: `FILE,format=qcow2,readonly=on`; a doubled comma is one."""

from __future__ import annotations

from collections.abc import Iterable

from accel.errors import DeviceError, nearest


class Options(dict[str, list[str]]):
    """The options by name; each may come again.  option: what they are options of, for messages."""

    def __init__(
        self,
        words: str,
        option: str,
        known: Iterable[str],
        *,
        first: str = "",
        switches: Iterable[str] = (),
    ) -> None:
        """first: the name of a first word that has none; switches: those that are on without a value.

        Raises DeviceError for a name that is not known, and for one without a value.
        """
        super().__init__()
        self.option = option
        known = (*known, *switches)
        for number, word in enumerate(split(words) if words else ()):
            name, equals, value = word.partition("=")
            if number == 0 and first and (not equals or name not in (*known, first)):
                name, value = first, word
            elif name not in known and name != first:
                meant = nearest(name, known)
                raise DeviceError(
                    f"{option}: no option is called {name!r}{meant}; it takes {', '.join(known)}"
                )
            elif not equals and name in switches:
                value = "on"
            elif not value:
                raise DeviceError(f"{option}: {word!r} has no value; options are name=value")
            self.setdefault(name, []).append(value)

    def word(self, name: str, default: str = "", among: Iterable[str] = ()) -> str:
        """The value of an option that comes once; among: what it may be.  Raises DeviceError."""
        values = self.get(name, [default])
        if len(values) > 1:
            raise DeviceError(f"{self.option}: {name} is given {len(values)} times; give it once")
        among = tuple(among)
        if among and values[0] not in among:
            meant = nearest(values[0], among)
            raise DeviceError(f"{self.option}: {name}={values[0]}{meant}; it may be {', '.join(among)}")
        return values[0]

    def switch(self, name: str, default: bool = False) -> bool:
        """An option that is on or off.  Raises DeviceError."""
        value = self.word(name, "on" if default else "off")
        if value not in ("on", "off"):
            raise DeviceError(f"{self.option}: {name}={value}; use on or off")
        return value == "on"


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
