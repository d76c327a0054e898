"""Whole processes, measured: a program from start to end, and a machine from mark to mark."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from emu.bench.work import Failed, Sample

# A machine's guest writes this before the name of what it has done.
MARK = "@@"
# Seconds for one run.
PATIENCE = 60.0
# What QEMU writes when KVM cannot go on; it stays, with the guest stopped.
GIVEN_UP = b"KVM internal error"


def environ(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """A child's environment: with Python's caches, without which each start of emu's would compile it."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**own, "LC_ALL": "C", **(more or {})}


def program(
    command: Sequence[str], *, stdin: Path | None = None, patience: float = PATIENCE
) -> tuple[Sample, bytes]:
    """What a command took with all its children, and printed.  Raises Failed."""
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        (stdin or Path(os.devnull)).open("rb") as given,
    ):
        began = time.monotonic()
        child = _start(command, stdin=given, stdout=out, stderr=err)
        try:
            ended = _ends(child.pid, patience)
            wall = time.monotonic() - began
        finally:
            _end(child)
        if not ended:
            raise Failed(f"did not end within {patience:.0f} s")
        used = child.usage
        out.seek(0)
        err.seek(0)
        if child.returncode != 0:
            raise Failed(_complaint(child.returncode, err.read()))
        return Sample(used.ru_utime + used.ru_stime, wall), out.read()


def machine(
    command: Sequence[str], marks: Sequence[str], *, waits: str = "", patience: float = PATIENCE
) -> dict[str, Sample]:
    """What each mark took since the one before (the first: since the start), until the last one of `marks`.

    The machine is ended there.  waits: the mark behind which the guest waits for a byte on its serial line.
    Raises Failed where a mark does not come.
    """
    found: dict[str, Sample] = {}
    began = time.monotonic()
    with tempfile.TemporaryFile() as err:
        child = _start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err)
        assert child.stdin is not None
        assert child.stdout is not None
        before = Sample(0.0, began)
        try:
            for line in _lines(child.stdout.fileno(), began + patience, err.fileno()):
                # Firmware may have written something before it.
                _, marked, name = line.partition(f"{MARK} ")
                if not marked:
                    continue
                now = Sample(_cpu(child.pid), time.monotonic())
                found[name.strip()] = Sample(now.cpu - before.cpu, now.wall - before.wall)
                before = now
                if name.strip() == marks[-1]:
                    break
                if name.strip() == waits:
                    with contextlib.suppress(BrokenPipeError):  # it is ending, and tells why
                        os.write(child.stdin.fileno(), b"!")
        finally:
            _end(child)
            child.stdin.close()
            child.stdout.close()
        err.seek(0)
        said = err.read()
    missing = [name for name in marks if name not in found]
    if missing:
        late = time.monotonic() - began >= patience
        why = f"nothing within {patience:.0f} s" if late else _complaint(child.returncode, said)
        raise Failed(f"no {missing[0]!r} came: {why}")
    return found


class _Child(subprocess.Popen[bytes]):
    """A child whose usage is kept when it has ended."""

    usage: resource.struct_rusage


def _start(command: Sequence[str], **ends: object) -> _Child:
    """In a group of its own: Ctrl-C is for us, who then end it with all it has started."""
    try:
        return _Child(list(command), env=environ(), process_group=0, **ends)  # type: ignore[call-overload,no-any-return]
    except OSError as error:
        raise Failed(f"{command[0]} cannot be started: {error.strerror}") from None


def _ends(pid: int, seconds: float) -> bool:
    """Whether a child ends in time.  It is left for _end, so that its number stays its own."""
    late = threading.Event()

    def end() -> None:
        late.set()
        os.killpg(pid, signal.SIGKILL)

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    finally:
        timer.cancel()
    return not late.is_set()


def _end(child: _Child) -> None:
    """Kills what is left of it, and keeps what it has taken."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    _, status, child.usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)


def _cpu(pid: int) -> float:
    """User and system time of a child, all its threads: the clock that clock_getcpuclockid(3) gives."""
    return time.clock_gettime(~pid << 3 | 2)  # also of one that has ended, until it is waited for


def _lines(fd: int, until: float, errors: int) -> Iterator[str]:
    """Lines as they come, to the end of the file, the time, or an engine that has given up."""
    rest = b""
    while (left := until - time.monotonic()) > 0:
        ready, _, _ = select.select([fd], [], [], min(left, 0.5))
        if not ready:
            if GIVEN_UP in os.pread(errors, 1 << 16, 0):
                return
            continue
        data = os.read(fd, 1 << 16)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        rest = rest[-4096:]
        for line in lines:
            yield line.decode(errors="replace")


def _complaint(status: int, said: bytes) -> str:
    """One line of why a process failed."""
    if GIVEN_UP in said:
        return GIVEN_UP.decode()
    lines = said.decode(errors="replace").strip().splitlines()
    how = f"signal {-status}" if status < 0 else f"exit status {status}"
    line = "".join(letter for letter in lines[-1] if letter.isprintable())[:200] if lines else ""
    return f"{line} ({how})" if line else how
