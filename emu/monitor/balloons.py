"""The balloon as monitors use it: which one, how much the guest has left, and the event of its changes."""

from __future__ import annotations

import os
import time

from emu.monitor.command import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.inventory import Entry
    from emu.machine import Machine
    from emu.run_state import RunState
    from emu.virtio.balloon import VirtioBalloon

# Seconds between two events: a guest that gives back 1 GiB says so thousands of times.
PERIOD = 1.0


def balloon_of(machine: Machine) -> VirtioBalloon:
    """The machine's balloon.  Raises CommandError."""
    from emu.virtio.balloon import VirtioBalloon

    for entry in machine.inventory.of_kind(VirtioBalloon.kind):
        if isinstance(entry.virtio, VirtioBalloon):
            return entry.virtio
    raise CommandError("No balloon device has been activated", "DeviceNotActive")


def actual(machine: Machine) -> int:
    """Bytes of RAM that the guest has now.  Raises CommandError."""
    return max(0, machine.ram - balloon_of(machine).actual)


def ask(machine: Machine, size: int) -> None:
    """Asks the guest to leave `size` bytes in use.  Raises CommandError."""
    balloon = balloon_of(machine)
    if size <= 0:
        raise CommandError("Parameter 'target' expects a size")
    balloon.target = max(0, machine.ram - size)


class BalloonWatch:
    """Tells BALLOON_CHANGE: at once, and then at most once a second what it has come to."""

    def __init__(self, run: RunState) -> None:
        self.run = run
        self._last = 0.0
        self._due = False
        self._entry: Entry | None = None
        inventory = run.machine.inventory
        inventory.came.append(self._came)
        inventory.gone.append(self._gone)
        for entry in inventory.devices:
            self._came(entry)

    def _came(self, entry: Entry) -> None:
        from emu.virtio.balloon import VirtioBalloon

        if self._entry is None and isinstance(entry.virtio, VirtioBalloon):
            self._entry = entry
            self._fd = entry.virtio.changed
            self.run.machine.loop.watch(self._fd, read=self._changed)

    def _gone(self, entry: Entry) -> None:
        if entry is self._entry:
            self._entry = None
            self.run.machine.loop.watch(self._fd)

    def _changed(self) -> None:
        os.eventfd_read(self._fd)
        if self._due:
            return
        left = self._last + PERIOD - time.monotonic()
        if left > 0:
            self._due = True
            self.run.machine.loop.call_later(left, self._tell)
        else:
            self._tell()

    def _tell(self) -> None:
        self._due = False
        if self._entry is None:
            return
        self._last = time.monotonic()
        self.run.tell("BALLOON_CHANGE", {"actual": actual(self.run.machine)})
