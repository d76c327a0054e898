"""Results for a terminal: a block for each work, a line for each engine; then means over each suite."""

from __future__ import annotations

import math

from emu.bench.peers import ENGINES, ISAS
from emu.bench.result import Figure, Result, Row, reference

_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
BOLD, DIM, PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[m"


def seconds(value: float, unit_of: float | None = None) -> str:
    """A time in three digits, in its own unit or in that of another."""
    scale, unit = _unit(value if unit_of is None else unit_of)
    return f"{digits(value / scale)} {unit}"


def digits(value: float) -> str:
    """Three of them, but all those before the point."""
    value = float(f"{value:.3g}")
    if value <= 0:
        return "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


def _unit(value: float) -> tuple[float, str]:
    return next(((scale, unit) for scale, unit in _UNITS if value >= scale * 0.9995), _UNITS[-1])


def spread(found: Figure) -> str:
    """The least and the most, in the median's unit."""
    scale, _ = _unit(found.median)
    return f"{digits(found.low / scale)}-{digits(found.high / scale)}"


def text(result: Result, colour: bool = False, about: dict[str, str] | None = None) -> str:
    """The whole table; colour allows ANSI sequences."""

    def paint(code: str, words: str) -> str:
        return f"{code}{words}{PLAIN}" if colour else words

    lines: list[str] = []
    suite = ""
    told: set[tuple[str, str]] = set()
    for (name, work), rows in result.works().items():
        if name != suite:
            suite = name
            lines += ["", paint(BOLD, suite) + (f": {about[suite]}" if about and suite in about else "")]
            lines.append(paint(DIM, f"{'CPU time':>33}{'least-most':>18}{'clock':>12}{'CPU / other':>14}"))
        base = reference(rows)
        beside = f"/ {base.engine}" if base and len(rows) > 1 else ""
        lines.append(f"  {title(work, rows[0].per):<61}{beside:>14}".rstrip())
        for row in rows:
            again = (suite, row.reason) in told
            told.add((suite, row.reason))
            words = line(row, base, again)
            lines.append(words if row.samples else paint(DIM, words))
    if found := means(result):
        lines += ["", paint(BOLD, "CPU time / native's") + ", geometric means"]
        for suite, engines in found.items():
            said = ", ".join(f"{name} {digits(mean)}" for name, (mean, _) in engines.items())
            lines.append(f"  {suite:<12}{said}")
    return "\n".join(lines).lstrip("\n")


def title(work: str, per: str) -> str:
    """A work's name, and what its times are for."""
    return work if per == "run" else f"{work}: one {per}"


def line(row: Row, base: Row | None, again: bool = False) -> str:
    """One engine's; again: its reason has been told above."""
    head = f"    {row.engine:<12}{ISAS.get(row.isa, row.isa):<7}"
    if not row.samples:
        return f"{head}  n/a: {'as above' if again else row.reason}"
    cpu, wall = row.cpu, row.wall
    beside = digits(cpu.median / base.cpu.median) if base else ""
    cells = f"{seconds(cpu.median):>10}{f'({spread(cpu)})':>18}{seconds(wall.median):>12}"
    return f"{head}{cells}{beside:>14}".rstrip()


def means(result: Result) -> dict[str, dict[str, tuple[float, int]]]:
    """By suite and engine: the geometric mean of its CPU times divided by native's, and of how many."""
    found: dict[str, dict[str, list[float]]] = {}
    for (suite, _), rows in result.works().items():
        native = next((row for row in rows if row.engine == "native" and row.samples), None)
        if native is None or not native.cpu.median:
            continue
        for row in rows:
            if row.samples and row is not native and row.cpu.median > 0:
                beside = row.cpu.median / native.cpu.median
                found.setdefault(suite, {}).setdefault(row.engine, []).append(beside)
    return {
        suite: {
            name: (math.exp(sum(map(math.log, engines[name])) / len(engines[name])), len(engines[name]))
            for name in (*ENGINES, *(other for other in engines if other not in ENGINES))
            if name in engines
        }
        for suite, engines in found.items()
    }


def origin(result: Result) -> str:
    """Where and when, in two lines."""
    host = ", ".join(value for name, value in result.host.items() if name in ("cpu", "kernel", "system"))
    cpus = result.host.get("cpus", "?")
    versions = ", ".join(f"{name} {value}" for name, value in result.engines.items() if name != "python")
    rounds = f"{result.rounds} rounds" if result.rounds != 1 else "1 round"
    rounds += " of --quick" if result.quick else ""
    state = "" if result.complete else ", interrupted"
    load = f", load before {result.load[0]:.2f}" if result.load else ""
    kvm = result.host.get("kvm", "?")
    return f"{result.when}: {host}, {cpus} CPUs; kvm: {kvm}\n{versions}; {rounds}{state}{load}"
