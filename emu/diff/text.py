"""What was found, for people and for programs."""

from __future__ import annotations

from typing import Any

from emu.diff.lockstep import Difference, Found

WIDTH = 100


def describe(found: Found) -> str:
    """Several lines; the first says whether there is a difference."""
    one, two = found.names
    difference = found.difference
    if difference is None:
        return f"{one} and {two} are the same for {found.count} instructions: {found.end}"
    lines = [f"{one} and {two} differ at instruction {difference.number}, at {difference.address:#x}:"]
    lines += [f"    {address:#x}  {text}" for address, text in difference.trail]
    if difference.text:
        lines.append(f"  > {difference.address:#x}  {difference.text}    ({difference.code.hex(' ')})")
    if difference.why:
        lines.append(difference.why)
    if difference.first:
        lines += _table(found, difference)
    lines.append("registers before it:")
    lines += _registers(difference.before)
    return "\n".join(lines)


def _table(found: Found, difference: Difference) -> list[str]:
    names = list(difference.first)
    wide = max(len(f"{values[name]:x}") for values in (difference.first, difference.second) for name in names)
    wide = max(wide, *map(len, found.names))
    left = max(map(len, names))
    rows = [f"{'':>{left + 2}}  {'before':>{wide}}  {found.names[0]:>{wide}}  {found.names[1]:>{wide}}"]
    for name in names:
        values = (difference.before[name], difference.first[name], difference.second[name])
        rows.append(f"{name:>{left + 2}}  " + "  ".join(f"{value:>{wide}x}" for value in values))
    return rows


def _registers(values: dict[str, int]) -> list[str]:
    cells = [f"{name:>6} {value:<16x}" for name, value in values.items() if value or name in ("sp", "pc")]
    return [" ".join(cells[n : n + 4]).rstrip() for n in range(0, len(cells), 4)]


def as_json(found: Found) -> dict[str, Any]:
    """Numbers as numbers; registers by name."""
    one, two = found.names
    difference = found.difference
    made: dict[str, Any] = {
        "same": difference is None,
        "first": one,
        "second": two,
        "count": found.count,
        "end": found.end,
    }
    if difference is not None:
        made["difference"] = {
            "number": difference.number,
            "address": difference.address,
            "code": difference.code.hex(),
            "text": difference.text,
            "why": difference.why,
            "before": difference.before,
            "first": difference.first,
            "second": difference.second,
            "trail": [{"address": address, "text": text} for address, text in difference.trail],
        }
    return made
