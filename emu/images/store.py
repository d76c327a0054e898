"""Where ready guests are kept: as they were made in emu's cache, and what boots changed with the user's data.

    $XDG_CACHE_HOME/emu/images/NAME/      kernel, initrd, disk.qcow2: as made, again when they are needed;
                                          edition: of the recipe that made them
    $XDG_DATA_HOME/emu/guests/NAME/       disk.qcow2: the guest's changes; base.qcow2, kernel, initrd

A guest's folder is complete in itself: the image's files are linked into it, so that its disk stays whole
when the cache is emptied or the image is made anew.  Both kinds of folders are written under another name
and renamed when they are on the disk; what was interrupted is swept away by the next who comes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import emu.block
from accel.errors import DeviceError, EmuError
from emu import folders
from emu.images.catalog import Image
from emu.images.progress import Progress

DISK, BASE, KERNEL, INITRD = "disk.qcow2", "base.qcow2", "kernel", "initrd"
EDITION = "edition"


def place(image: Image) -> Path:
    """The folder of the image, whether it is there or not."""
    return Path(folders.cache(), "images", image.name)


def guest_place(image: Image) -> Path:
    """The folder of the guest that the image has become, whether it is there or not."""
    return Path(folders.data(), "guests", image.name)


def fetch(image: Image, *, quiet: bool = False) -> Path:
    """The image's folder; makes the image if it is not there, and tells of it on stderr, if not quiet.

    What another edition of its recipe made is replaced, and stays if that fails, which is told.  Raises an
    EmuError where there is none and it cannot be made.
    """
    folder = place(image)
    if _current(folder, image):
        return folder
    try:
        with _making(folder, lambda: _current(folder, image)) as new:
            if new is not None:
                with Progress(image.name, quiet=quiet) as progress:
                    image.make(new, progress)
                    (new / EDITION).write_text(f"{image.edition}\n")
                    progress.step("writing to the disk")
                    _sync(new)
                if not quiet:
                    print(f"emu: {image.name} is ready after {progress.summary}", file=sys.stderr)
    except EmuError as error:
        if not folder.is_dir():
            raise
        print(f"emu: {image.name} stays as another emu made it: {error}", file=sys.stderr)
    return folder


def _current(folder: Path, image: Image) -> bool:
    """Whether the folder is there and of the recipe's edition."""
    try:
        return (folder / EDITION).read_text().strip() == str(image.edition)
    except FileNotFoundError:
        return image.edition == 1 and folder.is_dir()


def guest(image: Image, *, quiet: bool = False) -> Path:
    """The guest's folder; if it is not there, it is made of the image.  Raises as fetch() does."""
    folder = guest_place(image)
    if folder.is_dir():
        return folder
    source = fetch(image, quiet=quiet)
    with _making(folder, folder.is_dir) as new:
        if new is not None:
            for name, own in ((KERNEL, KERNEL), (INITRD, INITRD), (DISK, BASE)):
                _link(source / name, new / own)
            emu.block.create(new / DISK, backing=BASE, backing_format="qcow2")
            _sync(new)
    return folder


def remove(image: Image) -> bool:
    """Removes what was fetched; whether there was something."""
    return _remove(place(image))


def forget(image: Image) -> bool:
    """Removes what boots have changed; whether there was any.  Raises an EmuError while it is in use."""
    folder = guest_place(image)
    if not folder.is_dir():
        return False
    emu.block.open(folder / DISK, format="qcow2").close()  # nobody else has it open
    return _remove(folder)


def size(folder: Path) -> int:
    """What the files of a folder take on the host's disk, in bytes."""
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir())


def _remove(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    with _locked(folder):
        aside = _aside(folder)
        try:
            folder.rename(aside)  # in one step: nobody sees half of it
        except FileNotFoundError:
            return False
        shutil.rmtree(aside)
    return True


@contextmanager
def _making(folder: Path, there: Callable[[], bool]) -> Iterator[Path | None]:
    """A new folder that becomes `folder` at the end; None if somebody else has made that meanwhile."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            if there():
                yield None
                return
            new = _aside(folder)
            new.mkdir()
            try:
                yield new
                if folder.is_dir():
                    old = folder.with_name(f".{folder.name}.old")
                    shutil.rmtree(old, ignore_errors=True)
                    folder.rename(old)
                    new.rename(folder)
                    shutil.rmtree(old)
                else:
                    new.rename(folder)
            finally:
                shutil.rmtree(new, ignore_errors=True)
            _sync_one(folder.parent)
    except OSError as error:
        raise DeviceError(f"{folder.name} cannot be made in {folder.parent}: {error}") from None


def _aside(folder: Path) -> Path:
    """Another name for `folder`, of which nothing is left from before; the lock is held."""
    aside = folder.with_name(f".{folder.name}.part")
    if aside.is_dir():
        shutil.rmtree(aside)
    return aside


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time works on `folder`; the kernel frees the lock of one that dies."""
    with open(folder.with_name(f".{folder.name}.lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"emu: another emu is at work on {folder}; waiting for it", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _link(source: Path, target: Path) -> None:
    """The same file under a second name; a copy where that is on another file system."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _sync(folder: Path) -> None:
    for path in (*folder.iterdir(), folder):
        _sync_one(path)


def _sync_one(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
