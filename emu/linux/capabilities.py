"""What the runtime does with each Linux system call: python -m emu.linux.capabilities [--markdown] [ISA ...].

The table is made from those that the runtime itself is compiled from: isa/syscalls/*.tbl and syscalls.tbl.
"""

from __future__ import annotations

import sys

from accel.errors import EmuError
from emu.native.tables import ABIS, PRIVATE, conversion, policies, policy_of
from isa.arch import UnknownArch, canonical
from isa.syscalls import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    How = Literal["passed through", "converted", "implemented", "refused"]

HOWS = {
    "passed through": "the host's kernel does it; numbers are widened, pointers checked and moved",
    "converted": "the host's kernel does it, with paths translated or structures copied into its layout",
    "implemented": "the runtime does it, as far as needed with calls of its own to the host",
    "refused": "always the errno that is named, for the reason that is given",
}


class Capability:
    """One system call of one ABI: how it is answered; reason is "ERRNO: why" if it is refused, else ""."""

    __slots__ = ("how", "name", "number", "reason")

    def __init__(self, number: int, name: str, how: How, reason: str = "") -> None:
        self.number = number
        self.name = name
        self.how = how
        self.reason = reason


def capabilities(isa: str) -> list[Capability]:
    """All of an ABI's calls, by number.  Raises EmuError for an ISA without Linux programs here."""
    try:
        abi = canonical(isa)
    except UnknownArch:
        abi = ""
    if abi not in ABIS:
        raise EmuError(f"there are no Linux programs for {isa!r} here; take one of {', '.join(ABIS)}")
    table = policies()
    found = []
    for number, call in load(abi).items():
        policy = policy_of(call, abi, table)
        how: How = "implemented"
        reason = ""
        if policy.verb == "refuse":
            how, reason = "refused", f"{policy.target}: {policy.reason}"
        elif policy.verb == "pass":
            how = "converted" if conversion(call, abi) else "passed through"
        found.append(Capability(number, call.name, how, reason))
    return found


def _number(number: int) -> str:
    return hex(number) if number >= PRIVATE else str(number)


def text(isa: str) -> str:
    """For a terminal: a line for each call, and how many there are of each kind."""
    rows = capabilities(isa)
    width = max(len(row.name) for row in rows)
    lines = [f"{canonical(isa)}: {len(rows)} system calls of Linux 6.1; {_summary(rows)}"]
    lines += [
        f"{_number(row.number):>7}  {row.name:<{width}}  {row.how:<14}  {row.reason}".rstrip() for row in rows
    ]
    return "\n".join(lines) + "\n"


def markdown(isas: Sequence[str] = ABIS) -> str:
    """For documentation: one table, a line for each name, the numbers of the ISAs beside one another."""
    names: dict[str, dict[str, Capability]] = {}
    for isa in isas:
        for row in capabilities(isa):
            names.setdefault(row.name, {})[canonical(isa)] = row
    columns = [canonical(isa) for isa in isas]
    lines = ["# System calls", ""]
    lines += [f"- **{how}**: {meaning}" for how, meaning in HOWS.items()]
    lines += ["", *(f"{isa}: {_summary(capabilities(isa))}." for isa in columns), ""]
    lines += [f"| call | {' | '.join(columns)} | how |", f"|---|{'---:|' * len(columns)}---|"]
    for name in sorted(names):
        cells = [_number(names[name][isa].number) if isa in names[name] else "" for isa in columns]
        lines.append(f"| {name} | {' | '.join(cells)} | {_how(names[name])} |")
    return "\n".join(lines) + "\n"


def _how(rows: dict[str, Capability]) -> str:
    """One phrase if all ISAs have the same, else each with its ISAs."""
    phrases: dict[str, list[str]] = {}
    for isa, row in rows.items():
        phrases.setdefault(f"{row.how}, {row.reason}" if row.reason else row.how, []).append(isa)
    if len(phrases) == 1:
        return next(iter(phrases))
    return "; ".join(f"{phrase} ({', '.join(isas)})" for phrase, isas in phrases.items())


def _summary(rows: Sequence[Capability]) -> str:
    counts = {how: sum(row.how == how for row in rows) for how in HOWS}
    return ", ".join(f"{count} {how}" for how, count in counts.items())


def main(words: Sequence[str]) -> int:
    isas = [word for word in words if word != "--markdown"]
    if "--markdown" in words:
        sys.stdout.write(markdown(isas or ABIS))
    else:
        sys.stdout.write("\n".join(text(isa) for isa in isas or ABIS))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except EmuError as error:
        sys.exit(f"emu: {error}")
