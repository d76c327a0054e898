"""What a system call costs: a loop of getppid (guest/getppid.c) under everything that can run it.

    python benchmarks/bench_syscall.py [--rounds N] [--calls N] [--json FILE]

arm64 by tcg beside qemu-aarch64, also with --stats (counting) and with a hook in Python; x86-64 under kvm
beside native, and beside the bare exit: a system call of a guest at CPL3 that a plain C loop over KVM_RUN
answers (kvm_call_twin.c).  All take turns, a round each; the program measures its own thread's CPU time, so
that start-up and other work on the host are not in it.
Medians of the rounds with the spread; a ratio is the median of the rounds' ratios.  Asserts nothing.  Ctrl-C
keeps what is done.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_kvm import build_twin
from bench_run import COMPILERS, HERE, TIMEOUT, kvm_reason

HOOKED = """\
import sys
from emu import Process
with Process(sys.argv[1], sys.argv[1:], accel="tcg") as process:
    process.on_syscall("getppid", lambda call: None)
    sys.exit(process.run())
"""
EXIT = "KVM exit, plain C"


class Way:
    """One way to make the calls: run(calls) gives nanoseconds for one; beside: what it is compared with."""

    def __init__(self, name: str, run: Callable[[int], float], beside: str = "", share: int = 1) -> None:
        self.name = name
        self.run = run
        self.beside = beside
        self.share = share  # of the calls: 1/share are made, where they are slow


def program(isa: str, folder: Path) -> str:
    """The guest's path; "" with a line on stderr where it cannot be built."""
    compiler = COMPILERS[isa] if isa != platform.machine() else "gcc"
    if shutil.which(compiler) is None:
        print(f"n/a {isa}: no {compiler}", file=sys.stderr)
        return ""
    out = folder / f"getppid-{isa}"
    command = [compiler, "-O2", "-static", "-std=c11", str(HERE / "guest" / "getppid.c"), "-o", str(out)]
    subprocess.run(command, check=True)
    return str(out)


def command(*words: str) -> Callable[[int], float]:
    """A run of a command with the number of calls as its last word."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}

    def run(calls: int) -> float:
        done = subprocess.run(
            [*words, str(calls)], capture_output=True, text=True, env=environment, timeout=TIMEOUT
        )
        if done.returncode != 0:
            raise RuntimeError((done.stderr.splitlines() or [f"exit status {done.returncode}"])[-1])
        return float(done.stdout)

    return run


def exits() -> Callable[[int], float]:
    """A plain C loop over KVM_RUN."""
    twin = build_twin("kvm_call_twin")
    vm = twin.twin_open()
    if not vm:
        raise RuntimeError("the plain C loop cannot use /dev/kvm; see why with: emu doctor")
    return lambda calls: twin.twin_run(vm, calls) / calls


def ways(folder: Path) -> list[Way]:
    """Every way that this host has; why others are missing goes to stderr."""
    emu = [sys.executable, "-m", "emu"]
    found = []
    arm64, x86 = program("aarch64", folder), program("x86_64", folder)
    qemu = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    beside = ""
    if arm64 and qemu:
        beside = "qemu-aarch64"
        found.append(Way(beside, command(qemu, arm64)))
    elif arm64:
        print("n/a qemu-aarch64: not installed", file=sys.stderr)
    if arm64:
        found += [
            Way("emu tcg, arm64", command(*emu, "--accel", "tcg", arm64), beside),
            Way("emu tcg --stats", command(*emu, "--accel", "tcg", "--stats", arm64), beside),
            Way("emu tcg, hook", command(sys.executable, "-c", HOOKED, arm64), beside, share=50),
        ]
    if x86 and platform.machine() == "x86_64":
        found.append(Way("native, x86-64", command(x86)))
    reason = kvm_reason("x86_64")
    if reason or not x86:
        print(f"n/a kvm: {reason or 'no program'}", file=sys.stderr)
    else:
        found.append(Way(EXIT, exits(), share=4))
        found.append(Way("emu kvm, x86-64", command(*emu, "--accel", "kvm", x86), EXIT, share=4))
    return found


def measure(found: list[Way], rounds: int, calls: int) -> list[dict[str, Any]]:
    """A row for each way."""
    series: dict[str, list[float]] = {way.name: [] for way in found}
    reasons: dict[str, str] = {}
    try:
        for turn in range(rounds):
            # The order changes, so that none always comes first.
            first = turn % len(found) if found else 0
            for way in found[first:] + found[:first]:
                if way.name in reasons:
                    continue
                try:
                    series[way.name].append(way.run(max(100, calls // way.share)))
                except (RuntimeError, ValueError, subprocess.TimeoutExpired) as error:
                    reasons[way.name] = str(error)
    except KeyboardInterrupt:
        print("interrupted: what is done follows", file=sys.stderr)
    rows = []
    for way in found:
        values, others = series[way.name], series.get(way.beside, [])
        row: dict[str, Any] = {"way": way.name, "rounds": len(values), "calls": max(100, calls // way.share)}
        if values:
            row |= {
                "ns": round(statistics.median(values), 1),
                "low": round(min(values), 1),
                "high": round(max(values), 1),
            }
        ratios = [mine / theirs for mine, theirs in zip(values, others, strict=False) if theirs]
        if ratios:
            row |= {"beside": way.beside, "ratio": round(statistics.median(ratios), 3)}
        if way.name in reasons:
            row["reason"] = reasons[way.name]
        rows.append(row)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description="What a system call costs.")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each (15)")
    parser.add_argument("--calls", type=int, default=200_000, help="calls a turn (200000)")
    parser.add_argument("--json", metavar="FILE", help="write the rows there too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="emu-bench-") as folder:
        rows = measure(ways(Path(folder)), options.rounds, options.calls)
    for row in rows:
        if "ns" in row:
            beside = f"   {row['ratio']:.3f} of {row['beside']}" if "ratio" in row else ""
            spread = f"{row['low']:.0f}-{row['high']:.0f}"
            print(f"{row['way']:<20} {row['ns']:>8.0f} ns   {spread:<14}{beside}".rstrip())
        if "reason" in row:
            print(f"{row['way']:<20}      n/a   {row['reason']}")
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
