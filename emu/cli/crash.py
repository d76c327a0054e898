"""What is told of a mistake of emu's own: one line, and a file that says what somebody needs to find it."""

from __future__ import annotations

import os
import shlex
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from tempfile import gettempdir

from emu.folders import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

# Reports that are kept; seconds that emu doctor may take.
KEPT, PATIENCE = 20, 30
PREFIX = "crash-"
# Set for an emu doctor that is started here: if it fails in the same way it starts no other.
REPORTING = "EMU_REPORTING"


def told(error: BaseException, program: str, words: list[str]) -> str:
    """The line for the user; a report has been written, if there is a place for it."""
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    try:
        path = written(error, program, words)
    except OSError as failed:
        traceback.print_exception(error)
        return f"{what}{where}: a mistake of emu's own; no report could be written ({failed.strerror})"
    return f"{what}{where}: a mistake of emu's own; please report it, with the file {path}"


def written(error: BaseException, program: str, words: list[str]) -> str:
    """Writes a report; returns its path.  Raises OSError."""
    file = opened()
    with file:
        for line in report(error, program, words):
            file.write(f"{line}\n")
        file.flush()
        file.write("\nemu doctor\n\n")  # last, for it may take a while, or fail in the same way
        file.writelines(f"  {line}\n" for line in doctor().splitlines())
    return file.name


def opened() -> TextIO:
    """A new file in the user's folder for that, else where temporary files are."""
    name = f"{PREFIX}{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    folder = Path(state())
    with suppress(OSError):
        folder.mkdir(0o700, parents=True, exist_ok=True)
        for old in sorted(folder.glob(f"{PREFIX}*.txt"))[: -KEPT + 1]:
            old.unlink()
        return open(folder / name, "x", opener=_for_its_owner, errors="backslashreplace")
    return open(Path(gettempdir()) / name, "x", opener=_for_its_owner, errors="backslashreplace")


def _for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def report(error: BaseException, program: str, words: list[str]) -> Iterator[str]:
    """The lines: what was asked for, with what, and where it failed.  Of the environment, emu's variables."""
    from emu.cli.version import text

    yield "A mistake of emu's own.  Please attach this file to the report and say what you did.  Of yours the"
    yield "command line and emu's variables are in it: take out what nobody else may read."
    yield ""
    yield f"$ {shlex.join([program, *words])}"
    yield from (f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("EMU_"))
    yield ""
    try:
        yield text().rstrip()
    except Exception as failed:
        yield f"versions: {failed!r}"
    uname = os.uname()
    yield f"{'host':<12} {uname.sysname} {uname.release} {uname.machine}"
    yield ""
    # An exception's notes (PEP 678) come with it: what the guest's CPUs were at.
    yield "".join(traceback.format_exception(error)).rstrip()


def doctor() -> str:
    """What emu doctor says of this host, in a process of its own."""
    import subprocess

    if REPORTING in os.environ:
        return "it is emu doctor that has failed"
    command = [sys.executable, "-P", "-m", "emu", "doctor", "--no-config"]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, REPORTING: "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.SubprocessError, KeyboardInterrupt) as failed:
        return repr(failed)
    return done.stdout + done.stderr
