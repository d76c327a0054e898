"""A whole machine beside QEMU's, by translation: one kernel, initial RAM disk and command line, in turn.

    python benchmarks/bench_boot.py [--board virt|microvm] [--rounds N] [--idle SECONDS] [--gic VERSION]
                                    [--path PATH] [--json FILE]

virt is AArch64's, on both sides.  For microvm, x86-64's, QEMU has its board pc with the same virtio devices,
by PCI: its own microvm does not boot this kernel without KVM.

Rows: from exec to init's first line; sha256 of 64 MiB; 400 fork+exec; awk in floating point; wall and CPU
seconds, medians with the smallest and largest, and emu divided by QEMU.  Then what an idle guest costs the
host, in percent of a core, and resident memory besides the guest's.  Asserts nothing.  Ctrl-C keeps what is
done.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.emu.linux_guest import image, initrd

MEMORY = 256
MARK = "@@"
SCRIPT = f"""
echo {MARK} init
dd if=/dev/zero bs=1M count=64 2>/dev/null | sha256sum
echo {MARK} sha256 of 64 MiB
i=0; while [ $i -lt 400 ]; do /bin/busybox true; i=$((i+1)); done
echo {MARK} 400 fork+exec
awk 'BEGIN {{ x = 0; for (i = 1; i < 300000; i++) x += i * 0.37 / (i + 0.5); print x }}'
echo {MARK} awk
sleep 3
echo {MARK} settle
sleep IDLE
echo {MARK} idle
"""


class Board(NamedTuple):
    """A board of emu's, and QEMU's nearest to it; GIC stands for the interrupt controller's version."""

    architecture: str
    console: str
    modules: tuple[str, ...]
    emu: str
    program: str
    qemu: str


BOARDS = {
    "virt": Board(
        "arm64", "ttyAMA0", (), "virt,gic-version=GIC",
        "qemu-system-aarch64", "-M virt,gic-version=GIC -cpu cortex-a53",
    ),
    "microvm": Board(
        "amd64", "ttyS0", ("virtio_mmio", "virtio_pci", "virtio_rng", "virtio_balloon"), "microvm",
        "qemu-system-x86_64", "-M pc -cpu Nehalem -device virtio-rng-pci -device virtio-balloon-pci",
    ),
}  # fmt: skip
TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident(pid: int) -> tuple[float, float]:
    """MiB resident: anonymous and files' (the program's), and shared memory, where the guest's RAM may be."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    anonymous, files, shared = (
        int(status[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile", "RssShmem")
    )
    return anonymous + files, shared


def run(command: list[str]) -> dict[str, Any]:
    """The guest's whole life: {mark: (wall, CPU) since the mark before}, and what is resident at the end."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    found: dict[str, Any] = {}
    before, spent = start, 0.0
    try:
        for line in process.stdout:
            _, marked, name = line.partition(MARK)  # a firmware may have written before it
            if marked:
                now, cpu = time.monotonic(), cpu_seconds(process.pid)
                found[name.strip()] = (now - before, cpu - spent)
                before, spent = now, cpu
                found["resident"] = resident(process.pid)
    finally:
        process.kill()
        process.wait()
    return found


def commands(options: argparse.Namespace, folder: Path) -> dict[str, list[str]]:
    """emu and QEMU with the same guest."""
    board = BOARDS[options.board]
    kernel, disk = folder / "Image", folder / "initrd"
    kernel.write_bytes(image(board.architecture))
    disk.write_bytes(initrd(SCRIPT.replace("IDLE", str(options.idle)), board.modules, board.architecture))
    guest = ["-m", str(MEMORY)]
    files = {"kernel": str(kernel), "initrd": str(disk), "append": f"console={board.console} quiet"}
    emu = [str(Path(sys.executable).with_name("emu")), "boot", "--accel", "tcg", "--no-reboot", *guest]
    emu += ["--machine", board.emu.replace("GIC", options.gic)]
    for name, value in files.items():
        emu += [f"--{name}", value]
    found = {"emu": emu}
    qemu = shutil.which(board.program)
    if qemu is None:
        print(f"{board.program} is not installed: emu alone", file=sys.stderr)
    else:
        words = board.qemu.replace("GIC", options.gic).split()
        found["qemu"] = [qemu, *words, *guest, "-accel", "tcg", "-no-reboot"]
        found["qemu"] += ["-nodefaults", "-nographic", "-serial", "stdio"]
        for name, value in files.items():
            found["qemu"] += [f"-{name}", value]
    return found


def main() -> None:
    """The command line in this module's first lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--board", default="virt", choices=list(BOARDS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--idle", type=int, default=10, help="seconds of idling")
    parser.add_argument("--gic", default="2", choices=["2", "3"])
    parser.add_argument("--path", default="private", choices=["private", "public"], help="to Unicorn")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ["EMU_TCG_PATH"] = options.path
    runs: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        ways = commands(options, Path(folder))
        try:
            for number in range(options.rounds):
                for name, command in ways.items():
                    runs.setdefault(name, []).append(run(command))
                print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        except KeyboardInterrupt:
            print("stopped; what is done follows", file=sys.stderr)
    table(runs, options.idle)
    if options.json:
        options.json.write_text(json.dumps(runs, indent=1))


def table(runs: dict[str, list[dict[str, Any]]], idle: int) -> None:
    """Prints the medians."""
    print(f"{'row':18} {'':6} {'emu':>22} {'qemu':>22} {'emu/qemu':>9}")
    for row in ("init", "sha256 of 64 MiB", "400 fork+exec", "awk"):
        for which, unit in enumerate(("wall", "CPU")):
            cells, middle = [], []
            for name in ("emu", "qemu"):
                values = [found[row][which] for found in runs.get(name, []) if row in found]
                if values:
                    middle.append(statistics.median(values))
                    cells.append(f"{middle[-1]:7.2f} ({min(values):.2f}-{max(values):.2f})")
            ratio = f"{middle[0] / middle[1]:9.2f}" if len(middle) == 2 and middle[1] else ""
            print(
                f"{row if which == 0 else '':18} {unit:6} "
                + " ".join(f"{cell:>22}" for cell in cells)
                + ratio
            )
    for name, done in runs.items():
        costs = [100 * found["idle"][1] / found["idle"][0] for found in done if "idle" in found]
        private = [found["resident"][0] for found in done if "resident" in found]
        if costs:
            print(
                f"{name}: idle for {idle} s costs {statistics.median(costs):.1f} % of a core;"
                f" resident besides shared memory {statistics.median(private):.0f} MiB"
            )


if __name__ == "__main__":
    main()
