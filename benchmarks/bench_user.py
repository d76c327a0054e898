"""Debian arm64 programs under emu and under qemu-aarch64, and Debian's own for this host natively.

    python benchmarks/bench_user.py [--rounds N] [--row NAME ...] [--engine NAME ...] [--quick] [--json FILE]

All take turns, a round each.  Figures are CPU seconds (user and system) of the whole process tree, start-up
included, or what a program has measured itself as seconds for one; medians of the rounds.  Steady rows work
for a while; start-up rows are short processes.  Where programs start others, the kernel has qemu-aarch64 run
them by a binfmt_misc in a namespace of ours (Linux 6.7; without it qemu cannot, and the row says so).
--quick: a tenth of the work.  Every row's output must be the same under all; asserts nothing else.  Needs
apt, and qemu-user for the comparison.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import multiprocessing
import os
import re
import resource  # noqa: F401  os.wait4 wants it, where it cannot be found any more
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import binfmt
import user_rows
from user_rows import Row

TIMEOUT = 300
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000


@dataclass
class Way:
    """How programs are run: words before them, and where their files are."""

    name: str
    before: list[str]
    root: str
    isa: str
    environ: dict[str, str]
    inside: ProcessPoolExecutor | None = None  # a process that has the sysroot as its root

    def run(self, row: Row, folder: Path) -> tuple[float, bytes]:
        with tempfile.TemporaryDirectory(dir=folder) as work:
            took, output = self.call([*self.before, *self.filled(row.words, folder)], Path(work))
        if not row.rates:
            return took, output
        found = re.findall(row.rates, output.decode(), re.MULTILINE)
        if not found:
            raise RuntimeError(f"{row.words[0]}: no rate in what it printed")
        return sum(1 / float(rate) for rate in found[-1].strip(":").split(":")), output

    def filled(self, words: list[str], folder: Path) -> list[str]:
        """With what stands for {root}, {folder} and {isa}."""
        values = {"{root}": "" if self.inside else self.root, "{folder}": str(folder), "{isa}": self.isa}
        for name, value in values.items():
            words = [word.replace(name, value) for word in words]
        return words

    def call(self, words: list[str], work: Path) -> tuple[float, bytes]:
        path = ":".join(f"{'' if self.inside else self.root}{name}" for name in ("/usr/bin", "/bin"))
        environ = {"PATH": path, "HOME": "/tmp", "LC_ALL": "C", **self.environ}
        if self.inside:
            return self.inside.submit(cpu, words, work, environ).result()
        return cpu(words, work, environ)


def cpu(command: list[str], work: Path, environ: Mapping[str, str]) -> tuple[float, bytes]:
    """CPU seconds of a command with all its children, and what it printed."""
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(
            command, cwd=work, env=environ, stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        timer = threading.Timer(TIMEOUT, os.killpg, (child.pid, signal.SIGKILL))
        timer.start()
        try:
            _, status, usage = os.wait4(child.pid, 0)
        finally:
            timer.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        if child.returncode != 0:
            raise RuntimeError(f"{' '.join(command[:5])} ... ended with {child.returncode}")
        return usage.ru_utime + usage.ru_stime, out.read()


def geometric(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values)) if values else float("nan")


def namespace(native: str, qemu: str | None) -> str:
    """Enters namespaces where qemu runs arm64 programs and `native` can be a root; why not, if not."""
    user, group = os.getuid(), os.getgid()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0:
        return f"no namespaces of our own: {os.strerror(ctypes.get_errno())}"
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    script = "set -e\n" + "".join(
        f"mount --rbind /{name} {native}/{name}\n" for name in ("proc", "dev", "tmp")
    )
    script += binfmt.register("arm64", qemu) if qemu else ""
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    return done.stderr.strip()


def in_chroot(root: str) -> ProcessPoolExecutor:
    fork = multiprocessing.get_context("fork")
    return ProcessPoolExecutor(1, mp_context=fork, initializer=os.chroot, initargs=(root,))


def ways(engines: list[str], arm: str, native: str) -> tuple[list[Way], str]:
    """All of them, and why qemu starts no children."""
    emu = str(Path(sys.executable).with_name("emu"))
    qemu = shutil.which("qemu-aarch64")
    some = [
        Way(f"emu {engine}", [emu, "--engine", engine, "-L", arm], arm, "aarch64", {}) for engine in engines
    ]
    if qemu:
        # Its children hear of -L by the environment.
        some.append(Way("qemu-aarch64", [qemu, "-L", arm], arm, "aarch64", {"QEMU_LD_PREFIX": arm}))
    reason = namespace(native, qemu)
    library = {"LD_LIBRARY_PATH": f"{native}/usr/lib/x86_64-linux-gnu:{native}/lib/x86_64-linux-gnu"}
    here = Way(
        "native", [], native, "x86_64", library if reason else {}, None if reason else in_chroot(native)
    )
    return [*some, here], reason


def measure(row: Row, some: list[Way], rounds: int, folder: Path, alone: str) -> dict[str, Any]:
    """Medians by way's name; "faster": how many times the first is faster than qemu; "beside": / native."""
    figures: dict[str, list[float]] = {way.name: [] for way in some}
    output: dict[str, bytes] = {}
    failed: dict[str, str] = {}
    for _ in range(rounds):
        for way in some:
            if way.name in failed:
                continue
            if way.name == "qemu-aarch64" and row.children and alone:
                failed[way.name] = f"qemu cannot start programs: {alone}"
                continue
            try:
                took, output[way.name] = way.run(row, folder)
            except (RuntimeError, OSError) as error:
                failed[way.name] = str(error)
                continue
            figures[way.name].append(took)
    medians = {name: statistics.median(some) for name, some in figures.items() if some and name not in failed}
    first = medians.get(some[0].name, float("nan"))
    notes = list(failed.values())
    if row.same and len(set(output.values())) > 1:
        notes.append("OUTPUT DIFFERS")
    return {
        "kind": row.kind,
        **medians,
        "faster": medians.get("qemu-aarch64", float("nan")) / first,
        "beside": first / medians.get("native", float("nan")),
        "note": "; ".join(notes),
    }


def summary(results: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Geometric means over the kinds of rows, and over the C kernels."""
    groups = {
        "steady rows": [one for one in results.values() if one["kind"] == "steady"],
        "start-up rows": [one for one in results.values() if one["kind"] == "start"],
        "C kernels": [one for name, one in results.items() if name.startswith("C ")],
    }
    means = {}
    for title, group in groups.items():
        faster, beside = ([one[key] for one in group if one[key] > 0] for key in ("faster", "beside"))
        if faster or beside:
            means[title] = {"faster": geometric(faster), "beside": geometric(beside), "rows": len(group)}
    return means


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

    table = list(user_rows.rows(options.quick))
    unknown = set(options.row or []) - {row.name for row in table}
    if unknown:
        parser.error(f"no row {', '.join(sorted(unknown))}; there are {', '.join(row.name for row in table)}")
    arm = options.arm64 or str(unpacked(user_rows.PACKAGES, "arm64", closure=True))
    native = options.amd64 or str(unpacked(user_rows.PACKAGES, "amd64", closure=True))
    some, alone = ways(options.engine or ["translator"], arm, native)
    if alone:
        print(f"qemu-aarch64 runs no children, and native programs have no root of their own: {alone}")
    results: dict[str, dict[str, Any]] = {}
    print(f"{'row':22}" + "".join(f"{way.name:>16}" for way in some) + "   qemu/emu  emu/native")
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        folder, here = Path(made), some[-1]
        user_rows.prepare(
            folder, options.quick, lambda words, work: here.call(here.filled(words, folder), work)
        )
        for row in table:
            if options.row and row.name not in options.row:
                continue
            one = results[row.name] = measure(row, some, options.rounds, folder, alone)
            cells = "".join(f"{one[way.name]:16.4g}" if way.name in one else f"{'-':>16}" for way in some)
            print(
                f"{row.name:22}{cells}   {one['faster']:8.2f}  {one['beside']:10.2f}  {one['note']}",
                flush=True,
            )
    means = summary(results)
    for title, mean in means.items():
        print(
            f"{title}: {mean['faster']:.2f} times as fast as qemu-aarch64, {mean['beside']:.2f} times "
            f"native's time (geometric means of {mean['rows']})"
        )
    if options.json:
        Path(options.json).write_text(json.dumps({"rows": results, "means": means}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
