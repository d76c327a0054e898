"""The table of suites, and the jobs of several of them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from emu.bench import suite_machines, suite_mmio, suite_syscall, suite_translate, suite_user
from emu.bench.work import Job


class Suite(NamedTuple):
    """What a suite is about, and what makes its jobs.

    Given are a folder for files, whether a tenth of the work is enough, and all the suites that are wanted.
    """

    about: str
    jobs: Callable[[Path, bool, Collection[str]], list[Job]]


SUITES = {
    "user": Suite(suite_user.ABOUT, suite_user.jobs),
    "translate": Suite(suite_translate.ABOUT, suite_translate.jobs),
    "syscall": Suite(suite_syscall.ABOUT, suite_syscall.jobs),
    "mmio": Suite(suite_mmio.ABOUT, suite_mmio.jobs),
    "boot": Suite(suite_machines.BOOT, suite_machines.jobs),
    "virtio": Suite(suite_machines.VIRTIO, suite_machines.jobs),
}


def jobs(names: Collection[str], folder: Path, quick: bool) -> list[Job]:
    """The jobs of these suites; those that share theirs make them once."""
    made: list[Job] = []
    makers = dict.fromkeys(suite.jobs for name, suite in SUITES.items() if name in names)
    for number, make in enumerate(makers):
        place = folder / str(number)
        place.mkdir()
        made += make(place, quick, names)
    return made
