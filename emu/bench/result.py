"""What a run of `emu bench` found, and its stored form: JSON with a version.

    {"emu-bench": 1, "when": "2026-01-31T12:00:00+00:00", "rounds": 5, "quick": false, "complete": true,
     "load": [0.1, 0.2, 0.3], "host": {"cpu": ..., "kernel": ..., ...}, "engines": {"unicorn": "2.1.1", ...},
     "rows": [{"suite": "user", "work": "sha256sum", "per": "run", "engine": "kvm", "isa": "x86_64",
               "cpu": {"median": ..., "low": ..., "high": ..., "samples": [...]}, "wall": {...}},
              {..., "engine": "qemu-user", "isa": "aarch64", "reason": "not installed: ..."}]}

All times are seconds for one of `per`.  Only the samples are read back; the rest of a figure is for others.
"""

from __future__ import annotations

import json
import os
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from accel.errors import EmuError
from emu.bench.work import Sample

VERSION = 1
# A result has some hundred KiB; what is larger is something else.
LARGEST = 64 << 20
# Seconds that nobody has waited for.
LONGEST = 1e9


class Figure(NamedTuple):
    """The middle of samples, and between what they lie."""

    median: float
    low: float
    high: float


def figure(samples: list[float]) -> Figure:
    """Of at least one sample."""
    return Figure(statistics.median(samples), min(samples), max(samples))


@dataclass
class Row:
    """One work by one engine; `reason` says why there are no samples."""

    suite: str
    work: str
    per: str
    engine: str
    isa: str
    reason: str = ""
    samples: list[Sample] = field(default_factory=list)

    @property
    def cpu(self) -> Figure:
        """Of at least one sample."""
        return figure([sample.cpu for sample in self.samples])

    @property
    def wall(self) -> Figure:
        """Of at least one sample."""
        return figure([sample.wall for sample in self.samples])

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.suite, self.work, self.engine, self.isa


@dataclass
class Result:
    """All rows, and where they come from."""

    rows: list[Row]
    host: dict[str, str]
    engines: dict[str, str]
    rounds: int
    when: str
    quick: bool = False
    complete: bool = True
    load: list[float] = field(default_factory=list)

    def works(self) -> dict[tuple[str, str], list[Row]]:
        """Rows by suite and work, in their order."""
        found: dict[tuple[str, str], list[Row]] = {}
        for row in self.rows:
            found.setdefault((row.suite, row.work), []).append(row)
        return found


# What others are divided by: the first of these that has done the work.
REFERENCES = ("native", "qemu-user", "qemu-tcg", "qemu-kvm")


def reference(rows: list[Row]) -> Row | None:
    """The row of a work whose CPU time is 1: native's, else QEMU's; None where neither did it."""
    done = {row.engine: row for row in rows if row.samples and row.cpu.median > 0}
    return next((done[name] for name in REFERENCES if name in done), None)


def to_json(result: Result) -> str:
    """The stored form."""

    def told(samples: list[float]) -> dict[str, Any]:
        return {**figure(samples)._asdict(), "samples": samples}

    rows: list[dict[str, Any]] = []
    for row in result.rows:
        told_row: dict[str, Any] = {
            "suite": row.suite, "work": row.work, "per": row.per, "engine": row.engine, "isa": row.isa,
        }  # fmt: skip
        if row.samples:
            cpu, wall = zip(*row.samples, strict=True)
            told_row |= {"cpu": told([*cpu]), "wall": told([*wall])}
        if row.reason:
            told_row["reason"] = row.reason
        rows.append(told_row)
    head = {
        "emu-bench": VERSION, "when": result.when, "rounds": result.rounds, "quick": result.quick,
        "complete": result.complete, "load": result.load, "host": result.host,
        "engines": result.engines,
    }  # fmt: skip
    # A line for each fact and row, for people and for tools that compare lines.
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()]
    told_rows = ",\n  ".join(json.dumps(row) for row in rows)
    return "{" + ",\n ".join([*lines, f'"rows": [\n  {told_rows}\n ]']) + "}\n"


# ---- read back, with distrust ------------------------------------------------------------------------


class _Wrong(Exception):
    """A value that is not what it has to be."""


def load(path: Path) -> Result:
    """A stored result.  Raises EmuError, with the file's name and what is wrong with it."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise EmuError(f"{path}: {error.strerror}; name a file that emu bench --json wrote") from None
    try:
        if len(data) > LARGEST:
            raise _Wrong(f"it has more than {LARGEST >> 20} MiB")
        try:
            whole = json.loads(data)
        except RecursionError:
            raise _Wrong("it is nested too deeply") from None
        except ValueError as error:  # of UTF-8, too
            raise _Wrong(f"it is not JSON: {error}") from None
        return _result(whole)
    except _Wrong as error:
        raise EmuError(f"{path} is no result of emu bench: {error}; make one with --json") from None


def _result(whole: Any) -> Result:
    if not isinstance(whole, dict) or "emu-bench" not in whole:
        raise _Wrong("it has no version (emu-bench)")
    if whole["emu-bench"] != VERSION:
        raise _Wrong(f"its version is {str(whole['emu-bench'])[:20]}, and this emu reads {VERSION}")
    rows = [_row(row, f"rows[{number}]") for number, row in enumerate(_of(whole, "rows", list, ""))]
    if len({row.key for row in rows}) < len(rows):
        raise _Wrong("a row is there twice")
    return Result(
        rows=rows,
        host=_words(whole, "host"),
        engines=_words(whole, "engines"),
        rounds=_of(whole, "rounds", int, ""),
        when=_of(whole, "when", str, ""),
        quick=_of(whole, "quick", bool, ""),
        complete=_of(whole, "complete", bool, ""),
        load=_numbers(_of(whole, "load", list, ""), "load"),
    )


def _row(row: Any, where: str) -> Row:
    if not isinstance(row, dict):
        raise _Wrong(f"{where} is no object")
    suite, work, per, engine, isa = (
        _of(row, name, str, where) for name in ("suite", "work", "per", "engine", "isa")
    )
    made = Row(
        suite, work, per, engine, isa, reason=_of(row, "reason", str, where) if "reason" in row else ""
    )
    if "cpu" in row:
        cpu, wall = (_samples(row, name, where) for name in ("cpu", "wall"))
        if not cpu or len(cpu) != len(wall):
            raise _Wrong(f"{where} has {len(cpu)} samples of the CPU and {len(wall)} of the clock")
        made.samples = [Sample(*both) for both in zip(cpu, wall, strict=True)]
    elif not made.reason:
        raise _Wrong(f"{where} has neither samples nor a reason")
    return made


def _samples(row: dict[str, Any], name: str, where: str) -> list[float]:
    found = _of(row, name, dict, where)
    return _numbers(_of(found, "samples", list, f"{where}.{name}"), f"{where}.{name}.samples")


def _of(whole: dict[str, Any], name: str, kind: type, where: str) -> Any:
    value = whole.get(name)
    place = f"{where + '.' if where else ''}{name}"
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _Wrong(f"{place} is missing or of the wrong kind")
    if isinstance(value, str) and not value.isprintable():
        raise _Wrong(f"{place} has something that cannot be printed")
    return value


def _words(whole: dict[str, Any], name: str) -> dict[str, str]:
    found = _of(whole, name, dict, "")
    for key, value in found.items():
        if not isinstance(value, str) or not f"{key}{value}".isprintable():
            raise _Wrong(f"{name} has something besides text")
    return dict(found)


def _numbers(values: list[Any], where: str) -> list[float]:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < LONGEST:
            raise _Wrong(f"{where} has something besides times")
    return [float(value) for value in values]


# ---- written -----------------------------------------------------------------------------------------


def check_target(path: Path) -> None:
    """Raises EmuError where a file could not be written, before anybody has waited for what is in it."""
    folder = path.resolve().parent
    if path.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        cause = "it is a folder" if path.is_dir() else f"{folder} cannot be written to"
        raise EmuError(f"{path}: {cause}; name a file that can be written")


def write(path: Path, text: str) -> None:
    """Writes a file aside and puts it in the place of what was there when it is whole and on the disk.

    Raises EmuError.
    """
    data = text.encode()
    target = path.resolve()
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        if target.exists() and not target.is_file():  # a terminal, a pipe
            target.write_bytes(data)
            return
        with aside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(target)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise EmuError(f"{path}: {error.strerror}; name a file that can be written") from None
