"""What a KVM exit costs here, beside a plain C loop over KVM_RUN in the same run.

    python benchmarks/bench_kvm_exit.py [--rounds N] [--exits N] [--json FILE]

The same guest code runs in three VMs of one process, turn and turn about: ours with a register that C serves
(memory map, kicks and budget included), ours with a Python hook, and the twin (kvm_exit_twin.c, built when
this starts; needs a C compiler).  Each figure is the median over the rounds; a ratio is the median of the
rounds' ratios, so that a slow moment of the host meets all.  The time is the thread's own with the guest's in
it, so that other work on the host counts little; a turn's start and end, some 20 us on our side, are in it
too.  Asserts nothing.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from accel.kvm.vcpu import KvmVcpu
from accel.kvm.vm import KvmAccelerator
from accel.memory import AddressSpace, Register
from isa.arch import find

CODE, PORT, MMIO = 0x8000, 0x500, 0xD000_0000
FLAT = {"base": 0, "limit": 0xFFFF_FFFF}
GUESTS = {
    "port write": "ef ebfd",  # out dx,eax; jmp back
    "port read": "ed ebfd",  # in eax,dx
    "MMIO write": "8903 ebfc",  # mov [ebx],eax
    "MMIO read": "8b03 ebfc",  # mov eax,[ebx]
}


def build_twin(name: str = "kvm_exit_twin") -> ctypes.CDLL:
    """Compiles and loads a plain C loop; twin_open's arguments are the caller's to declare."""
    source = Path(__file__).with_name(f"{name}.c")
    with tempfile.TemporaryDirectory(prefix="emu-bench-") as folder:
        target = Path(folder) / "twin.so"
        command = [os.environ.get("CC", "cc"), "-std=c11", "-O2", "-D_GNU_SOURCE", "-shared", "-fPIC"]
        subprocess.run([*command, "-o", str(target), str(source)], check=True)
        library = ctypes.CDLL(str(target))
    library.twin_open.restype = ctypes.c_void_p
    library.twin_run.restype = ctypes.c_uint64
    library.twin_run.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
    return library


class Ours:
    """The same guest under accel.kvm, its register served by C or by a Python hook."""

    def __init__(self, code: bytes, hook: bool) -> None:
        self.memory = AddressSpace()
        self.ports = AddressSpace("ports", 1 << 16)
        self.memory.add_ram("ram", 0, 1 << 20)
        for space, base in ((self.memory, MMIO), (self.ports, PORT)):
            region = space.new_io("device", 16)
            if hook:
                region.trap(0, 4, read=lambda offset, width: 1, write=lambda offset, width, value: None)
            else:
                region.registers([Register(0, 4, write_mask=0xFFFF_FFFF)])
            space.place(region, base)
        self.memory.load(CODE, code)
        self.kvm = KvmAccelerator(find("x86_64"), self.memory, self.ports)
        self.vcpu: KvmVcpu = self.kvm.vcpu(0)
        parts: dict[str, int] = {"cr0": 0x11}
        for name, selector, attributes in (("cs", 8, 0xC09B), ("ds", 16, 0xC093), ("ss", 16, 0xC093)):
            parts |= {name: selector, f"{name}_attr": attributes}
            parts |= {f"{name}_{part}": value for part, value in FLAT.items()}
        self.vcpu.set(**parts, rip=CODE, rflags=2, rdx=PORT, rbx=MMIO)

    def run(self, exits: int) -> int:
        """Nanoseconds for so many exits."""
        start = time.thread_time_ns()
        self.vcpu.run(budget=exits)
        return time.thread_time_ns() - start

    def close(self) -> None:
        self.kvm.close()
        self.memory.close()
        self.ports.close()


def measure(rounds: int, exits: int) -> Iterator[dict[str, Any]]:
    """A row of figures for each kind of access."""
    twin = build_twin()
    twin.twin_open.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    for name, text in GUESTS.items():
        code = bytes.fromhex(text)
        other = twin.twin_open(code, len(code))
        if not other:
            raise SystemExit("the plain C loop cannot use /dev/kvm; see why with: emu doctor")
        ours, hooked = Ours(code, False), Ours(code, True)

        def plain(count: int, other: int = other) -> int:
            return int(twin.twin_run(other, count))

        runs: dict[str, Callable[[int], int]] = {"c": plain, "register": ours.run, "hook": hooked.run}
        series: dict[str, list[float]] = {kind: [] for kind in runs}
        for run in runs.values():
            run(exits)  # warm up
        for turn in range(rounds):
            # The order changes, so that none always comes first.
            for kind in list(runs)[turn % 3 :] + list(runs)[: turn % 3]:
                series[kind].append(runs[kind](exits) / exits)
        row: dict[str, Any] = {"access": name, "rounds": rounds, "exits": exits}
        for kind, values in series.items():
            ratios = [mine / theirs for mine, theirs in zip(values, series["c"], strict=True)]
            row[f"{kind}_ns"] = round(statistics.median(values), 1)
            row[f"{kind}_ratio"] = round(statistics.median(ratios), 3)
        ours.close()
        hooked.close()
        yield row


def main() -> int:
    parser = argparse.ArgumentParser(description="What a KVM exit costs, beside a plain C loop.")
    parser.add_argument("--rounds", type=int, default=40, help="turns of each kind (40)")
    parser.add_argument("--exits", type=int, default=1000, help="exits a turn (1000)")
    parser.add_argument("--json", metavar="FILE", help="write the rows there instead of to the screen")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    try:
        rows.extend(measure(options.rounds, options.exits))
    except KeyboardInterrupt:
        print("interrupted: what is done follows", file=sys.stderr)
    print(f"{'access':<12} {'plain C':>10} {'register in C':>21} {'Python hook':>21}")
    for row in rows:
        print(
            f"{row['access']:<12} {row['c_ns'] / 1000:>7.2f} us"
            f" {row['register_ns'] / 1000:>10.2f} us ({row['register_ratio']:.3f})"
            f" {row['hook_ns'] / 1000:>10.2f} us ({row['hook_ratio']:.3f})"
        )
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=2) + "\n")
    else:
        print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
