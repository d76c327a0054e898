"""Snapshots that hold what changed since another one: pages by the accelerator's log of written pages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from accel.memory import RAM
from emu.snapshot import ram
from emu.snapshot.state import regions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from accel.memory import Region
    from emu.machine import Machine


class Followed:
    """The snapshot since which a machine's pages are noted: its identity and its file."""

    def __init__(self, machine: Machine, ident: str, path: str | os.PathLike[str]) -> None:
        self.machine = machine
        self.ident = ident
        self.path = Path(path)
        self._written: dict[str, bytes] = {}
        for region in self._tracked():
            if not region.tracked:
                machine.accel.track(region)
            machine.accel.dirty(region)

    def _tracked(self) -> list[Region]:
        return [region for region in regions(self.machine) if region.kind == RAM]

    def collect(self) -> None:
        """Takes the log; what was taken stays until the next snapshot is whole."""
        for region in self._tracked():
            new, old = self.machine.accel.dirty(region), self._written.get(region.name, b"")
            both = int.from_bytes(new, "little") | int.from_bytes(old, "little")
            self._written[region.name] = both.to_bytes(len(new), "little")

    def chunks(self) -> Iterator[tuple[int, Region, int, int | None]]:
        """What was written since, for ram.write(); memory that is not tracked as a whole."""
        for number, region in enumerate(regions(self.machine)):
            if region.name in self._written:
                for chunk, pages in ram.dirty_chunks(self._written[region.name]):
                    yield number, region, chunk, pages
            else:
                for chunk in ram.used_chunks(region):
                    yield number, region, chunk, None
