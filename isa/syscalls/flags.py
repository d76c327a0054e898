"""Names of the numbers in system calls' arguments, from flags.tbl, whose head explains its lines.

`load("aarch64")` gives the groups of one ABI; `load("arm").of("openat", "flags").text(0o101)` is
"O_WRONLY|O_CREAT".
"""

from __future__ import annotations

from isa.arch import canonical
from isa.syscalls import TableError, lines

_PATH = f"{__file__.rpartition('/')[0]}/flags.tbl"


class Group:
    """The names of the numbers of one kind.

    exact   names by number
    fields  masks, each with names of the numbers under it
    bits    (bits, name), those of several bits first
    """

    __slots__ = ("bits", "exact", "fields", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.exact: dict[int, str] = {}
        self.fields: dict[int, dict[int, str]] = {}
        self.bits: list[tuple[int, str]] = []

    def text(self, value: int) -> str:
        """The number in names, as strace writes it: with | between them, the rest in hexadecimal."""
        if value in self.exact:
            return self.exact[value]
        if not self.bits and not self.fields:
            return hex(value) if value > 0xFFFF else str(value)
        words, rest = [], value
        for mask, names in self.fields.items():
            words.append(names.get(value & mask, hex(value & mask)))
            rest &= ~mask
        found = []
        for bits, name in self.bits:
            if rest & bits == bits:
                found.append((bits, name))
                rest &= ~bits
        words += [name for _, name in sorted(found)]
        if rest:
            words.append(hex(rest))
        return "|".join(words) or "0"


class Flags:
    """The groups of one ABI by name, and which argument each is for."""

    def __init__(self, groups: dict[str, Group], uses: dict[str, str]) -> None:
        self.groups = groups
        self.uses = uses

    def of(self, call: str, argument: str) -> Group | None:
        """The group of a system call's argument; None where there is none."""
        name = self.uses.get(f"{call}.{argument}") or self.uses.get(f"*.{argument}")
        return self.groups[name] if name else None


def load(arch_name: str, path: str = _PATH) -> Flags:
    """The names as one ABI has them.  Raise `UnknownArch`, `TableError`, or OSError without the table."""
    arch = canonical(arch_name)
    groups: dict[str, Group] = {}
    special: dict[str, Group] = {}
    uses: dict[str, str] = {}
    for where, words in lines(path):
        kind, name, *rest = words if len(words) > 2 else ("", "")
        if kind not in ("bits", "one", "field", "use"):
            raise TableError(f"{where}: expected `bits|one|field|use GROUP ...`, got {' '.join(words)!r}")
        if kind == "use":
            for use in rest:
                if use in uses or use.count(".") != 1 or name not in groups:
                    raise TableError(f"{where}: {use} is no CALL.ARGUMENT, or has a group, or {name} is none")
                uses[use] = name
            continue
        bare, _, abi = name.partition("@")
        if abi and canonical(abi) != arch:
            _add(where, Group(bare), kind, rest)
        else:
            _add(where, (special if abi else groups).setdefault(bare, Group(bare)), kind, rest)
    for name, group in special.items():
        common = groups.setdefault(name, Group(name))
        common.exact = group.exact | common.exact
        common.bits = group.bits + common.bits
        common.fields = group.fields | common.fields
    for group in groups.values():
        group.bits.sort(key=lambda each: -each[0].bit_count() if each[0].bit_count() > 1 else 0)
    return Flags(groups, uses)


def _add(where: str, group: Group, kind: str, words: list[str]) -> None:
    """The names of one line."""
    try:
        mask = int(words.pop(0), 0) if kind == "field" else 0
        pairs = [(name, int(value, 0)) for name, _, value in (word.partition("=") for word in words)]
    except ValueError:
        raise TableError(f"{where}: expected NAME=value, got {' '.join(words)!r}") from None
    for name, value in pairs:
        if kind == "bits" and value:
            group.bits.append((value, name))
        elif kind == "field" and value & mask == value:
            group.fields.setdefault(mask, {}).setdefault(value, name)
        elif kind == "one":
            group.exact.setdefault(value, name)
        else:
            raise TableError(f"{where}: {name}={value} is no {kind}")
