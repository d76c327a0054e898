"""Exit statuses that all subcommands have in common; what is special to one is STATUSES of its module."""

from __future__ import annotations

from typing import Any

COMMON = {
    "0": "it is done",
    "2": "a wrong use, a file that cannot be read or written, or something that this host cannot do",
    "70": "a mistake of emu's own; a report of it is written, and where is said",
    "128+N": "ended by signal N, 130 by Ctrl-C: emu dies of the signal, and a shell says so",
}


def statuses(body: Any) -> dict[str, str]:
    """The statuses of a subcommand's module, by number."""
    own: dict[str, str] = getattr(body, "STATUSES", {})
    return dict(sorted((COMMON | own).items(), key=lambda row: (not row[0].isdigit(), len(row[0]), row[0])))
