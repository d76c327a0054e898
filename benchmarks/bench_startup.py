"""How long a start takes: emu's own, and a program that does nothing, beside qemu-user's.

    python benchmarks/bench_startup.py [--rounds N] [--json FILE]

Wall milliseconds from fork to exit, all in turn, a round each: median, spread from the 10th to the 90th
percentile.  Asserts nothing.  Ctrl-C keeps what is done.
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

from bench_run import COMPILERS, HERE

TRUE = "int main(void) { return 0; }\n"


def commands(folder: Path) -> dict[str, list[str]]:
    """What is started, by name.  Programs that cannot be built are left out, with a line on stderr."""
    emu = [sys.executable, "-m", "emu"]
    found = {"python -c pass": [sys.executable, "-c", "pass"], "emu --version": [*emu, "--version"]}
    for isa, compiler in COMPILERS.items():
        program = folder / f"true-{isa}"
        compiler = "gcc" if isa == platform.machine() else compiler
        if shutil.which(compiler) is None:
            print(f"no {compiler}: no program of {isa}", file=sys.stderr)
            continue
        subprocess.run(
            [compiler, "-O2", "-static", "-x", "c", "-", "-o", str(program)],
            input=TRUE,
            text=True,
            check=True,
        )
        found[f"emu true, {isa}"] = [*emu, "--accel", "tcg", str(program)]
        qemu = shutil.which(f"qemu-{isa}")
        if qemu is not None:
            found[f"qemu-user true, {isa}"] = [qemu, str(program)]
    return found


def measure(starts: dict[str, list[str]], rounds: int) -> list[dict[str, Any]]:
    """A row for each command."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    series: dict[str, list[float]] = {name: [] for name in starts}
    wrong: dict[str, str] = {}
    try:
        for turn in range(rounds + 1):
            for name, command in starts.items():
                start = time.perf_counter()
                done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
                took = (time.perf_counter() - start) * 1000
                if done.returncode != 0:
                    wrong[name] = (done.stderr.splitlines() or [f"exit status {done.returncode}"])[-1]
                elif turn > 0:  # the first fills caches
                    series[name].append(took)
    except KeyboardInterrupt:
        print("interrupted: what is done follows", file=sys.stderr)
    rows = []
    for name, values in series.items():
        row: dict[str, Any] = {"start": name, "rounds": len(values)}
        if values:
            ordered = sorted(values)
            tenth = len(ordered) // 10
            row |= {
                "ms": round(statistics.median(ordered), 1),
                "low": round(ordered[tenth], 1),
                "high": round(ordered[-1 - tenth], 1),
            }
        if name in wrong:
            row["reason"] = wrong[name]
        rows.append(row)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description="How long a start takes.")
    parser.add_argument("--rounds", type=int, default=20, help="turns of each (20)")
    parser.add_argument("--json", metavar="FILE", help="write the rows there too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="emu-bench-") as folder:
        rows = measure(commands(Path(folder)), options.rounds)
    for row in rows:
        if "ms" in row:
            print(f"{row['start']:<24} {row['ms']:>7.1f} ms   {row['low']:.1f}-{row['high']:.1f}")
        if "reason" in row:
            print(f"{row['start']:<24}     n/a   {row['reason']}")
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
