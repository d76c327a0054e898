"""Debian arm64 programs under emu and under qemu-aarch64, and Debian's own for this host natively.

    python benchmarks/bench_user.py [--rounds N] [--row NAME ...] [--engine NAME ...] [--quick] [--json FILE]

All take turns, a round each.  Figures are CPU seconds (user and system) of the whole process tree, start-up
included: medians of the rounds.  Steady rows work for a while; start-up rows are short processes.  Where a
shell starts others, it starts qemu-aarch64 with their names (there is no other way without binfmt_misc).
--quick: a tenth of the work.  Every row's output must be the same under all; asserts nothing else.  Needs
apt, and qemu-user for the comparison.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PACKAGES = ["bash", "coreutils", "python3", "perl", "sqlite3", "gzip", "xz-utils", "zstd", "openssl", "git"]
KERNELS = {"crc": 600, "sieve": 12000, "matrix": 320, "qsort": 800, "fib": 37, "list": 150}
TIMEOUT = 600


@dataclass
class Row:
    name: str
    kind: str  # "steady" or "start"
    words: list[str]  # "/..." is looked up in the sysroot
    same: bool = True  # the output says nothing of time


def rows(quick: bool, folder: Path) -> Iterator[Row]:
    """The table; `folder` has data.bin, data.txt and the built kernels."""
    by = 10 if quick else 1
    for name, size in KERNELS.items():
        yield Row(
            f"C {name}", "steady", ["{kernels}", name, str(size if name == "fib" else max(1, size // by))]
        )
    python = f"x=0\\nfor i in range({2_000_000 // by}): x=(x*3+i)%1000003\\nprint(x)"
    yield Row("python3 loop", "steady", ["/usr/bin/python3.11", "-S", "-c", f"exec('''{python}''')"])
    bash = f"i=0; while [ $i -lt {200_000 // by} ]; do i=$((i+1)); done; echo $i"
    yield Row("bash loop", "steady", ["/bin/bash", "-c", bash])
    perl = f'$_="foobar " x 50; $n=0; for $i (1..{20_000 // by}) {{ $n++ while /o+b(a)r/g }} print "$n\\n"'
    yield Row("perl regex", "steady", ["/usr/bin/perl", "-e", perl])
    sql = (
        "create table t(a integer primary key, b text); with recursive c(x) as (values(1) union all select "
        f"x+1 from c where x<{200_000 // by}) insert into t select x, 'row'||x from c; "
        "select count(*), sum(a), max(b) from t where b like '%7%';"
    )
    yield Row("sqlite3 rows", "steady", ["/usr/bin/sqlite3", ":memory:", sql])
    data = str(folder / "data.bin")
    yield Row("gzip -9", "steady", ["/bin/gzip", "-9c", data])
    yield Row("xz -6", "steady", ["/usr/bin/xz", "-6c", "-T1", data])
    yield Row("zstd -3", "steady", ["/usr/bin/zstd", "-3", "-c", "-q", "--single-thread", data])
    yield Row("sha256sum", "steady", ["/usr/bin/sha256sum", data, data, data, data, data])
    digest = ["/usr/bin/openssl", "dgst", "-sha256", *[data] * 10]
    yield Row("openssl sha256", "steady", digest)
    cipher = ["/usr/bin/openssl", "enc", "-aes-128-ctr", "-K", "0" * 32, "-iv", "0" * 32, "-in", data]
    yield Row("openssl aes-ctr", "steady", cipher)
    seconds = "1"
    for name, words in {
        "openssl gcm speed": ["-evp", "aes-128-gcm", "-bytes", "16384"],
        "openssl rsa2048": ["rsa2048"],
        "openssl ecdsap256": ["ecdsap256"],
    }.items():
        yield Row(
            name, "speed", ["/usr/bin/openssl", "speed", "-mr", "-seconds", seconds, *words], same=False
        )
    yield Row("true", "start", ["/bin/true"])
    yield Row("python3 -S -c pass", "start", ["/usr/bin/python3.11", "-S", "-c", "pass"])
    subshells = f"for i in $(seq {100 // by}); do (:); done"
    yield Row("100 bash subshells", "start", ["/bin/bash", "-c", subshells])
    children = f"for i in $(seq {200 // by}); do {{true}}; done"
    yield Row("200 x /bin/true", "start", ["/bin/bash", "-c", children])


@dataclass
class Way:
    """How a program is run: words before it, and where its files are."""

    name: str
    before: list[str]
    root: str
    child: str  # before the name of a program that a shell starts

    def command(self, row: Row, kernels: dict[str, str]) -> list[str]:
        words = [word.replace("{true}", f"{self.child}{self.root}/bin/true") for word in row.words]
        kernel = kernels["x86_64" if self.name == "native" else "aarch64"]
        words[0] = kernel if words[0] == "{kernels}" else self.root + words[0]
        if self.name == "native":
            return words
        return [*self.before, *words]


def cpu(command: list[str], environ: dict[str, str]) -> tuple[float, bytes]:
    """CPU seconds of a command with all its children, and what it printed."""
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(
            command, stdout=out, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=environ
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        if child.returncode != 0:
            raise RuntimeError(f"{' '.join(command[:4])} ... ended with {child.returncode}")
        return usage.ru_utime + usage.ru_stime, out.read()


def speed(output: bytes) -> float:
    """What `openssl speed -mr` measured, as a rate."""
    last = [line for line in output.decode().splitlines() if line.startswith("+F")][-1]
    return float(last.split(":")[-1])


def geometric(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values)) if values else float("nan")


def prepare(folder: Path, quick: bool) -> dict[str, str]:
    """Data that compresses, and the C kernels for both ISAs."""
    size = (2 if quick else 20) << 20
    source = b"".join(
        (HERE.parent / name).read_bytes() for name in ("README.md", "LICENSE", "ARCHITECTURE.md")
    )
    blob = bytearray()
    step = 0
    while len(blob) < size:
        blob += source[step % 5000 :]
        blob += step.to_bytes(8, "little") * 3
        step += 977
    (folder / "data.bin").write_bytes(bytes(blob[:size]))
    kernels = {}
    for isa, compiler in {"x86_64": "gcc", "aarch64": "aarch64-linux-gnu-gcc"}.items():
        kernels[isa] = str(folder / f"kernels-{isa}")
        words = [compiler, "-O2", "-static", "-o", kernels[isa], str(HERE / "guest/bench.c")]
        subprocess.run(words, check=True)
    return kernels


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--row", action="append")
    parser.add_argument("--engine", action="append", help="engines of emu; translator")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json")
    parser.add_argument("--arm64", help="a sysroot with the programs, instead of Debian's packages")
    parser.add_argument("--amd64", help="the same for this host")
    options = parser.parse_args()
    from emu.samples.debian import unpacked

    arm = options.arm64 or str(unpacked(PACKAGES, "arm64", closure=True))
    native = options.amd64 or str(unpacked(PACKAGES, "amd64", closure=True))
    emu = str(Path(sys.executable).with_name("emu"))
    ways = [
        Way(f"emu {engine}", [emu, "--engine", engine, "-L", arm], arm, "")
        for engine in options.engine or ["translator"]
    ]
    qemu = shutil.which("qemu-aarch64")
    if qemu:
        ways.append(Way("qemu-aarch64", [qemu, "-L", arm], arm, f"{qemu} -L {arm} "))
    ways.append(Way("native", [], native, ""))
    environ = {"PATH": os.environ["PATH"], "HOME": "/tmp", "LC_ALL": "C"}
    results: dict[str, dict[str, Any]] = {}
    print(f"{'row':22}" + "".join(f"{way.name:>16}" for way in ways) + "   qemu/emu  emu/native")
    with tempfile.TemporaryDirectory() as made:
        kernels = prepare(Path(made), options.quick)
        for row in rows(options.quick, Path(made)):
            if options.row and row.name not in options.row:
                continue
            figures: dict[str, list[float]] = {way.name: [] for way in ways}
            output: dict[str, bytes] = {}
            failed: dict[str, str] = {}
            for _ in range(options.rounds):
                for way in ways:
                    library = f"{native}/usr/lib/x86_64-linux-gnu:{native}/lib/x86_64-linux-gnu"
                    extra = {"LD_LIBRARY_PATH": library} if way.name == "native" else {}
                    try:
                        took, text = cpu(way.command(row, kernels), {**environ, **extra})
                    except (RuntimeError, OSError) as error:
                        failed[way.name] = str(error)
                        continue
                    figures[way.name].append(1 / speed(text) if row.kind == "speed" else took)
                    output[way.name] = text
            medians = {name: statistics.median(some) for name, some in figures.items() if some}
            first = ways[0].name
            versus = medians.get("qemu-aarch64", float("nan")) / medians.get(first, float("nan"))
            beside = medians.get(first, float("nan")) / medians.get("native", float("nan"))
            note = ""
            if row.same and len(set(output.values())) > 1:
                note = "  OUTPUT DIFFERS"
            if failed:
                note += "  " + "; ".join(failed.values())
            cells = "".join(
                f"{medians[way.name]:16.4g}" if way.name in medians else f"{'-':>16}" for way in ways
            )
            print(f"{row.name:22}{cells}   {versus:8.2f}  {beside:10.2f}{note}", flush=True)
            results[row.name] = {"kind": row.kind, **medians, "faster": versus, "note": note}
    for kinds, title in ((("steady", "speed"), "steady rows"), (("start",), "start-up rows")):
        faster = [one["faster"] for one in results.values() if one["kind"] in kinds and one["faster"] > 0]
        if faster:
            mean = f"{geometric(faster):.2f} times as fast as qemu-aarch64"
            print(f"{title}: {mean}, geometric mean of {len(faster)}")
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
