"""`emu --strace PROGRAM` and `emu --stats PROGRAM`: this process watches the guest and ends as it does."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from accel.errors import EmuError
from emu.linux.process import Process, default_signals
from emu.native import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType
    from typing import NoReturn

    from emu.linux.watch import Watch

_PR_SET_CHILD_SUBREAPER = 36


def watch(
    process: Process,
    program: str,
    argv: Sequence[str],
    variables: int,
    *,
    strace: bool,
    stats: bool,
    output: str | None,
) -> NoReturn:
    """Runs it; prints lines while it runs, and the table at its end.  The rest: see run_program.

    As strace -f: ends when the last of the program's descendants has ended.  Signals from the terminal are
    the program's, which gets them too; SIGTERM and SIGHUP are handed on to it.
    """
    watch = process.watch()
    try:
        if output is None:
            os.fstat(2)
        file = 2 if output is None else os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    except OSError as error:
        raise EmuError(f"{output or 'stderr'}: {error.strerror}; nothing can be written there") from None
    trace = None
    if strace:
        from emu.linux.strace import Trace

        trace = Trace(lambda text: put(file, text), always=output is not None)
        watch.listen(trace)
    if stats:
        watch.count()

    def started(pid: int) -> None:
        if trace is not None:
            trace.start(pid, program, argv, variables)

    status = follow(process, watch, started)
    if stats:
        from emu.linux.stats import engine, table

        put(file, table(watch.counts()) + engine(*watch.engine()))
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    lib.emu_process_die(status)
    raise AssertionError("a process that has died goes on")


def follow(process: Process, watch: Watch, started: Callable[[int], object]) -> int:
    """Starts the program and watches it and its descendants to their end; returns its wait status.

    started: gets its pid.  Signals are as above from then on.
    """
    # Orphans of the program come to us, so that they are waited for.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    default_signals()
    pid = process.start()
    started(pid)
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)

    def hand_on(number: int, frame: FrameType | None) -> None:
        os.kill(pid, number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, hand_on)
    status = watch.follow(pid, descendants=True)
    assert status is not None
    return status


def put(file: int, text: str) -> None:
    """Writes all of it."""
    data = text.encode("utf-8", "surrogateescape")
    while data:
        data = data[os.write(file, data) :]
