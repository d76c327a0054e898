"""What a system call costs where it is looked at, and beside the least that it can cost under kvm.

    python benchmarks/bench_syscall.py [--rounds N] [--calls N] [--json FILE]

The getppid loop of `emu bench --suite syscall`: arm64 by the translator, with --stats (counting) and with a
hook in Python; x86-64 under kvm beside the bare exit, a system call of a guest at CPL3 that a plain C loop
over KVM_RUN answers (kvm_call_twin.c; needs a C compiler).  All take turns, a round each.  Nanoseconds of the
guest thread's CPU time, for the hook, which another process runs, the clock's; medians of the rounds with the
least and the most.  Asserts nothing.  Ctrl-C keeps what is done.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_kvm import build_twin

from emu.bench import guest_calls
from emu.bench.guest_timed import code, read_times, write_program
from emu.bench.peers import emu, no_kvm
from emu.bench.process import program
from emu.bench.result import figure
from emu.bench.work import Failed

HOOKED = """\
import sys
from emu import Process
with Process(sys.argv[1], accel="tcg") as process:
    process.on_syscall("getppid", lambda call: None)
    sys.exit(process.run())
"""
# Slow ones make a share of the calls.
SHARES = {"--stats": 1, "hook": 50, "kvm": 4, "exit": 4}


def loop(isa: str, folder: Path, calls: int, *words: str, clock: bool = False) -> Callable[[], float]:
    """A run of the program by a command, in ns for a call."""
    path = folder / f"getppid-{isa}-{calls}"
    write_program(path, isa, code(isa, guest_calls.GETPPID[isa]), calls)

    def run() -> float:
        took, _ = read_times(program([*words, str(path)])[1])
        return (took.wall if clock else took.cpu) / calls * 1e9

    return run


def ways(folder: Path, calls: int) -> dict[str, Callable[[], float]]:
    """All that this host has; why others are missing goes to stderr."""
    few = {name: max(100, calls // share) for name, share in SHARES.items()}
    tcg = [*emu(), "--no-config", "--accel", "tcg"]
    hooked = [sys.executable, "-c", HOOKED]
    found = {
        "tcg, arm64": loop("aarch64", folder, calls, *tcg),
        "tcg --stats": loop("aarch64", folder, few["--stats"], *tcg, "--stats", "-o", str(folder / "stats")),
        "tcg, a hook": loop("aarch64", folder, few["hook"], *hooked, clock=True),
    }
    if reason := no_kvm("x86_64", "program"):
        print(f"n/a kvm: {reason}", file=sys.stderr)
        return found
    twin = build_twin("kvm_call_twin")
    if vm := twin.twin_open():
        found["KVM exit, plain C"] = lambda: twin.twin_run(vm, few["exit"]) / few["exit"]
    else:
        print("n/a: the plain C loop cannot use /dev/kvm; see why with: emu doctor", file=sys.stderr)
    found["kvm, x86-64"] = loop("x86_64", folder, few["kvm"], *emu(), "--no-config", "--accel", "kvm")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="What a system call costs where it is looked at.")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each (15)")
    parser.add_argument("--calls", type=int, default=200_000, help="calls a turn (200000)")
    parser.add_argument("--json", metavar="FILE", help="write the rows there too")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="emu-bench-") as folder:
        found = ways(Path(folder), options.calls)
        series: dict[str, list[float]] = {name: [] for name in found}
        try:
            for turn in range(options.rounds):
                # The order changes, so that none always comes first.
                names = list(found)
                for name in names[turn % len(names) :] + names[: turn % len(names)]:
                    series[name].append(found[name]())
        except KeyboardInterrupt:
            print("interrupted: what is done follows", file=sys.stderr)
        except Failed as error:
            print(f"stopped: {error}", file=sys.stderr)
    for name, values in series.items():
        if values:
            rows.append({"way": name, "rounds": len(values), **figure(values)._asdict()})
            print(f"{name:<20} {rows[-1]['median']:>8.0f} ns   {min(values):.0f}-{max(values):.0f}")
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
