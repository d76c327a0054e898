"""What it costs to start a program: a guest shell starts /bin/true again and again, under emu and qemu-user.

    python benchmarks/bench_spawn.py [--rounds N] [--starts N] [--json FILE]

arm64, Debian's: busybox, which is static, as shell and as true; dash and coreutils' true with the loader and
libraries that they need.  emu's guest executes the guest program; qemu-aarch64's cannot, so it executes
qemu-aarch64 with the program as its argument, which is what binfmt_misc would do.  And x86-64: the host's own
dash and true, natively and under kvm.  All take turns, a round each.  Milliseconds for one start (fork, exec,
run, wait), medians of the rounds with the spread; a ratio is the median of the rounds' ratios.  CPU time is
that of all processes, the shell's own start included.  Asserts nothing.  Ctrl-C keeps what is done.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench_run import figures, kvm_reason, run

from accel.errors import Unavailable
from emu.samples.debian import unpacked

LOOP = "i=0; while [ $i -lt {starts} ]; do {true}; i=$((i+1)); done; echo $i"


class Way:
    """One way to run the loop: the words before a shell's -c, and what stands for true in the script."""

    def __init__(self, kind: str, name: str, shell: list[str], true: str, beside: str = "") -> None:
        self.kind = kind
        self.name = name
        self.shell = shell
        self.true = true
        self.beside = beside

    @property
    def title(self) -> str:
        return f"{self.kind}: {self.name}"

    def start(self, starts: int) -> tuple[float, float]:
        """CPU and wall milliseconds for one start.  Raises RuntimeError."""
        cpu, wall, text = run([*self.shell, "-c", LOOP.format(starts=starts, true=self.true)])
        if text != str(starts):
            raise RuntimeError(f"printed {text!r}")
        return cpu * 1000 / starts, wall * 1000 / starts


def ways() -> list[Way]:
    """Every way that this host has; why others are missing goes to stderr."""
    emu = [sys.executable, "-m", "emu"]
    found = []
    qemu = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if not qemu:
        print("n/a qemu-aarch64: not installed", file=sys.stderr)
    try:
        busybox = str(unpacked("busybox-static", "arm64") / "bin" / "busybox")
        root = str(unpacked("coreutils", "arm64", closure=True))
        dash, true = str(unpacked("dash", "arm64") / "bin" / "dash"), f"{root}/bin/true"
    except Unavailable as error:
        print(f"n/a arm64: {error}", file=sys.stderr)
    else:
        kinds = {
            "static arm64": ([], [busybox, "sh"], f"{busybox} true"),
            "dynamic arm64": (["-L", root], [dash], true),
        }
        for kind, (options, shell, program) in kinds.items():
            mine = [*emu, "--accel", "tcg", *options, *shell]
            found.append(Way(kind, "emu tcg", mine, program, f"{kind}: qemu-aarch64" if qemu else ""))
            if qemu:
                again = " ".join([qemu, *options, program])
                found.append(Way(kind, "qemu-aarch64", [qemu, *options, *shell], again))
    shell, program = shutil.which("dash"), shutil.which("true")
    if platform.machine() == "x86_64" and shell and program:
        found.append(Way("dynamic x86-64", "native", [shell], program))
        if reason := kvm_reason("x86_64"):
            print(f"n/a kvm: {reason}", file=sys.stderr)
        else:
            mine = [*emu, "--accel", "kvm", shell]
            found.append(Way("dynamic x86-64", "emu kvm", mine, program, "dynamic x86-64: native"))
    return found


def measure(found: list[Way], rounds: int, starts: int) -> list[dict[str, Any]]:
    """A row for each way."""
    series: dict[str, list[tuple[float, float]]] = {way.title: [] for way in found}
    reasons: dict[str, str] = {}
    try:
        for turn in range(rounds):
            # The order changes, so that none always comes first.
            first = turn % len(found) if found else 0
            for way in found[first:] + found[:first]:
                if way.title in reasons:
                    continue
                try:
                    series[way.title].append(way.start(starts))
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    reasons[way.title] = str(error)
    except KeyboardInterrupt:
        print("interrupted: what is done follows", file=sys.stderr)
    rows = []
    for way in found:
        values, others = series[way.title], series.get(way.beside, [])
        row: dict[str, Any] = {"way": way.title, "rounds": len(values), "starts": starts}
        if values:
            row["cpu_ms"] = figures([cpu for cpu, _ in values])
            row["wall_ms"] = figures([wall for _, wall in values])
        pairs = list(zip(values, others, strict=False))
        if pairs:
            row["beside"] = way.beside
            for i, name in enumerate(("cpu_ratio", "wall_ratio")):
                row[name] = round(statistics.median([mine[i] / theirs[i] for mine, theirs in pairs]), 3)
        if way.title in reasons:
            row["reason"] = reasons[way.title]
        rows.append(row)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description="What it costs to start a program.")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (5)")
    parser.add_argument("--starts", type=int, default=200, help="programs started in a turn (200)")
    parser.add_argument("--json", metavar="FILE", help="write the rows there too")
    options = parser.parse_args()
    rows = measure(ways(), options.rounds, options.starts)
    for row in rows:
        if "cpu_ms" in row:
            cpu, wall = row["cpu_ms"], row["wall_ms"]
            beside = f"   {row['cpu_ratio']:.2f} of {row['beside'].split(': ')[1]}" if "beside" in row else ""
            spread = f"{cpu['low']:.2f}-{cpu['high']:.2f}"
            print(f"{row['way']:<28} {cpu['median']:>6.2f} ms CPU  {spread:<13}", end="")
            print(f" {wall['median']:>6.2f} ms wall{beside}")
        if "reason" in row:
            print(f"{row['way']:<28}    n/a  {row['reason']}")
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
