"""`emu boot NAME`: turns the name of a ready guest into the options of `emu boot`."""

from __future__ import annotations

import os
import re
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import emu.block
from accel.errors import DeviceError
from emu.images import store
from emu.images.catalog import Image, find
from emu.loader.cpio import Archive


def prepare(options: Any, opened: ExitStack) -> None:
    """Sets what the image says in the options of `emu boot`; the user's own come on top.

    Fetches the image if it is not here.  opened: ends with the run what is made for it alone.
    Raises an EmuError where the image, or a machine for it, cannot be had.
    """
    image = find(options.image)
    if (options.machine or image.board).partition(",")[0] != image.board:
        raise DeviceError(
            f"{image.name} is made for the board {image.board}; leave --machine {options.machine} out"
        )
    if options.arch not in (None, image.architecture):
        raise DeviceError(f"{image.name} is for {image.architecture}; leave --arch {options.arch} out")
    if not image.disk and options.firmware:
        raise DeviceError(f"{image.name} has no disk that firmware could boot; leave --firmware out")
    folder = store.fetch(image, quiet=options.quiet) if not image.disk else _disk(image, options, opened)
    options.machine = options.machine or image.board
    options.arch = image.architecture
    options.memory = options.memory or image.memory
    if not options.firmware:
        if not options.kernel:
            options.kernel = str(folder / store.KERNEL)
            options.initrd = options.initrd or with_keys((folder / store.INITRD).read_bytes())
        options.append = " ".join((image.append, *_terminal(options), options.append)).strip()
    if not options.net:
        options.net = _network()


def _disk(image: Image, options: Any, opened: ExitStack) -> Path:
    """Puts the guest's disk before other drives, and says where its changes go; the folder of its kernel."""
    folder = store.guest_place(image)
    if options.snapshot:
        kept = folder.is_dir()
        folder = folder if kept else store.fetch(image, quiet=options.quiet)
        path = Path(opened.enter_context(TemporaryDirectory(prefix="emu-snapshot-"))) / store.DISK
        emu.block.create(path, backing=folder / store.DISK, backing_format="qcow2")
        where, backing = "nowhere: --snapshot forgets them", "any"
    else:
        folder = store.guest(image, quiet=options.quiet)
        path = folder / store.DISK
        where, backing = f"to {path}", "beside"
    if not options.quiet:
        print(f"emu: changes to the guest's disk go {where}", file=sys.stderr)
    words = str(path).replace(",", ",,")
    options.drive = [f"file={words},format=qcow2,backing={backing},discard=unmap", *options.drive]
    return folder


def with_keys(initrd: bytes) -> bytes:
    """The initial RAM disk, and in it the public keys of the user's who starts the guest, for its sshd."""
    keys = b""
    for path in sorted(Path.home().glob(".ssh/*.pub")):
        keys += path.read_bytes().rstrip(b"\n") + b"\n"
    if not keys:
        return initrd
    archive = Archive()
    archive.file("authorized_keys", keys)
    return initrd + bytes(-len(initrd) % 4) + archive.data()


def _terminal(options: Any) -> list[str]:
    """What the guest's shell shall know of the terminal, which a serial line does not tell it."""
    if "stdio" not in (options.serial or ["stdio"]) or sys.stdout is None or not sys.stdout.isatty():
        return []
    columns, lines = os.get_terminal_size(sys.stdout.fileno())
    kind = os.environ.get("TERM", "")
    words = [f"TERM={kind}"] if re.fullmatch(r"[\w.+-]+", kind, re.ASCII) else []
    if columns and lines:
        words += [f"LINES={lines}", f"COLUMNS={columns}"]
    return words


def _network() -> list[str]:
    """User networking, where this host has what it needs."""
    from emu.net import NetError, open_net

    try:
        end = open_net("user")
    except NetError as error:
        print(f"emu: the guest has no network: {error}", file=sys.stderr)
        return []
    if end is not None:
        end[0].close()
    return ["user"]
