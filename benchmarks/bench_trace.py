"""What `emu trace` costs: a million instructions as text, and programs with coverage beside the same without.

    python benchmarks/bench_trace.py [--rounds N]

Seconds of CPU time, of emu and all its children; medians of rounds that take turns.  arm64 by the
translator: Debian's busybox (sha256sum of 32 MB) and python3 (its start); armhf and riscv64 by Unicorn: a
loop of tests/linux/guests/traced.c, where there are cross compilers.  Asserts nothing.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from accel.errors import Unavailable
from emu.samples.debian import unpacked

ROOT = Path(__file__).parent.parent
EMU = [sys.executable, "-m", "emu"]
COMPILERS = {"arm": "arm-linux-gnueabihf-gcc", "riscv64": "riscv64-linux-gnu-gcc"}


def seconds(*words: str | Path) -> float:
    """CPU time of `emu WORDS`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*EMU, *map(str, words)], cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def programs(folder: Path) -> dict[str, list[str | Path]]:
    """The words of each program, by what it is called here."""
    found: dict[str, list[str | Path]] = {}
    try:
        busybox = unpacked("busybox-static", "arm64") / "bin/busybox"
        python = unpacked("python3-minimal", "arm64", closure=True)
        (folder / "data").write_bytes(bytes(range(256)) * (1 << 17))
        found["arm64 busybox sha256sum of 32 MB"] = [busybox, "sha256sum", folder / "data"]
        found["arm64 python3 -c pass"] = ["-L", python, python / "usr/bin/python3.11", "-c", "pass"]
    except Unavailable as error:
        print(f"no programs of Debian's: {error}", file=sys.stderr)
    for isa, compiler in COMPILERS.items():
        if shutil.which(compiler) is None:
            print(f"no {compiler}: no row for {isa}", file=sys.stderr)
            continue
        out = folder / isa
        source = ROOT / "tests/linux/guests/traced.c"
        flags = ["-O2", "-w", "-static", "-nostdlib", "-fno-stack-protector"]
        subprocess.run([compiler, *flags, str(source), "-o", str(out)], check=True)
        found[f"{isa} loop"] = [out, "spin"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = programs(folder)
        first = next(iter(rows.values()))
        for form in ("text", "jsonl", "perfetto"):
            words = ["trace", "--limit", 1_000_000, "--format", form, "-o", folder / "trace", *first]
            times = [seconds(*map(str, words)) for _ in range(rounds)]
            print(f"{'1,000,000 instructions, ' + form:40} {statistics.median(times):8.2f} s", flush=True)
        for title, words in rows.items():
            plain, covered = [], []
            for _ in range(rounds):
                plain.append(seconds(*words))
                covered.append(seconds("trace", "--coverage", folder / "cover", *words))
            one, other = statistics.median(plain), statistics.median(covered)
            print(f"{title:40} {one:8.3f} s, covered {other:8.3f} s: {other / one:.2f} times", flush=True)


if __name__ == "__main__":
    main()
