"""Guest threads are the host's: the same source, run natively, is the oracle."""

import os
import signal
import threading

import pytest

from emu.linux.process import Process
from tests.conftest import usable
from tests.linux.programs import GUESTS, build, emulated, native

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


@pytest.mark.parametrize("guest", THREADED)
def test_threads_that_read_do_not_wait_for_python(guest):
    name, accel = GUESTS[guest]
    usable(accel)
    pipes = [os.pipe() for _ in range(4)]
    out, inlet = os.pipe()
    saved = os.dup(1)
    busy = threading.Event()

    def keep_the_lock():
        while not busy.is_set():
            sum(range(1000))

    runner = threading.Thread(target=keep_the_lock)
    try:
        for reader, _ in pipes:
            os.set_inheritable(reader, True)
        words = ["threads", "readers", *(str(reader) for reader, _ in pipes)]
        with Process(build("threads", name), words, accel=accel) as process:
            os.dup2(inlet, 1)
            runner.start()
            guest_thread = threading.Thread(target=process.run)
            guest_thread.start()
            assert os.read(out, 8) == b"reading\n"
            for i, (_, writer) in enumerate(pipes):
                os.write(writer, b"abcd"[i : i + 1])
            guest_thread.join(60)
            assert process.status == 0
            assert os.read(out, 100) == b"read a\nread b\nread c\nread d\n"
    finally:
        os.dup2(saved, 1)
        busy.set()
        runner.join()
        for fd in (saved, out, inlet, *(fd for pair in pipes for fd in pair)):
            os.close(fd)
