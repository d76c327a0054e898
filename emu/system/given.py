"""Given: what stands behind one of QEMU's options, as `virtio-blk-pci,drive=d0,id=disk0` or as JSON.

Both forms are the same names with words for values; members of a JSON object within another have names with a
dot, as `file.filename`.  Whoever takes a value takes its name off, and finish() tells what nobody has taken:
nothing is passed over in silence.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from accel.errors import DeviceError, nearest
from emu.keyval import split

UNITS = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40}


class Given:
    """The names and values.  option: for messages; first: the name of a first word that has none."""

    def __init__(self, option: str, words: str, *, first: str = "", json: bool = True) -> None:
        self.option = option
        self.values: dict[str, list[str]] = {}
        self._asked: set[str] = set()
        if json and words.startswith("{"):
            self._read_json(words)
            return
        for number, word in enumerate(split(words) if words else ()):
            name, equals, value = word.partition("=")
            if not equals and number == 0 and first:
                name, value = first, word
            elif not equals:
                # As QEMU has them: `server` is server=on, and `nowait` wait=off.
                negated = word.startswith("no") and word not in ("nodelay", "node-name")
                name, value = (word[2:], "off") if negated else (word, "on")
            self.values.setdefault(name, []).append(value)

    @classmethod
    def of(cls, option: str, values: dict[str, Any]) -> Given:
        """What comes as JSON's values already.  Raises DeviceError."""
        made = cls(option, "")
        made._enter("", values, 0)
        return made

    def _read_json(self, words: str) -> None:
        import json

        try:
            value = json.loads(words)
        except (ValueError, RecursionError) as error:
            raise DeviceError(f"{self.option}: this is no JSON ({error})") from None
        if not isinstance(value, dict):
            raise DeviceError(f"{self.option}: the JSON is no object; write {{name: value, ...}}")
        self._enter("", value, 0)

    def _enter(self, prefix: str, value: Any, depth: int) -> None:
        if depth > 32:
            raise DeviceError(f"{self.option}: the JSON is nested too deeply")
        if isinstance(value, dict):
            for name, member in value.items():
                self._enter(f"{prefix}.{name}" if prefix else name, member, depth + 1)
        elif isinstance(value, list):
            for number, member in enumerate(value):
                self._enter(f"{prefix}.{number}", member, depth + 1)
        elif isinstance(value, bool):
            self.values[prefix] = ["on" if value else "off"]
        else:
            self.values[prefix] = ["" if value is None else str(value)]

    def word(self, name: str, default: str = "", among: Iterable[str] = ()) -> str:
        """Takes a value; of several the last counts, as QEMU has it.  Raises DeviceError."""
        self._asked.add(name)
        value = self.values.pop(name, [default])[-1]
        among = tuple(among)
        if among and value not in among:
            known = list(filter(None, among))
            meant = nearest(value, known)
            raise DeviceError(f"{self.option}: {name}={value}{meant}; it may be {', '.join(known)}")
        return value

    def needed(self, name: str) -> str:
        """Takes a value that must be there.  Raises DeviceError."""
        value = self.word(name)
        if not value:
            raise DeviceError(f"{self.option}: {name} is missing; give {name}=...")
        return value

    def switch(self, name: str, default: bool = False) -> bool:
        """Takes what is on or off.  Raises DeviceError."""
        value = self.word(name, "on" if default else "off")
        if value not in ("on", "off", "yes", "no", "true", "false", "y", "n"):
            raise DeviceError(f"{self.option}: {name}={value}; use on or off")
        return value in ("on", "yes", "true", "y")

    def number(self, name: str, default: int = 0) -> int:
        """Takes a number, also as 0x10.  Raises DeviceError."""
        value = self.word(name, str(default))
        try:
            return int(value, 0)
        except ValueError:
            raise DeviceError(f"{self.option}: {name}={value} is no number") from None

    def bytes(self, name: str, default: int, unit: str = "b") -> int:
        """Takes a size; unit: of a bare number.  Raises DeviceError."""
        value = self.word(name)
        return size(value, f"{self.option}: {name}", unit) if value else default

    def group(self, prefix: str) -> Given:
        """Takes the members of an object within: prefix.NAME becomes NAME."""
        inner = Given(f"{self.option}: {prefix}", "")
        for name in [name for name in self.values if name.startswith(f"{prefix}.")]:
            inner.values[name[len(prefix) + 1 :]] = self.values.pop(name)
        return inner

    def all(self, name: str) -> list[str]:
        """Takes every value of what may come several times, or as a JSON list."""
        self._asked.add(name)
        found = self.values.pop(name, [])
        number = 0
        while f"{name}.{number}" in self.values or f"{name}.{number}.str" in self.values:
            found += self.values.pop(f"{name}.{number}", []) or self.values.pop(f"{name}.{number}.str", [])
            number += 1
        return found

    def idle(self, *names: str) -> None:
        """Takes what has no effect here by its nature."""
        self._asked.update(names)
        for name in names:
            self.values.pop(name, None)

    def only(self, name: str, *values: str, why: str = "") -> None:
        """Takes what may have these values alone, which are what there is anyway.  Raises DeviceError."""
        value = self.word(name, values[0])
        if value not in values:
            allowed = " or ".join(values)
            raise DeviceError(
                f"{self.option}: {name}={value} is not supported{why and ': '}{why}; use {allowed}"
            )

    def finish(self) -> None:
        """Raises DeviceError for what nobody has taken."""
        for name in self.values:
            meant = nearest(name, self._asked)
            raise DeviceError(f"{self.option}: {name} is not supported{meant}; leave it out")


def size(words: str, what: str, unit: str = "b") -> int:
    """A size in bytes: 4096, 512M, 1G; unit: of a bare number.  Raises DeviceError."""
    digits = words.rstrip("bkmgtBKMGT")
    suffix = words[len(digits) :].lower() or unit
    if not digits.isascii() or not digits.isdigit() or len(digits) > 20 or suffix not in UNITS:
        raise DeviceError(f"{what}: {words!r} is no size; use 512M or 1G")
    return int(digits) << UNITS[suffix]
