"""Exit statuses that all subcommands have in common; what is special to one is STATUSES of its module."""

from __future__ import annotations

from importlib import import_module
from typing import Any

COMMON = {
    "0": "it is done",
    "2": "a wrong use, a file that cannot be read or written, or something that this host cannot do",
    "70": "a mistake of emu's own; a report of it is written, and where is said",
    "128+N": "ended by signal N, as a shell has it: 130 by Ctrl-C, 143 by SIGTERM",
}


def statuses(body: Any) -> dict[str, str]:
    """The statuses of a subcommand's module, by number."""
    own: dict[str, str] = getattr(body, "STATUSES", {})
    return dict(sorted((COMMON | own).items(), key=lambda row: (not row[0].isdigit(), len(row[0]), row[0])))


def statuses_of() -> list[tuple[str, str, tuple[str, ...]]]:
    """All there are: number, meaning, and the subcommands that have it, () for those that all have."""
    from emu.cli import SUBCOMMANDS, program

    found: dict[tuple[str, str], list[str]] = {row: [] for row in COMMON.items()}
    for name, body in (
        ("PROGRAM", program),
        *((name, import_module(row[0])) for name, row in SUBCOMMANDS.items()),
    ):
        for row in getattr(body, "STATUSES", {}).items():
            found.setdefault(row, []).append(name)
    rows = [(status, meaning, tuple(names)) for (status, meaning), names in found.items()]
    return sorted(rows, key=lambda row: (not row[0].isdigit(), len(row[0]), row[0]))
