"""Process.on_address: hooks that see and change a program's threads at its instructions."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time

import pytest

from accel.errors import EmuError
from emu.linux.process import PIPE, Process
from emu.linux.watch import BadAddress
from tests.conftest import usable

ARGUMENTS = {"aarch64": ("x0", "x1"), "arm": ("r0", "r1"), "riscv64": ("a0", "a1"), "x86_64": ("rdi", "rsi")}
RETURN = {"aarch64": "x30", "arm": "lr", "riscv64": "ra"}


@pytest.fixture(params=["aarch64", "arm", "riscv64", "x86_64", "x86_64 by kvm", "aarch64 by unicorn"])
def guest(request, build):
    """Makes processes of scale.c; first and second are the names of its arguments' registers."""
    isa, _, how = request.param.partition(" by ")
    if how == "kvm":
        usable("kvm")
    made = []

    class Guest:
        name = isa
        first, second = ARGUMENTS[isa]

        def __call__(self, *arguments: object, **options) -> Process:
            options = {"accel": "kvm" if how == "kvm" else "tcg", "stdout": PIPE, **options}
            options["engine"] = "unicorn" if how == "unicorn" else None
            path = build("scale", isa, "-static", "-pthread", "-O1")
            made.append(Process(path, ["scale", *map(str, arguments)], **options))
            return made[-1]

    yield Guest()
    for process in made:
        process.close()


def test_a_hook_sees_and_changes_registers_and_memory(guest):
    process = guest(3)
    seen = []

    def scale(hit):
        seen.append((hit.registers[guest.first], hit.registers[guest.second]))
        hit.registers[guest.second] = 100

    def text(hit):
        at = hit.registers[guest.first]
        assert hit.memory.string(at) == "twelve bytes"
        hit.memory.write(at + 6, b"\0")
        assert hit.memory.read(at, 8) == b"twelve\0b"
        with pytest.raises(BadAddress):
            hit.memory.read(8, 1)
        with pytest.raises(BadAddress):
            hit.memory.write(8, b"x")

    process.on_address("scale", scale)
    process.on_address("text", text)
    assert (process.run(timeout=60), process.stdout) == (0, b"600 6\n")
    assert seen == [(1, 10), (2, 10), (3, 10)]


def test_a_hook_leaves_a_function_before_it_has_begun(guest):
    def answer(hit):
        registers = hit.registers
        if guest.name == "x86_64":  # by the stack, and the result is not where the argument was
            registers["rax"] = 7
            registers["rip"] = int.from_bytes(hit.memory.read(registers["rsp"], 8), "little")
            registers["rsp"] += 8
        else:
            registers[guest.first] = 7
            registers["pc"] = registers[RETURN[guest.name]] & ~(guest.name == "arm")

    process = guest(3)
    process.on_address("scale", answer)
    assert (process.run(timeout=60), process.stdout) == (0, b"21 12\n")


def test_all_threads_and_system_calls_are_told_of(guest):
    process = guest(20, 4)
    hits, calls = [], []
    process.on_address("scale", lambda hit: hits.append((hit.tid, hit.registers[guest.first])))
    process.on_syscall("write", lambda call: calls.append(call.args[2]))
    assert (process.run(timeout=60), process.stdout) == (0, b"8400 12\n")
    tids = {tid for tid, _ in hits}
    assert len(tids) == 4
    assert sorted(hits) == sorted((tid, n) for tid in tids for n in range(1, 21))
    assert calls == [8]


def test_a_child_runs_without_hooks_and_so_does_another_program(guest):
    for word, more in (("fork", b"child 20\n"), ("exec", b"30 12\n")):
        process = guest(3, 1, word)
        hits = []
        process.on_address("scale", lambda hit: hits.append(hit.pid))  # noqa: B023
        assert (process.run(timeout=60), process.stdout) == (0, b"60 12\n" + more)
        assert len(hits) == 3


def test_what_a_hook_raises_kills_the_program_and_is_raised(guest):
    class Mine(Exception):
        pass

    def fail(hit):
        raise Mine

    process = guest(3)
    process.on_address("scale", fail)
    with pytest.raises(Mine):
        process.run(timeout=60)
    assert process.pid is None
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_hook_ends_the_program(guest):
    process = guest(3)
    process.on_address("scale", lambda hit: hit.stop())
    assert process.run(timeout=60) == -signal.SIGKILL


@pytest.fixture
def one(build):
    with Process(build("scale", "aarch64", "-static", "-pthread", "-O1"), ["scale", "1000000"]) as made:
        yield made


def test_ctrl_c_and_time_outs_find_the_program_killed(one):
    one.on_address("scale", lambda hit: None)

    def interrupt():
        while one.pid is None:
            time.sleep(0.01)
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        one.run(timeout=60)
    thread.join()
    with pytest.raises(subprocess.TimeoutExpired):
        one.run(timeout=0.3)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize(
    ("where", "text"),
    [("nosuch", "no function 'nosuch' with a symbol"), (16, "no hook at 0x10: guest address 0x10")],
)
def test_addresses_that_are_not_there_are_errors(one, where, text):
    one.on_address(where, lambda hit: None)
    with pytest.raises(EmuError, match=text):
        one.run(timeout=60)


def test_registers_that_are_not_there_are_errors_and_hooks_come_before_the_start(one):
    def wrong(hit):
        with pytest.raises(EmuError, match="aarch64 has no register 'rax'; there are x0, "):
            hit.registers["rax"]
        with pytest.raises(EmuError, match="no register 'rax'"):
            hit.registers["rax"] = 1
        with pytest.raises(EmuError, match="has been started"):
            one.on_address("text", wrong)
        hit.stop()

    one.on_address("scale", wrong)
    assert one.run(timeout=60) == -signal.SIGKILL


def test_symbols_of_programs_that_lie_anywhere(build):
    from accel.errors import Unavailable
    from emu.samples.debian import unpacked

    path = build("scale", "aarch64", "-pthread", "-O1", "-pie")
    try:
        root = unpacked("libc6", "arm64", closure=True)
    except Unavailable as error:
        pytest.skip(str(error))
    with Process(path, ["scale", "2"], sysroot=root, stdout=PIPE) as process:
        process.on_address("scale", lambda hit: hit.registers.__setitem__("x1", 3))
        assert (process.run(timeout=60), process.stdout) == (0, b"9 12\n")
