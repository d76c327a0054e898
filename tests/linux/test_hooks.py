"""Process: start and wait, streams, and hooks that see and change system calls."""

from __future__ import annotations

import doctest
import errno
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from accel.errors import EmuError
from emu.linux import process as module
from emu.linux.process import PIPE, Process
from emu.linux.watch import BadAddress, Call

ISAS = ["aarch64", "arm", "riscv64", "x86_64"]


@pytest.fixture(params=["aarch64", "arm", "riscv64", "x86_64", "x86_64 by kvm"])
def make(request, build):
    """make(name, *arguments): a Process with its output in a pipe, closed when the test ends."""
    from tests.conftest import usable

    isa, _, accel = request.param.partition(" by ")
    if accel:
        usable(accel)
    made = []

    def make(name: str, *arguments: object, **options: object) -> Process:
        options = {"accel": accel or "tcg", "stdout": PIPE, **options}
        made.append(Process(build(name, isa), [name, *map(str, arguments)], **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for process in made:
        process.close()


def path_of(call: Call) -> str:
    return call.memory.string(call.args[1 if call.name == "openat" else 0])


def opens(process: Process, hook) -> None:
    for name in ("open", "openat"):
        process.on_syscall(name, hook)


def test_a_hook_sees_name_arguments_and_memory(make, tmp_path):
    seen = []
    file = tmp_path / "file"
    file.write_text("content\n")
    process = make("show", file)
    opens(process, lambda call: seen.append((path_of(call), call.result)))
    assert (process.run(), process.stdout) == (0, b"content\n")
    assert (str(file), None) in seen


def test_a_hook_refuses_a_call(make, tmp_path):
    file = tmp_path / "file"
    file.write_text("content\n")
    process = make("show", file)
    opens(process, lambda call: call.refuse(errno.EPERM) if path_of(call) == str(file) else None)
    process.run()
    assert process.stdout == b"Operation not permitted\n"


def test_a_hook_answers_a_call_itself(make):
    written = []

    def write(call: Call) -> None:
        written.append(call.memory.read(call.args[1], call.args[2]))
        call.result = call.args[2]

    process = make("echo", "one")
    for name in ("write", "writev"):
        process.on_syscall(name, write)
    assert process.run() == 2
    assert process.stdout == b""
    assert b"".join(written) == b"echo\none\n"


def test_a_hook_changes_an_argument(make, tmp_path):
    (tmp_path / "a").write_text("from a\n")
    (tmp_path / "b").write_text("from b\n")

    def redirect(call: Call) -> None:
        if path_of(call) == str(tmp_path / "a"):
            at = 1 if call.name == "openat" else 0
            call.memory.write(call.args[at], os.fsencode(tmp_path / "b") + b"\0")

    process = make("show", tmp_path / "a")
    opens(process, redirect)
    process.run()
    assert process.stdout == b"from b\n"

    def shorten(call: Call) -> None:
        call.args[2] = min(3, call.args[2])

    process = make("show", tmp_path / "a")
    process.on_syscall("write", shorten, None)
    process.run()
    # The C library writes the rest when it has seen how much went out.
    assert process.stdout == b"from a\n"


def test_a_hook_after_the_call_changes_its_result(make, tmp_path):
    results = []

    def after(call: Call) -> None:
        results.append(call.result)
        if call.result is not None and call.result >= 0:
            call.result = -errno.EMFILE

    process = make("show", "/dev/null", "/nowhere")
    process.on_syscall("openat", after=after)
    process.run()
    assert process.stdout == b"Too many open files\nNo such file or directory\n"
    assert results[-1] == -errno.ENOENT


def test_all_calls_are_told_of_in_order(make):
    calls = []
    process = make("echo", "x")
    process.on_syscall("*", lambda call: calls.append(call.name))
    assert process.run() == 2
    assert calls[-1] == "exit_group"
    assert calls.index("write") < len(calls) - 1


def test_what_a_hook_raises_ends_the_run_and_is_raised_from_it(make):
    class Mine(Exception):
        pass

    def fail(call: Call) -> None:
        raise Mine(call.name)

    process = make("echo", "never")
    process.on_syscall("write", fail)
    with pytest.raises(Mine, match="write"):
        process.run()
    process.on_syscall("*", lambda call: None)
    with pytest.raises(Mine):  # it can be run again, and the hook is still there
        process.run()


def test_an_exception_kills_the_program_s_children_at_their_next_call(make, tmp_path):
    """The child is in a loop of calls; its parent's hook raises."""
    pids = set()

    def fail(call: Call) -> None:
        pids.add(call.pid)
        if len(pids) > 1:
            raise KeyError(call.pid)

    process = make("see")
    process.on_syscall("*", fail)
    with pytest.raises(KeyError):
        process.run()
    for _ in range(100):
        if not any(alive(pid) for pid in pids):
            return
        time.sleep(0.05)
    pytest.fail("a process of the program has survived")


def alive(pid: int) -> bool:
    """A zombie is not, and whose it is to reap does not matter here."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_children_of_the_program_are_told_of_here(make):
    pids = set()
    process = make("see")
    process.on_syscall("*", lambda call: pids.add(call.pid))
    assert process.run() == -signal.SIGTERM
    assert process.stdout == b"done\n"
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_threads_of_many_processes_are_told_of_one_at_a_time(make):
    """Every call is told of once, and none is lost; hooks need no lock of their own."""
    tids: dict[int, int] = {}
    inside = []

    def count(call: Call) -> None:
        inside.append(1)
        assert len(inside) == 1
        tids[call.tid] = tids.get(call.tid, 0) + 1
        inside.pop()

    process = make("crowd", 50)
    process.on_syscall("getppid", count)
    assert process.run() == 0
    assert process.stdout == b"800\n"
    assert len(tids) == 16
    assert set(tids.values()) == {50}


def test_a_call_that_a_signal_interrupts_is_told_of_again(make):
    """Hooks see results that are results: no ERESTART, which the program does not see either."""
    results = []
    process = make("see")
    process.on_syscall("*", after=lambda call: results.append((call.name, call.result)))
    assert process.run() == -signal.SIGTERM
    assert all(result is not None and not -600 <= result <= -512 for _, result in results)


def test_children_that_outlive_the_program_go_on_unwatched(make, tmp_path):
    calls = []
    process = make("outlive", tmp_path / "file", stdout=None)
    process.on_syscall("getppid", lambda call: calls.append(call.pid))
    assert process.run() == 0
    for _ in range(200):
        if (tmp_path / "file").exists():
            break
        time.sleep(0.05)
    else:
        pytest.fail("the child stands still")


def test_registers_can_be_read_and_written(make):
    values = []

    def look(call: Call) -> None:
        names = list(call.registers)
        stack = next(name for name in ("sp", "rsp") if name in names)
        before = call.registers[stack]
        call.registers[stack] = before
        values.append((before, call.registers[stack], len(names) >= 16))
        with pytest.raises(EmuError, match="no register"):
            call.registers["eax?"]

    process = make("echo")
    process.on_syscall("exit_group", look)
    assert process.run() == 1
    assert values[0][0] == values[0][1] != 0
    assert values[0][2]


def test_wild_addresses_raise_what_a_hook_can_catch(make):
    caught = []

    def look(call: Call) -> None:
        for address in (0, 1 << 62, -1, 0xFFFF_FFFF_FFFF):
            for attempt in (
                lambda address=address: call.memory.read(address, 10000),
                lambda address=address: call.memory.write(address, b"x" * 5000),
                lambda address=address: call.memory.string(address),
            ):
                try:
                    attempt()
                except BadAddress as error:
                    caught.append(str(error))

    process = make("echo")
    process.on_syscall("exit_group", look)
    assert process.run() == 1
    assert len(caught) == 12


def test_an_unknown_call_is_refused_with_the_remedy(make):
    with pytest.raises(EmuError, match="capabilities"):
        make("echo").on_syscall("opennat", lambda call: None)


def test_wrong_answers_of_hooks_are_errors(make):
    def add(call: Call) -> None:
        call.args.append(1)

    process = make("echo")
    process.on_syscall("exit_group", add)
    with pytest.raises(EmuError, match="takes 1 arguments"):
        process.run()
    process = make("echo")
    process.on_syscall("exit_group", lambda call: call.refuse(99999))
    with pytest.raises(EmuError, match="no errno"):
        process.run()


def test_a_program_that_is_killed_while_it_waits_for_a_hook_ends_the_run(make):
    def kill(call: Call) -> None:
        os.kill(call.pid, signal.SIGKILL)
        call.memory.read(call.args[0], 0)

    process = make("echo")
    process.on_syscall("exit_group", kill)
    assert process.run() == -signal.SIGKILL


def test_other_threads_of_python_run_meanwhile(make):
    """The hook waits for a thread that needs Python's lock."""
    done = []

    def wait(call: Call) -> None:
        thread = threading.Thread(target=lambda: done.append(sum(range(1000))))
        thread.start()
        thread.join()

    process = make("echo")
    process.on_syscall("write", wait)
    assert process.run() == 1
    assert done


def test_streams_are_as_with_subprocess(make, tmp_path):
    with open(tmp_path / "in", "w+b") as given, open(tmp_path / "out", "w+b") as taken:
        given.write(b"text\n" * 30000)
        given.seek(0)
        process = make("die", stdin=given, stdout=taken, stderr=PIPE)
        process.run()
        taken.seek(0)
        assert taken.read() == b"text\n" * 30000
        assert (process.stdout, process.stderr) == (None, b"")


def test_a_program_can_be_started_and_waited_for(make):
    process = make("echo", "x")
    with pytest.raises(EmuError, match="start"):
        process.wait()
    pid = process.start()
    assert process.pid == pid != os.getpid()
    with pytest.raises(EmuError, match="already"):
        process.start()
    assert process.wait() == 2
    assert process.stdout == b"echo\nx\n"
    assert process.pid is None


def test_the_examples_of_the_docstrings_are_right(build):
    names = {"program": build("show", "aarch64"), "Process": Process, "PIPE": PIPE}
    parser = doctest.DocTestParser()
    for name, where in (("Process", Process), ("module", module)):
        test = parser.get_doctest(where.__doc__ or "", dict(names), name, None, 0)
        found: list[str] = []
        doctest.DocTestRunner().run(test, out=found.append)
        assert not found, "".join(found)
