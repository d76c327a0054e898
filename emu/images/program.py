"""The guest's own programs, run by emu while its image is made."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Thread

from accel.errors import EmuError
from emu.images.owners import Owners
from emu.linux.process import Process
from emu.linux.watch import Call

ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C",
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBCONF_NONINTERACTIVE_SEEN": "true",
    "MTOOLS_SKIP_CHECK": "1",
}
# What is half made is thrown away: it needs no place on the disk yet.
SYNCS = ("fsync", "fdatasync", "sync", "syncfs", "sync_file_range")


def run(
    words: Sequence[str],
    *,
    owners: Owners | None,
    root: Path | None = None,
    sysroot: Path | None = None,
    told: Callable[[bytes], None] = lambda line: None,
) -> None:
    """Runs a program to its end, in `root` or with the libraries of `sysroot`.

    owners: who owns the files, where this process may not make them so; told: is called with each line that
    the program prints.  Raises EmuError if it fails.
    """
    read, write = os.pipe()
    lines: list[bytes] = []

    def listen() -> None:
        with open(read, "rb") as pipe:
            for line in pipe:
                lines.append(line)
                told(line)

    listener = Thread(target=listen, daemon=True)
    listener.start()
    try:
        with open(os.devnull, "rb") as nothing, Process(
            words[0], words, root=root, sysroot=sysroot, environ=ENVIRONMENT,
            stdin=nothing, stdout=write, stderr=write,
        ) as process:  # fmt: skip
            for name in SYNCS:
                process.on_syscall(name, _done)
            if owners is not None:
                owners.attend(process, root)
            status = process.run()
    finally:
        os.close(write)
        listener.join()
    if status:
        said = [line for line in lines if b"rror" in line or line.startswith(b"E:")] or lines or [b"no word"]
        raise EmuError(
            f"{' '.join(words[-1].split()[:3])} failed in the new guest ({status}):"
            f" {said[-1].decode(errors='replace').strip()}"
        )


def _done(call: Call) -> None:
    call.result = 0
