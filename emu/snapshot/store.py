"""Snapshots by name, as people ask a monitor for them: the machine, and its disks as they were.

Each is a folder: `machine`, what Machine.save() writes, and a copy of every disk that the guest may write
(disk0 and so on; a clone, where the host's file system has them).  They are beside the machine's first disk,
in DISK.snapshots; of a machine without disks under its name in $XDG_STATE_HOME/emu/snapshots.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accel.errors import EmuError
from emu.folders import state
from emu.snapshot.errors import SnapshotError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.block import Image
    from emu.machine import Machine
    from emu.run_state import RunState

FICLONE = 0x4004_9409  # linux/fs.h
MACHINE = "machine"


def disks(machine: Machine) -> list[Any]:
    """The machine's disks that the guest may write, wherever they are plugged in."""
    found = [device for device in carried(machine.devices()) if getattr(device, "image", None) is not None]
    return [device for device in found if not device.image.info().read_only]


def carried(devices: Any) -> list[Any]:
    """What transports carry, behind PCI buses and bridges too."""
    found = []
    for device in devices:
        if getattr(device, "device", None) is not None:
            found.append(device.device)
        functions = getattr(device, "functions", None)
        if functions:
            found += carried(functions.values())
    return found


class Store:
    """The snapshots of one machine.  name: by which monitors call it."""

    def __init__(self, run: RunState, name: str) -> None:
        self.run = run
        self.machine = run.machine
        self.name = name

    def folder(self) -> Path:
        """Where they are.  Raises SnapshotError."""
        for disk in disks(self.machine):
            path = Path(disk.image.path)
            return path.with_name(f"{path.name}.snapshots")
        if not _is_name(self.name):
            raise SnapshotError("this machine has no disk to keep snapshots beside; give it a name (--name)")
        return Path(state(), "snapshots", self.name)

    def names(self) -> list[tuple[str, int, float]]:
        """Name, bytes and time of each, oldest first; none for a machine that cannot have any."""
        try:
            folders = list(self.folder().iterdir())
        except (OSError, SnapshotError):
            return []
        found = []
        for each in folders:
            machine = each / MACHINE
            if not each.name.startswith(".") and machine.is_file():
                found.append((each.name, machine.stat().st_size, machine.stat().st_mtime))
        return sorted(found, key=lambda one: one[2])

    def _place(self, name: str) -> Path:
        if not _is_name(name):
            raise SnapshotError(f"{name!r} is no name of a snapshot; use letters, digits, - and _")
        return self.folder() / name

    def save(self, name: str) -> None:
        """Keeps the machine under a name, in place of what had it; it goes on, if it ran."""
        place = self._place(name)
        goes_on = self._hold("save-vm")
        aside = place.with_name(f".{name}.new")
        try:
            with _told(place):
                aside.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                shutil.rmtree(aside, ignore_errors=True)
                aside.mkdir(mode=0o700)
                self.machine.save(aside / MACHINE)
                for number, disk in enumerate(disks(self.machine)):
                    copy(Path(disk.image.path), aside / f"disk{number}")
                before = place.with_name(f".{name}.old")
                shutil.rmtree(before, ignore_errors=True)
                if place.exists():
                    place.rename(before)
                aside.rename(place)
                shutil.rmtree(before, ignore_errors=True)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
            self._go_on(goes_on)

    def load(self, name: str) -> None:
        """Makes machine and disks what they were; it goes on, if it ran, or else waits."""
        place = self._known(name)
        goes_on = self._hold("restore-vm")
        changed: list[Callable[[], None]] = []
        kept: list[Path] = []
        try:
            with _told(place):
                for number, disk in enumerate(disks(self.machine)):
                    if not (place / f"disk{number}").is_file():
                        raise SnapshotError(f"snapshot {name} has not this machine's disks")
                    changed.append(self._exchange(disk, place / f"disk{number}", kept))
                self.machine.load(place / MACHINE)
            if not goes_on:
                self.run.enter("restore-vm")
                self.run.enter("paused")
        except BaseException:
            for back in reversed(changed):
                back()
            raise
        finally:
            for path in kept:
                path.unlink(missing_ok=True)
            self._go_on(goes_on)

    def delete(self, name: str) -> None:
        """Forgets one."""
        place = self._known(name)
        with _told(place):
            shutil.rmtree(place)

    def _known(self, name: str) -> Path:
        place = self._place(name)
        if not (place / MACHINE).is_file():
            raise SnapshotError(f"there is no snapshot {name}; info snapshots lists them")
        return place

    def _hold(self, status: Any) -> bool:
        migration = self.run.migration
        if (migration is not None and migration.busy) or self.run.status == "inmigrate":
            raise SnapshotError("a migration is under way; wait for its end")
        self.run.free()
        running = self.run.running
        self.run.stop(status)
        return running

    def _go_on(self, running: bool) -> None:
        if running:
            self.run.cont()

    def _exchange(self, disk: Any, source: Path, kept: list[Path]) -> Callable[[], None]:
        """Puts a copy of `source` in the place of a disk's file; returns what takes that back."""
        path = Path(disk.image.path)
        new, old = path.with_name(f".{path.name}.new"), path.with_name(f".{path.name}.before")
        new.unlink(missing_ok=True)
        copy(source, new)
        self._reopen(disk, lambda: (path.rename(old), new.rename(path)))
        kept.append(old)

        def back() -> None:
            self._reopen(disk, lambda: old.rename(path))

        return back

    def _reopen(self, disk: Any, change: Callable[[], Any]) -> None:
        import emu.block

        info = disk.image.info()
        nodes = self.machine.inventory.nodes.values()
        node = next((node for node in nodes if node.image is disk.image), None)

        def reopened(image: Image) -> Image:
            image.flush()
            image.close()
            try:
                change()
            finally:
                found = emu.block.open(
                    info.path, format=info.format, cache=info.cache, discard=info.can_discard
                )
            if node is not None:
                node.image = found
            return found

        disk.replace(reopened)
        disk.resized()


def copy(source: Path, target: Path) -> None:
    """Copies a disk's file, and leaves its holes out."""
    with open(source, "rb") as file, open(target, "xb", opener=_private) as out:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise SnapshotError(f"{source} is no regular file, which alone can be kept in a snapshot")
        try:
            fcntl.ioctl(out.fileno(), FICLONE, file.fileno())
        except OSError:
            copy_data(file.fileno(), out.fileno())
        os.fsync(out.fileno())


def copy_data(source: int, target: int) -> None:
    """Copies what a file has into one that is empty, and leaves holes out."""
    size, end = os.fstat(source).st_size, 0
    os.ftruncate(target, size)
    while end < size:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(source, start, os.SEEK_HOLE)
        while start < end:
            data = os.pread(source, min(end - start, 1 << 20), start)
            if not data:
                return
            start += os.pwrite(target, data, start)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _is_name(name: str) -> bool:
    return 0 < len(name) <= 100 and name.isprintable() and name[0] != "." and "/" not in name


class _told:
    """What the host refuses is an error of a snapshot."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, OSError) and not isinstance(error, EmuError):
            where = error.filename or self.place
            raise SnapshotError(f"{where}: {error.strerror or error}") from None
