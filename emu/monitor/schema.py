"""query-qmp-schema: the commands' and events' types as QEMU's clients read them, made from the registry.

Types are numbered, so nobody relies on their names; a Python type is told once.
"""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin, is_typeddict

from emu.monitor.command import Size, alternatives, commands, members
from emu.monitor.events import EVENTS

BUILTIN = {
    str: ("str", "string"),
    bool: ("bool", "boolean"),
    int: ("int", "int"),
    float: ("number", "number"),
}
BUILTIN |= {Size: ("int", "int"), Any: ("any", "value")}


class Schema:
    """Collects entries."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self._names: dict[Any, str] = {}
        self._empty = ""

    def build(self) -> list[dict[str, Any]]:
        """All entries."""
        for name, each in sorted(commands().items()):
            arguments = [(a.name, a.type, a.optional) for a in each.arguments.values()]
            entry: dict[str, Any] = {
                "name": name,
                "meta-type": "command",
                "arg-type": self._object(arguments),
                "ret-type": self._empty_object() if each.returns is None else self.type(each.returns),
            }
            if each.features:
                entry["features"] = list(each.features)
            self.entries.append(entry)
        for name, data in EVENTS.items():
            brings = self._empty_object() if data is None else self.type(data)
            self.entries.append({"name": name, "meta-type": "event", "arg-type": brings})
        return self.entries

    def type(self, kind: Any) -> str:
        """The name of a type, entered when it is first asked for."""
        kinds = alternatives(kind)
        key = str(kinds) if get_origin(kind) in (list, Literal) or len(kinds) > 1 else kinds[0]
        if key in self._names:
            return self._names[key]
        (single,) = kinds if len(kinds) == 1 else (None,)
        if single in BUILTIN:
            name, json = BUILTIN[single]
            self._names[key] = name
            if all(entry["name"] != name for entry in self.entries):
                self.entries.append({"name": name, "meta-type": "builtin", "json-type": json})
            return name
        if get_origin(single) is list:
            element = self.type(get_args(single)[0])
            name = self._names[key] = f"[{element}]"
            if all(entry["name"] != name for entry in self.entries):
                self.entries.append({"name": name, "meta-type": "array", "element-type": element})
            return name
        name = self._names[key] = self._number()
        if single is None:
            among = [{"type": self.type(each)} for each in kinds]
            self.entries.append({"name": name, "meta-type": "alternate", "members": among})
        elif get_origin(single) is Literal:
            values = list(get_args(single))
            listed = [{"name": value} for value in values]
            self.entries.append({"name": name, "meta-type": "enum", "values": values, "members": listed})
        elif is_typeddict(single):
            self._object([(member, *of) for member, of in members(single).items()], name)
        else:  # an object with members of any name
            self._object([], name)
        return name

    def _object(self, listed: list[tuple[str, Any, bool]], name: str = "") -> str:
        if not listed and not name:
            return self._empty_object()
        every = []
        for member, kind, optional in listed:
            told: dict[str, Any] = {"name": member, "type": self.type(kind)}
            if optional:
                told["default"] = None
            every.append(told)
        name = name or self._number()
        self.entries.append({"name": name, "meta-type": "object", "members": every})
        return name

    def _empty_object(self) -> str:
        if not self._empty:
            self._empty = self._number()
            self.entries.append({"name": self._empty, "meta-type": "object", "members": []})
        return self._empty

    def _number(self) -> str:
        self._last = getattr(self, "_last", -1) + 1
        return str(self._last)


def schema() -> list[dict[str, Any]]:
    """The reply of query-qmp-schema."""
    return Schema().build()
