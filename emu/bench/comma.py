"""A result as CSV (RFC 4180): a line for each row, times in seconds."""

from __future__ import annotations

import csv
import io

from emu.bench.result import Result

COLUMNS = (
    "suite", "work", "per", "engine", "isa", "rounds",
    "cpu_median", "cpu_low", "cpu_high", "wall_median", "wall_low", "wall_high", "reason",
)  # fmt: skip


def to_csv(result: Result) -> str:
    """With a first line of names; figures that are not there are empty."""
    out = io.StringIO(newline="")
    lines = csv.writer(out)
    lines.writerow(COLUMNS)
    for row in result.rows:
        figures = (*row.cpu, *row.wall) if row.samples else ("",) * 6
        lines.writerow(
            (row.suite, row.work, row.per, row.engine, row.isa, len(row.samples), *figures, row.reason)
        )
    return out.getvalue()
