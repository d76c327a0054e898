"""Two results side by side: what is faster in the second, and whether that is more than the spread."""

from __future__ import annotations

from typing import NamedTuple

from emu.bench.peers import ISAS
from emu.bench.result import REFERENCES, Result, Row
from emu.bench.table import BOLD, DIM, PLAIN, digits, seconds, title

GREEN, RED = "\x1b[32m", "\x1b[31m"
SAME, FASTER, SLOWER, FEW = "within the spread", "faster", "slower", "too few rounds to say"
# Samples that a spread is made of, at least.
FEWEST = 3


class Pair(NamedTuple):
    """A row of both: the second's CPU time divided by the first's, and what that means."""

    before: Row
    after: Row
    ratio: float
    verdict: str


def pairs(before: Result, after: Result) -> list[Pair]:
    """Of the rows that both have samples of, in the second's order."""
    first = {row.key: row for row in before.rows if row.samples}
    found = []
    for row in after.rows:
        if row.samples and row.key in first:
            found.append(_pair(first[row.key], row))
    return found


def _pair(before: Row, after: Row) -> Pair:
    """Faster or slower only where no sample of one lies among those of the other."""
    one, two = before.cpu, after.cpu
    beside = two.median / one.median if one.median else float("inf") if two.median else 1.0
    if min(len(before.samples), len(after.samples)) < FEWEST:
        return Pair(before, after, beside, FEW)
    if one.low <= two.high and two.low <= one.high:
        return Pair(before, after, beside, SAME)
    return Pair(before, after, beside, FASTER if two.high < one.low else SLOWER)


def text(before: Result, after: Result, colour: bool = False) -> str:
    """For a terminal."""

    def paint(code: str, words: str) -> str:
        return f"{code}{words}{PLAIN}" if colour else words

    both = pairs(before, after)
    lines = [
        f"A: {before.when}, emu {before.engines.get('emu', '?')}, {before.rounds} rounds",
        f"B: {after.when}, emu {after.engines.get('emu', '?')}, {after.rounds} rounds",
        *differences(before, after),
    ]
    suite = work = ""
    for pair in both:
        row = pair.after
        if row.suite != suite:
            suite, work = row.suite, ""
            lines += ["", paint(BOLD, suite), paint(DIM, f"{'A':>33}{'B':>10}{'B / A':>9}")]
        if row.work != work:
            work = row.work
            lines.append(f"  {title(work, row.per)}")
        head = f"    {row.engine:<12}{ISAS.get(row.isa, row.isa):<7}"
        one, two = pair.before.cpu.median, row.cpu.median
        verdict = paint({FASTER: GREEN, SLOWER: RED}.get(pair.verdict, DIM), pair.verdict)
        lines.append(f"{head}{seconds(one):>10}{seconds(two):>10}{digits(pair.ratio):>9}  {verdict}")
    counts = {word: sum(pair.verdict == word for pair in both) for word in (FASTER, SLOWER, SAME, FEW)}
    lines += ["", f"{len(both)} in both: " + ", ".join(f"{n} {word}" for word, n in counts.items() if n)]
    moved = [pair for pair in both if pair.verdict in (FASTER, SLOWER) and pair.after.engine in REFERENCES]
    if moved:
        whose = "native's or QEMU's, which no version of emu changes"
        lines.append(f"{len(moved)} of these are {whose}: the host was not as quiet, or not the same")
    for name, mine, other in (("A", before, after), ("B", after, before)):
        there = {row.key for row in other.rows if row.samples}
        alone = [row for row in mine.rows if row.samples and row.key not in there]
        lines += [f"only in {name}: {row.suite}, {row.work}, {row.engine}" for row in alone]
    return "\n".join(lines)


def differences(before: Result, after: Result) -> list[str]:
    """What else differs: then a ratio may come from there."""
    lines = []
    for kind in ("host", "engines"):
        one, two = getattr(before, kind), getattr(after, kind)
        for name in dict.fromkeys((*one, *two)):
            if name != "emu" and one.get(name) != two.get(name):
                lines.append(f"differs: {name}: {one.get(name, 'none')}; {two.get(name, 'none')}")
    return lines
