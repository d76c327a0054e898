"""A Linux program that is traced: this process reads what it tells, and ends as it does."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from threading import Thread

from accel.errors import EmuError
from emu.linux.process import Process
from emu.native import ffi, lib
from emu.trace.record import Ring
from emu.trace.session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import NoReturn

    from emu.trace.drcov import Coverage
    from emu.trace.filters import Filters
    from emu.trace.flame import Profile
    from emu.trace.writer import Writer

# What --what names, as engines and the runtime take it.
WHAT = {"instructions": lib.EMU_TRACE_INSTRUCTIONS, "blocks": lib.EMU_TRACE_BLOCKS}


def trace_program(
    program: str,
    argv: Sequence[str],
    what: Collection[str],
    filters: Filters,
    *,
    writer: Writer | None = None,
    coverage: Coverage | None = None,
    profile: Profile | None = None,
    period: int = 1000,
    limit: int = 0,
    sysroot: str | None = None,
    root: str | None = None,
    accel: str = "auto",
    engine: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> NoReturn:
    """Runs it, and tells `writer` of `what`: "instructions", "blocks", "syscalls".

    coverage, profile: written at the end.  period: microseconds between two samples of a thread's time.
    The rest: see run_program (emu/linux/run.py).
    """
    bits = 0
    for name in what:
        if name not in WHAT and name != "syscalls":
            there = ", ".join((*WHAT, "syscalls"))
            raise EmuError(f"--what {name} is for machines; of a program there are {there}")
        bits |= WHAT.get(name, 0)
    if coverage is not None:
        bits |= lib.EMU_TRACE_COVERAGE
    if profile is not None:
        bits |= lib.EMU_TRACE_PROFILE
    if bits:
        bits |= lib.EMU_TRACE_MAPS
        if filters.symbols:
            bits |= lib.EMU_TRACE_WAIT_MAPS
        # Of the engines that translate alone: code that the host's CPU runs by itself tells nothing.
        if accel == "auto" and bits & ~(lib.EMU_TRACE_PROFILE | lib.EMU_TRACE_MAPS):
            accel = "tcg"
    process = Process(program, argv, sysroot=sysroot, root=root, accel=accel, engine=engine, environ=environ)
    if bits and lib.emu_process_traces(process.native(), bits) == 0:
        raise EmuError(f"--accel {accel} runs the program without telling what it executes; use --accel tcg")
    ring = Ring(bits, period=period)
    filters.begin(ring)
    session = Session(
        ring, filters, process.files.peek, writer=writer, coverage=coverage, profile=profile, limit=limit
    )
    session.tells_ends = writer is not None and "syscalls" not in what
    if bits:
        lib.emu_process_trace(process.native(), ffi.cast("emu_trace *", ring.address))
    watch = process.watch()
    if "syscalls" in what:
        from emu.trace.calls import Calls

        watch.listen(Calls(session))
    from emu.linux.seen import follow

    def failed() -> None:
        watch.stop()  # its children die at their next call
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    pid: int | None = None
    pump = Thread(target=session.pump, args=(failed,), daemon=True)

    def started(child: int) -> None:
        nonlocal pid
        pid = child
        if coverage is not None:
            coverage.begin(pid)
        if writer is not None:
            writer.event("process", 0, pid, pid, name=program, text="")
        pump.start()

    status = follow(process, watch, started)
    pid = None
    session.end()
    pump.join()
    if session.error is not None:
        if isinstance(session.error, OSError):
            where = session.error.strerror or "it cannot be written"
            raise EmuError(f"the trace cannot be written: {where}; it is not whole") from None
        raise session.error
    if coverage is not None:
        coverage.write()
    if profile is not None:
        profile.write()
    for name in filters.missing():
        sys.stderr.write(f"emu: no function is called {name} in what was mapped\n")
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    lib.emu_process_die(status)
    os._exit(1)
