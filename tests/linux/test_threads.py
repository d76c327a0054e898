"""Guest threads are the host's: the same source, run natively, is the oracle."""

import os
import signal
import subprocess
import sys

import pytest

from tests.conftest import usable
from tests.linux.programs import GUESTS, ROOT, build, emulated, native

PARTS = (
    *("counter", "meeting", "spinning", "storage", "many", "detached", "cancellation", "signals", "storm"),
    *("stopped", "memory", "code", "forking", "race", "inheritance", "timers", "credentials", "refused"),
    *("robust", "robust-pi", "rights"),
)
# what ends the process while other threads run, read, sleep and wait; and how
ENDS = {
    "exit-main": 7,
    "exit-thread": 8,
    "exit-blocked": 9,
    "exec-main": 0,
    "exec-thread": 0,
    "main-ends": 0,
    "main-ends-exit": 6,
    "main-ends-exec": 0,
    "fault": -signal.SIGSEGV,
    "abort": -signal.SIGABRT,
    "killed": -signal.SIGTERM,
}
THREADED = [guest for guest in GUESTS if guest != "arm-wide"]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("guest", THREADED)
def test_threads_do_what_they_do_natively(guest, part):
    outcome = emulated("threads", guest, part)
    assert outcome == native("threads", part)
    assert (": NO" in outcome.output, outcome.status) == (False, 0)


@pytest.mark.parametrize("guest", ["aarch64", "x86_64", "x86_64 by kvm"])
def test_threads_may_spread_over_more_memory_than_tables_hold(guest):
    outcome = emulated("threads", guest, "sparse")
    assert outcome == native("threads", "sparse")
    assert outcome.output.endswith("wrong 0 disturbed 0\n")


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("guest", THREADED)
def test_all_threads_end_with_their_process(guest, end):
    outcome = emulated("threads", guest, end)
    assert outcome == native("threads", end)
    assert outcome.status == ENDS[end]


# The process becomes the guest, and a thread of Python's then takes the interpreter's lock and never gives
# it back: calls through PyDLL keep it.
KEEPER = """
import ctypes, os, sys, threading
from emu.linux.process import Process
go, took, never = map(int, sys.argv[1:4])
calls = ctypes.PyDLL(None)
def keep_the_lock():
    os.read(go, 1)
    calls.write(took, b"t", 1)
    calls.read(never, ctypes.create_string_buffer(1), 1)
process = Process(sys.argv[5], sys.argv[5:], accel=sys.argv[4])
threading.Thread(target=keep_the_lock).start()
process.become()
"""


@pytest.mark.parametrize("guest", THREADED)
def test_threads_that_read_do_not_wait_for_python(guest):
    name, accel = GUESTS[guest]
    usable(accel)
    program = build("threads", name)
    pipes = [os.pipe() for _ in range(7)]
    (go, let_go), (taken, took), (never, nobody), *inputs = pipes
    numbers = [str(fd) for fd in (go, took, never)]
    words = [accel, str(program), "readers", *(str(reader) for reader, _ in inputs)]
    try:
        with subprocess.Popen(
            [sys.executable, "-c", KEEPER, *numbers, *words],
            pass_fds=[go, took, never, nobody, *(reader for reader, _ in inputs)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        ) as process:
            assert process.stdout is not None
            try:
                assert process.stdout.readline() == b"reading\n"
                os.write(let_go, b"g")
                assert os.read(taken, 1) == b"t"
                for i, (_, writer) in enumerate(inputs):
                    os.write(writer, b"abcd"[i : i + 1])
                output, _ = process.communicate(timeout=60)
                assert (output, process.returncode) == (b"read a\nread b\nread c\nread d\n", 0)
            finally:
                process.kill()
    finally:
        for pair in pipes:
            for fd in pair:
                os.close(fd)
