"""Writes performance.md's tables from performance.json, a result of `emu bench --json`.

python docs/performance.py
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from emu.bench.peers import ENGINES  # noqa: E402
from emu.bench.result import Result, Row, load, reference  # noqa: E402
from emu.bench.suites import SUITES  # noqa: E402
from emu.bench.table import digits, means, seconds, spread, title  # noqa: E402

BEGIN, END = "<!-- from performance.json -->\n", "<!-- end -->\n"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _cell(row: Row | None, base: Row | None) -> str:
    if row is None or not row.samples:
        return "" if row is None else "n/a"
    beside = f"**{digits(row.cpu.median / base.cpu.median)}** " if base else ""
    return f"{beside}{seconds(row.cpu.median)} ({spread(row.cpu)})"


def tables(result: Result) -> str:
    """A table for each suite, and one of means; below, why cells are empty."""
    found = means(result)
    engines = [name for name in ENGINES if any(name in each for each in found.values())]
    lines = ["CPU time divided by native's, geometric means over each suite:", ""]
    lines += _table(
        ["suite", *engines],
        [[suite, *(digits(each[name][0]) if name in each else "" for name in engines)]
         for suite, each in found.items()],
    )  # fmt: skip
    for name, suite in SUITES.items():
        works = {work: rows for (its, work), rows in result.works().items() if its == name}
        names = [
            engine
            for engine in ENGINES
            if any(row.engine == engine for rows in works.values() for row in rows)
        ]
        body = []
        for work, rows in works.items():
            by = {row.engine: row for row in rows}
            base = reference(rows)
            body.append([title(work, rows[0].per), *(_cell(by.get(engine), base) for engine in names)])
        lines += ["", f"### {name}", "", f"{suite.about[0].upper()}{suite.about[1:]}.", ""]
        lines += _table(["", *names], body)
    reasons = dict.fromkeys(f"{row.engine}, {row.suite}: {row.reason}." for row in result.rows if row.reason)
    lines += ["", *(f"n/a: {reason}" for reason in reasons)]
    facts = {**result.host, **result.engines, "rounds": str(result.rounds), "when": result.when}
    lines += ["", "Measured on: " + "; ".join(f"{name} {value}" for name, value in facts.items()) + "."]
    if result.load:
        lines.append(f"Load before: {result.load[0]:.2f}.")
    return "\n".join(lines) + "\n"


def page() -> str:
    """performance.md with the tables of performance.json."""
    text = (HERE / "performance.md").read_text()
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + tables(load(HERE / "performance.json")) + END + rest.partition(END)[2]


if __name__ == "__main__":
    (HERE / "performance.md").write_text(page())
