"""What a system call costs a program."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from emu.bench import guest_calls
from emu.bench.guest_timed import bodies
from emu.bench.suite_translate import timed_job
from emu.bench.work import Job, Work

ABOUT = "what one system call costs a program, in a loop of them"
CALLS = {
    "getppid": guest_calls.GETPPID,
    "read 4 KiB": guest_calls.READ,
    "fstat": guest_calls.FSTAT,
}
COUNT = 5_000


def jobs(folder: Path, quick: bool, suites: Collection[str] = ()) -> list[Job]:
    """A job for each call."""
    count = COUNT // 10 if quick else COUNT
    return [
        timed_job(Work("syscall", name, "call"), folder, bodies(listings), count, count, Path("/dev/zero"))
        for name, listings in CALLS.items()
    ]
