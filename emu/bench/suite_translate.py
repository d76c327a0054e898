"""Code, and nothing else: loops of a few instructions, and code that runs once."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from accel.choice import host
from emu.bench import guest_loops, guest_new_code
from emu.bench.guest_timed import ISAS, bodies, read_times, write_program
from emu.bench.peers import program_ways
from emu.bench.process import program
from emu.bench.work import Job, Ran, Work

ABOUT = "loops of a few instructions, and code that runs once; start-up is not in it"
# The listings, and how often: some 10 ms for a CPU of today.
LOOPS = {
    "integers": (guest_loops.INTEGERS, 20_000_000),
    "memory": (guest_loops.MEMORY, 16_000_000),
    "floating point": (guest_loops.FLOATS, 4_000_000),
    "vectors": (guest_loops.VECTORS, 10_000_000),
    "calls": (guest_loops.CALLS, 32),
}


def jobs(folder: Path, quick: bool, suites: Collection[str] = ()) -> list[Job]:
    """A job for each loop, and one for new code."""
    found = []
    for name, (listings, count) in LOOPS.items():
        if quick:
            count = count - 5 if name == "calls" else count // 10
        found.append(timed_job(Work("translate", name), folder, bodies(listings), count))
    steps = guest_new_code.STEPS // (10 if quick else 1)
    new = {"aarch64": guest_new_code.aarch64(steps), "x86_64": guest_new_code.x86_64(steps)}
    found.append(timed_job(Work("translate", "new code"), folder, new, 1))
    return found


def timed_job(
    work: Work, folder: Path, code: dict[str, bytes], count: int, each: int = 1, stdin: Path | None = None
) -> Job:
    """A job of programs that measure themselves; each: of how many of `work.per` a run is."""
    reasons = {host(): f"there is no such program for {host()}"} if host() not in ISAS else {}
    paths = {isa: folder / f"{work.suite}-{work.name}-{isa}".replace(" ", "-") for isa in code}
    for isa, path in paths.items():
        write_program(path, isa, code[isa], count)

    def run(isa: str, before: list[str]) -> Callable[[], Ran]:
        return partial(_run, [*before, str(paths[isa])], work.name, each, stdin)

    return Job([work], program_ways(run, reasons=reasons))


def _run(command: list[str], name: str, each: int, stdin: Path | None) -> Ran:
    sample, result = read_times(program(command, stdin=stdin)[1])
    return Ran({name: sample.each(each)}, result)
