"""What one access to a device register costs the guest: served by C, and by a Python hook.

    python benchmarks/bench_mmio.py [--rounds N] [--json FILE]

tcg: a loop of loads from the device, on each ISA, beside the same loop over RAM, in CPU time; kvm:
bench_kvm.py's loop, beside plain C over KVM_RUN.  All take turns, a round each; figures are medians
of the rounds, the spread is from the 10th to the 90th percentile.  Asserts nothing; Ctrl-C keeps what is
done.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from accel.api import Accelerator, open_accelerator
from accel.errors import EmuError
from accel.memory import AddressSpace, Register
from isa.arch import find

RAM, DEVICE = 0x8000_0000, 0x1000_0000
# Load a word; count down; again.  The end is a wait for an interrupt, on x86-64 (which would stay halted) a
# store at DEVICE + 0x100 that kicks.  The address and the count are set from outside.
LOOPS = {
    "aarch64": ("b9400020 71000442 54ffffc1 d503207f", "x1", "x2"),  # ldr w0, [x1]; subs w2, w2, #1; b.ne
    "arm": ("e5910000 e2522001 1afffffc e320f003", "r1", "r2"),  # ldr r0, [r1]; subs r2, r2, #1; bne
    "riscv64": ("0005a503 fff60613 fe061ce3 10500073", "a1", "a2"),  # lw a0, (a1); addi a2, a2, -1; bnez
    "x86_64": (
        "8b03 83e901 75f9 c70500010010 00000000 ebfe",
        "rbx",
        "rcx",
    ),  # mov eax, [ebx]; sub ecx, 1; jnz
}
FLAT = {"base": 0, "limit": 0xFFFF_FFFF}


class Loop:
    """A guest that loads a word again and again: from RAM, from a register that C serves, or from a hook."""

    def __init__(self, isa: str, kind: str) -> None:
        text, address, count = LOOPS[isa]
        self.isa, self.address, self.count = isa, address, count
        self.target = RAM + 0x8000 if kind == "ram" else DEVICE
        self.memory = AddressSpace()
        self.memory.add_ram("ram", RAM, 1 << 20)
        device = self.memory.add_io("device", DEVICE, 0x1000)
        device.registers(
            [Register(0, 4, reset=1, read_hook=kind == "hook"), Register(0x100, 4, write_hook=True)]
        )
        device.ops(lambda offset, width: 1, lambda offset, width, value: self.vcpu.kick())
        words = text.split()
        if isa == "x86_64":
            code = bytes.fromhex("".join(words))
        else:
            code = b"".join(bytes.fromhex(word)[::-1] for word in words)
        self.memory.load(RAM, code)
        self.tcg: Accelerator = open_accelerator(
            "tcg", find(isa), self.memory, AddressSpace("ports", 1 << 16)
        )
        self.vcpu = self.tcg.vcpu(0)
        if isa == "x86_64":
            parts: dict[str, int] = {"cr0": 0x11}
            for name, selector, attributes in (("cs", 8, 0xC09B), ("ds", 16, 0xC093), ("ss", 16, 0xC093)):
                parts |= {name: selector, f"{name}_attr": attributes}
                parts |= {f"{name}_{part}": value for part, value in FLAT.items()}
            self.vcpu.set(**parts)

    def run(self, loads: int) -> float:
        """Nanoseconds for one of so many loads."""
        pc = "rip" if self.isa == "x86_64" else "pc"
        self.vcpu.set(**{pc: RAM, self.address: self.target, self.count: loads})
        start = time.thread_time_ns()
        exit = self.vcpu.run()
        took = time.thread_time_ns() - start
        if exit.kind.name not in ("HALT", "KICKED"):
            raise SystemExit(f"the loop on {self.isa} ended with {exit}")
        return took / loads

    def close(self) -> None:
        self.tcg.close()
        self.memory.close()


LOADS = {"ram": 1_000_000, "register": 200_000, "hook": 10_000}


def figures(values: list[float]) -> dict[str, float]:
    """Median and spread, in ns."""
    ordered = sorted(values)
    tenth = len(ordered) // 10
    return {
        "ns": round(statistics.median(ordered), 1),
        "low": round(ordered[tenth], 1),
        "high": round(ordered[-1 - tenth], 1),
    }


def tcg(rows: list[dict[str, Any]], rounds: int) -> None:
    """Appends a row for each ISA and kind of access under tcg."""
    loops = {(isa, kind): Loop(isa, kind) for isa in LOOPS for kind in LOADS}
    series: dict[tuple[str, str], list[float]] = {key: [] for key in loops}
    try:
        for key, loop in loops.items():
            loop.run(LOADS[key[1]] // 4)  # warm up
        for _ in range(rounds):
            for key, loop in loops.items():
                series[key].append(loop.run(LOADS[key[1]]))
    finally:
        for (isa, kind), values in series.items():
            if values:
                row = {"engine": "tcg", "isa": isa, "access": kind, "rounds": len(values)}
                rows.append({**row, **figures(values)})
        for loop in loops.values():
            loop.close()


def kvm(rows: list[dict[str, Any]], rounds: int) -> None:
    """Appends rows for memory and ports under kvm, beside plain C; or tells why it cannot run."""
    from accel.kvm.device import open_device

    try:
        os.close(open_device())
    except EmuError as error:
        print(f"kvm: n/a ({error})", file=sys.stderr)
        return
    from bench_kvm import measure

    for figure in measure(rounds, 1000):
        for kind in ("c", "register", "hook"):
            rows.append(
                {
                    "engine": "kvm",
                    "isa": "x86_64",
                    "access": f"{figure['access']}, {'plain C loop' if kind == 'c' else kind}",
                    "rounds": rounds,
                    "ns": figure[f"{kind}_ns"],
                    "ratio": figure[f"{kind}_ratio"],
                }
            )


def main() -> int:
    parser = argparse.ArgumentParser(description="What one access to a device register costs.")
    parser.add_argument("--rounds", type=int, default=20, help="turns of each kind (20)")
    parser.add_argument("--json", metavar="FILE", help="write the rows there too")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    try:
        tcg(rows, options.rounds)
        kvm(rows, options.rounds)
    except KeyboardInterrupt:
        print("interrupted: what is done follows", file=sys.stderr)
    print(f"{'engine':<7} {'isa':<8} {'access':<26} {'median':>10}   spread, or ratio to plain C")
    for row in rows:
        more = f"{row['low']:.0f}-{row['high']:.0f} ns" if "low" in row else f"{row['ratio']:.3f}"
        print(f"{row['engine']:<7} {row['isa']:<8} {row['access']:<26} {row['ns']:>7.1f} ns   {more}")
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
