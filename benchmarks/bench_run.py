"""One C program (guest/bench.c), built for two ISAs, under everything that can run it.

    python benchmarks/bench_run.py [--rounds N] [--kernel NAME ...] [--json FILE]

Native, emu under kvm and tcg, and qemu-user where it is installed; needs gcc, and for the second half
aarch64-linux-gnu-gcc.  All take turns, a round each.  Figures are CPU seconds (user and system) of the whole
process, start-up included: medians of the rounds, with the spread.  Every run must print the native run's
checksum.  Asserts nothing else.  Ctrl-C keeps what is done.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
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
COMPILERS = {"x86_64": "gcc", "aarch64": "aarch64-linux-gnu-gcc"}
TIMEOUT = 300  # seconds for one run


class Runner:
    """One way to run one of the two programs; `reason` says why it cannot, "" if it can."""

    def __init__(self, name: str, isa: str, command: list[str], reason: str = "") -> None:
        self.name = name
        self.isa = isa
        self.command = command
        self.reason = reason

    @property
    def title(self) -> str:
        return f"{self.name} {self.isa}"


def build(isa: str, folder: Path) -> tuple[str, str]:
    """The program's path, or "" and the reason why there is none."""
    compiler = COMPILERS[isa] if isa != platform.machine() else "gcc"
    if shutil.which(compiler) is None:
        return "", f"no {compiler}"
    out = folder / f"bench-{isa}"
    command = [compiler, "-O2", "-static", "-std=c11", str(HERE / "guest" / "bench.c"), "-o", str(out)]
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
    for isa, (program, reason) in programs.items():
        foreign = "" if isa == platform.machine() else f"this host is {platform.machine()}"
        qemu = shutil.which(f"qemu-{isa}") or shutil.which(f"qemu-{isa}-static") or ""
        found += [
            Runner("native", isa, [program], reason or foreign),
            Runner("kvm", isa, [*emu, "--accel", "kvm", program], reason or kvm_reason(isa)),
            Runner("tcg", isa, [*emu, "--accel", "tcg", program], reason),
            Runner("qemu-user", isa, [qemu, program], reason or ("" if qemu else f"no qemu-{isa}")),
        ]
    return found


def run(command: list[str]) -> tuple[float, float, str]:
    """CPU seconds, wall seconds, and what the command printed.  Raises RuntimeError when it fails."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=TIMEOUT)
    wall, after = time.perf_counter() - start, os.times()
    if done.returncode != 0:
        message = (done.stderr.splitlines() or [""])[-1]
        raise RuntimeError(f"exit status {done.returncode}: {message}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return cpu, wall, done.stdout.strip()


def figures(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {
        "median": round(statistics.median(values), 4),
        "low": round(min(values), 4),
        "high": round(max(values), 4),
    }


def measure(kernels: list[str], ways: list[Runner], rounds: int) -> list[dict[str, Any]]:
    """A row for every kernel and way; ways that fail say so in their row's reason."""
    rows: list[dict[str, Any]] = []
    for kernel in kernels:
        series: dict[str, list[tuple[float, float]]] = {way.title: [] for way in ways}
        reasons = {way.title: way.reason for way in ways}
        checksum = ""
        try:
            for _ in range(rounds):
                for way in ways:
                    if reasons[way.title]:
                        continue
                    try:
                        cpu, wall, text = run([*way.command, kernel, str(SIZES[kernel])])
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
        row: dict[str, Any] = {"kernel": kernel, "engine": way.name, "isa": way.isa, "rounds": len(values)}
        if values:
            row["cpu_s"] = figures([cpu for cpu, _ in values])
            row["wall_s"] = figures([wall for _, wall in values])
        if reasons[way.title]:
            row["reason"] = reasons[way.title]
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]], ways: list[Runner]) -> str:
    """Ways down, kernels across; below, why something is not there."""
    kernels = list(dict.fromkeys(row["kernel"] for row in rows))
    found = {(row["kernel"], row["engine"], row["isa"]): row for row in rows}
    lines = ["CPU seconds, median (lowest-highest)", f"{'':<19}" + "".join(f"{k:>18}" for k in kernels)]
    for way in ways:
        cells = []
        for kernel in kernels:
            row = found[kernel, way.name, way.isa]
            cpu = None if "reason" in row else row.get("cpu_s")
            cells.append(f"{cpu['median']:.2f} ({cpu['low']:.2f}-{cpu['high']:.2f})" if cpu else "n/a")
        lines.append(f"{way.title:<19}" + "".join(f"{cell:>18}" for cell in cells))
    reasons = dict.fromkeys(f"{r['engine']} {r['isa']}: {r['reason']}" for r in rows if "reason" in r)
    return "\n".join([*lines, *(f"n/a {reason}" for reason in reasons)])


def main() -> int:
    parser = argparse.ArgumentParser(description="One C program under everything that can run it.")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (5)")
    parser.add_argument("--kernel", action="append", choices=list(SIZES), help="only this one; repeatable")
    parser.add_argument("--json", metavar="FILE", help="write the rows there too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="emu-bench-") as folder:
        programs = {isa: build(isa, Path(folder)) for isa in COMPILERS}
        ways = runners(programs)
        rows = measure(options.kernel or list(SIZES), ways, options.rounds)
    if rows:
        print(table(rows, ways))
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
