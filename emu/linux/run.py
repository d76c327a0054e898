"""`emu PROGRAM`: this process becomes the guest's, or watches it."""

from __future__ import annotations

import os
import sys

from emu.linux.process import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, NoReturn


def run_program(
    program: str,
    argv: Sequence[str],
    *,
    sysroot: str | None = None,
    root: str | None = None,
    enter: Callable[[], None] | None = None,
    accel: str = "auto",
    engine: str | None = None,
    environ: Mapping[str, str] | None = None,
    argv0: str | None = None,
    strace: bool = False,
    stats: bool = False,
    output: str | None = None,
    gdb: str | None = None,
    dump_code: str | None = None,
    perf_map: bool = False,
) -> NoReturn:
    """Runs a Linux program and ends with it: with its exit status, or by the signal that killed it.

    program: path, or a name to search in PATH; argv: its arguments, its own name first; argv0: another name
    for it to see itself by.  strace: system calls, signals and ends are printed; stats: a table of them at
    the end; both to the file `output`, None: to stderr.
    gdb: where a debugger comes in (emu/gdb/sockets.py), which the program waits for.
    dump_code, perf_map: see accel.tcg.user.show.  The rest, and what is raised before the program
    runs: see Process.
    """
    words = list(argv)
    if argv0 is not None:
        words[:1] = [argv0]
    if dump_code is not None or perf_map:
        from accel.tcg.user import show

        show(dump_code, perf=perf_map)
    where: dict[str, Any] = {"sysroot": sysroot, "root": root, "enter": enter}
    process = Process(program, words, **where, accel=accel, engine=engine, environ=environ)
    if process.note and sys.stderr is not None:
        print(f"emu: {process.note}", file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # None: the descriptor was closed, and is the program's to miss
            stream.flush()
    if gdb is not None:
        debugged(process, gdb)
    if strace or stats:
        from emu.linux.seen import watch

        variables = len(environ) if environ is not None else len(os.environ)
        watch(process, program, words, variables, strace=strace, stats=stats, output=output)
    process.become()


def debugged(process: Process, words: str) -> NoReturn:
    """Runs it for a debugger, and ends as it does.  What the terminal sends is the program's."""
    import signal

    from accel.errors import EmuError
    from emu.gdb.process import ProcessTarget, serve_program
    from emu.linux.process import default_signals, isa_of
    from emu.native import lib

    isa = isa_of(process.path, process.files)
    if not isa:
        raise EmuError(f"{process.path} is no ELF program that a debugger knows")
    target = ProcessTarget(process, isa)
    default_signals()
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    status = serve_program(target, words, lambda text: print(f"emu: {text}", file=sys.stderr, flush=True))
    lib.emu_process_die(status)
    raise AssertionError("a process that has died goes on")
