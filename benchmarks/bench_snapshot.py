"""What saving, restoring and forking a guest costs.

    python benchmarks/bench_snapshot.py [--times N] [--json FILE]

A guest of 512 MiB whose memory has 60 MiB in use: half of it text, a quarter numbers, a quarter what does not
compress.  Times are the clock's and the process' (user and system), the best of several.  "migrate" is the
same stream into a pipe that another thread empties.  "fork" is machine.fork(), of guests of 512 MiB, too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from accel.errors import Unavailable
from emu.machine import Machine
from emu.snapshot.save import write

RAM = 512 << 20
USED = 60 << 20
ENDLESS = {"aarch64": (0x1400_0000).to_bytes(4, "little"), "x86_64": b"\xeb\xfe"}  # b . and jmp .
FORKED = (
    ("virt", "aarch64", "tcg"),
    ("microvm", "x86_64", "tcg"),
    ("microvm", "x86_64", "kvm"),
    ("pc", "x86_64", "kvm"),
)


def best(times: int, work: Callable[[], Any]) -> tuple[float, float]:
    """Milliseconds of the clock and of the processors."""
    found = []
    for _ in range(times):
        clock, spent = time.perf_counter(), time.process_time()
        work()
        found.append((1000 * (time.perf_counter() - clock), 1000 * (time.process_time() - spent)))
    return min(one for one, _ in found), min(one for _, one in found)


def contents() -> bytes:
    """What the guest has in use."""
    draw = random.Random(1)
    words = [bytes(draw.choices(b"etaoinshrdlu", k=draw.randrange(2, 9))) for _ in range(2000)]
    text = b" ".join(draw.choice(words) for _ in range(400_000))
    numbers = b"".join((n * 37).to_bytes(8, "little") for n in range(200_000))
    mixed = (text * (1 + (30 << 20) // len(text)))[: 30 << 20]
    mixed += (numbers * (1 + (15 << 20) // len(numbers)))[: 15 << 20]
    return mixed + draw.randbytes(USED - len(mixed))


def main() -> int:
    """Runs what the arguments ask for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--times", type=int, default=5, help="of each (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    results: dict[str, Any] = {}

    def told(name: str, figures: tuple[float, float], text: str = "") -> None:
        results[name] = {"ms": figures[0], "cpu_ms": figures[1]}
        print(f"{name:28} {figures[0]:8.1f} ms   {figures[1]:8.1f} ms of CPU   {text}")

    def made() -> Machine:
        return Machine("virt", arch="aarch64", accel="tcg", ram=RAM, kernel=ENDLESS["aarch64"])

    with tempfile.TemporaryDirectory() as folder, made() as machine:
        path = Path(folder) / "snapshot"
        machine.run(timeout=0.05)
        machine.memory.load(machine.board.ram_base + (64 << 20), contents())
        told("save", best(options.times, lambda: machine.save(path)), f"{path.stat().st_size >> 10} KiB")
        told("load, what ran is kept", best(options.times, lambda: machine.load(path)))
        clock = []
        for _ in range(options.times):
            with made() as other:
                clock.append(best(1, lambda other=other: other.load(path)))
        told("load into a new machine", (min(c for c, _ in clock), min(c for _, c in clock)))
        machine.save(path, track=True)
        each = iter(range(options.times))

        def changed() -> None:
            machine.save(Path(folder) / f"changes{next(each)}", changes=True)

        machine.run(timeout=0.02)
        told("save what changed", best(options.times, changed))
        told("migrate to a pipe", best(options.times, lambda: through_a_pipe(machine)))
    for board, arch, accel in FORKED:
        name = f"fork, {board} by {accel}"
        try:
            machine = Machine(board, arch=arch, accel=accel, ram=RAM, kernel=ENDLESS[arch])
        except Unavailable as error:
            print(f"{name}: {error}")
            continue
        with machine:
            told(name, forks(machine, options.times))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return 0


def forks(machine: Machine, times: int) -> tuple[float, float]:
    """What a copy costs, while the earlier ones live."""
    machine.run(timeout=0.05)
    machine.memory.load(machine.board.ram_base + (64 << 20), contents())
    machine.fork().close()
    copies: list[Machine] = []
    figures = best(times, lambda: copies.append(machine.fork()))
    for copy in copies:
        copy.close()
    return figures


def through_a_pipe(machine: Machine) -> None:
    """Writes a machine while somebody reads."""
    ours, theirs = os.pipe()

    def empty() -> None:
        while os.read(ours, 1 << 20):
            pass

    reader = threading.Thread(target=empty)
    reader.start()
    with open(theirs, "wb", buffering=0) as file:
        write(machine, lambda data: file.write(data) and None)
    reader.join()
    os.close(ours)


if __name__ == "__main__":
    raise SystemExit(main())
