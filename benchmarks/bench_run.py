"""One C program (guest/bench.c), built for two ISAs, under everything that can run it.

    python benchmarks/bench_run.py [--long] [--rounds N] [--kernel NAME ...] [--engine NAME ...] [--json FILE]

Native, emu under kvm and tcg, and qemu-user where it is installed; needs gcc, and for the second half
aarch64-linux-gnu-gcc.  The programs are static; the host's own is also linked with the C library.  All take
turns, a round each.  Figures are CPU seconds (user and system) of the whole process, start-up included:
medians of the rounds, with the spread; with --long the work is a second's or so for the host, so that
start-up counts little.  The last lines are the medians of the rounds' ratios to native.  Every run must print
the native run's checksum.  Asserts nothing else.  Ctrl-C keeps what is done.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SIZES = {"crc": 600, "sieve": 12000, "matrix": 320, "qsort": 800, "fib": 37, "list": 150}
LONG = {"crc": 7200, "sieve": 96000, "matrix": 1200, "qsort": 8000, "fib": 42, "list": 1500}
COMPILERS = {"x86_64": "gcc", "aarch64": "aarch64-linux-gnu-gcc"}
TIMEOUT = 300  # seconds for one run


class Runner:
    """One way to run one of the programs; `reason` says why it cannot, "" if it can."""

    def __init__(self, name: str, kind: str, command: list[str], reason: str = "") -> None:
        self.name = name
        self.kind = kind
        self.command = command
        self.reason = reason

    @property
    def title(self) -> str:
        return f"{self.name} {self.kind}"


def build(kind: str, folder: Path) -> tuple[str, str]:
    """The program's path, or "" and the reason why there is none.  kind: an ISA, perhaps with "dynamic"."""
    isa, _, dynamic = kind.partition(" ")
    compiler = COMPILERS[isa] if isa != platform.machine() else "gcc"
    if shutil.which(compiler) is None:
        return "", f"no {compiler}"
    out = folder / f"bench-{isa}{dynamic}"
    flags = ["-O2", "-std=c11"] if dynamic else ["-O2", "-std=c11", "-static"]
    command = [compiler, *flags, str(HERE / "guest" / "bench.c"), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        return "", f"{compiler} failed: {(done.stderr.splitlines() or ['no message'])[-1]}"
    return str(out), ""


def kvm_reason(isa: str) -> str:
    """Why emu cannot run a program of this ISA under kvm here; "" if it can."""
    from accel.choice import choose
    from accel.errors import EmuError

    try:
        choose("kvm", isa, "program")
    except EmuError as error:
        return str(error)
    return ""


def runners(programs: dict[str, tuple[str, str]]) -> list[Runner]:
    """Every way there is, in the table's order."""
    emu = [sys.executable, "-m", "emu"]
    found = []
    for kind, (program, reason) in programs.items():
        isa, _, dynamic = kind.partition(" ")
        foreign = "" if isa == platform.machine() else f"this host is {platform.machine()}"
        found += [
            Runner("native", kind, [program], reason or foreign),
            Runner("kvm", kind, [*emu, "--accel", "kvm", program], reason or kvm_reason(isa)),
        ]
        if dynamic:
            continue
        qemu = shutil.which(f"qemu-{isa}") or shutil.which(f"qemu-{isa}-static") or ""
        found += [
            Runner("tcg", kind, [*emu, "--accel", "tcg", program], reason),
            Runner("qemu-user", kind, [qemu, program], reason or ("" if qemu else f"no qemu-{isa}")),
        ]
    return found


def run(command: list[str]) -> tuple[float, float, str]:
    """CPU seconds, wall seconds, and what the command printed.  Raises RuntimeError when it fails."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=TIMEOUT)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        message = (done.stderr.splitlines() or [""])[-1]
        raise RuntimeError(f"exit status {done.returncode}: {message}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, wall, done.stdout.strip()


def figures(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {
        "median": round(statistics.median(values), 4),
        "low": round(min(values), 4),
        "high": round(max(values), 4),
    }


def measure(sizes: dict[str, int], ways: list[Runner], rounds: int) -> list[dict[str, Any]]:
    """A row for every kernel and way; ways that fail say so in their row's reason."""
    rows: list[dict[str, Any]] = []
    for kernel, size in sizes.items():
        series: dict[str, list[tuple[float, float]]] = {way.title: [] for way in ways}
        reasons = {way.title: way.reason for way in ways}
        checksum = ""
        try:
            for _ in range(rounds):
                for way in ways:
                    if reasons[way.title]:
                        continue
                    try:
                        cpu, wall, text = run([*way.command, kernel, str(size)])
                    except (RuntimeError, subprocess.TimeoutExpired) as error:
                        reasons[way.title] = str(error)
                        continue
                    checksum = checksum or text
                    if text != checksum:
                        reasons[way.title] = f"printed {text!r}, not {checksum!r}"
                    series[way.title].append((cpu, wall))
        except KeyboardInterrupt:
            rows += _rows(kernel, ways, series, reasons)
            print("interrupted: what is done follows", file=sys.stderr)
            return rows
        rows += _rows(kernel, ways, series, reasons)
    return rows


def _rows(
    kernel: str, ways: list[Runner], series: dict[str, list[tuple[float, float]]], reasons: dict[str, str]
) -> list[dict[str, Any]]:
    rows = []
    for way in ways:
        values = series[way.title]
        row: dict[str, Any] = {
            "kernel": kernel,
            "engine": way.name,
            "program": way.kind,
            "rounds": len(values),
        }
        beside = series.get(f"native {way.kind}", [])
        if values:
            row["cpu_s"] = figures([cpu for cpu, _ in values])
            row["wall_s"] = figures([wall for _, wall in values])
        if values and beside and way.name != "native":
            ratios = [mine / theirs for (mine, _), (theirs, _) in zip(values, beside, strict=False)]
            row["to_native"] = round(statistics.median(ratios), 3)
        if reasons[way.title]:
            row["reason"] = reasons[way.title]
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]], ways: list[Runner]) -> str:
    """Ways down, kernels across; below, why something is not there."""
    kernels = list(dict.fromkeys(row["kernel"] for row in rows))
    found = {(row["kernel"], row["engine"], row["program"]): row for row in rows}
    lines = ["CPU seconds, median (lowest-highest)", f"{'':<23}" + "".join(f"{k:>18}" for k in kernels)]
    ratios = []
    for way in ways:
        cells, beside = [], []
        for kernel in kernels:
            row = found[kernel, way.name, way.kind]
            cpu = None if "reason" in row else row.get("cpu_s")
            cells.append(f"{cpu['median']:.2f} ({cpu['low']:.2f}-{cpu['high']:.2f})" if cpu else "n/a")
            beside.append(f"{row['to_native']:.2f}" if "to_native" in row else "")
        lines.append(f"{way.title:<23}" + "".join(f"{cell:>18}" for cell in cells))
        if any(beside):
            ratios.append(f"{way.title:<23}" + "".join(f"{cell:>18}" for cell in beside))
    if ratios:
        lines += ["to native", *ratios]
    reasons = dict.fromkeys(f"{r['engine']} {r['program']}: {r['reason']}" for r in rows if "reason" in r)
    return "\n".join([*lines, *(f"n/a {reason}" for reason in reasons)])


def main() -> int:
    parser = argparse.ArgumentParser(description="One C program under everything that can run it.")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (5)")
    parser.add_argument("--long", action="store_true", help="a second's work instead of a tenth's")
    parser.add_argument("--engine", action="append", help="native, kvm, tcg, qemu-user; repeatable")
    parser.add_argument("--kernel", action="append", choices=list(SIZES), help="only this one; repeatable")
    parser.add_argument("--json", metavar="FILE", help="write the rows there too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="emu-bench-") as folder:
        kinds = [*COMPILERS, f"{platform.machine()} dynamic"]
        programs = {kind: build(kind, Path(folder)) for kind in kinds if kind.split()[0] in COMPILERS}
        ways = [way for way in runners(programs) if not options.engine or way.name in options.engine]
        sizes = LONG if options.long else SIZES
        rows = measure({name: sizes[name] for name in options.kernel or sizes}, ways, options.rounds)
    if rows:
        print(table(rows, ways))
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
