"""How long a start takes: emu's own, and a program that does nothing, beside qemu-user's.

    python benchmarks/bench_startup.py [--rounds N] [--json FILE]

CPU and wall milliseconds from fork to exit, all in turn, a round each: medians, and the CPU time's smallest
and largest.  Asserts nothing.  Ctrl-C keeps what is done.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench_run import COMPILERS, figures, run

TRUE = "int main(void) { return 0; }\n"


def commands(folder: Path) -> dict[str, list[str]]:
    """What is started, by name.  Programs that cannot be built are left out, with a line on stderr."""
    python, installed = [sys.executable, "-m", "emu"], Path(sys.executable).with_name("emu")
    emu = [str(installed)] if installed.exists() else python
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
        if isa == "aarch64":
            found["translator"] = [*emu, "--engine", "translator", str(program)]
            found["translator, by Python"] = [*python, "--engine", "translator", str(program)]
        qemu = shutil.which(f"qemu-{isa}")
        if qemu is not None:
            found[f"qemu-user true, {isa}"] = [qemu, str(program)]
    return found


def measure(starts: dict[str, list[str]], rounds: int) -> list[dict[str, Any]]:
    """A row for each command."""
    series: dict[str, list[tuple[float, float]]] = {name: [] for name in starts}
    wrong: dict[str, str] = {}
    try:
        for turn in range(rounds + 1):
            for name, command in starts.items():
                try:
                    cpu, wall, _ = run(command)
                except RuntimeError as error:
                    wrong[name] = str(error)
                    continue
                if turn > 0:  # the first fills caches
                    series[name].append((cpu * 1000, wall * 1000))
    except KeyboardInterrupt:
        print("interrupted: what is done follows", file=sys.stderr)
    rows = []
    for name, values in series.items():
        row: dict[str, Any] = {"start": name, "rounds": len(values)}
        if values:
            row["cpu_ms"] = figures([cpu for cpu, _ in values])
            row["wall_ms"] = figures([wall for _, wall in values])
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
        if "cpu_ms" in row:
            cpu, wall = row["cpu_ms"], row["wall_ms"]
            print(
                f"{row['start']:<24} {cpu['median']:>7.2f} ms CPU  {cpu['low']:.2f}-{cpu['high']:.2f}", end=""
            )
            print(f"  {wall['median']:>7.2f} ms wall")
        if "reason" in row:
            print(f"{row['start']:<24}     n/a   {row['reason']}")
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
