"""machine.on_address: hooks that see and change CPUs at an instruction, beside debuggers and without."""

from __future__ import annotations

import threading
import time

import pytest

from accel.errors import DeviceError, EmuError, MapError
from emu.machine import Machine
from tests.accel.test_tcg_debug import AT
from tests.emu.gdb_client import debug, values
from tests.emu.pvh_guest import BASE, kernel
from tests.emu.test_gdb_machine import COUNTER, GDB_NAMES, counting, counting_board
from tests.guest.bare import CODE, RAM, RESULT, words

__all__ = ["counting"]


@pytest.fixture
def arm64():
    with Machine(counting_board("aarch64"), accel="tcg") as made:
        yield made


def test_a_hook_sees_and_changes_registers_and_memory(counting):
    """The guest adds 1 to a register, stores it, loads it and begins again."""
    machine, isa = counting
    at, counter = CODE[isa] + AT[isa][1], COUNTER[isa]
    seen = []

    def before_the_store(hit):
        seen.append(hit.registers[counter])
        assert (hit.address, hit.cpu, hit.registers[machine.accel.arch.pc]) == (at, 0, at)
        if len(seen) == 3:
            hit.registers[counter] = 0x1000
        if len(seen) == 5:
            assert hit.memory.read(RESULT[isa], 4) == b"\x01\x10\0\0"
            hit.memory.write(RESULT[isa] + 64, b"seen")
            hit.stop()

    with machine:
        machine.on_address(at, before_the_store)
        assert repr(machine.run(timeout=60)) == f"<Result hook 0 at {at:#x}>"
        first = seen[0]
        assert seen == [first, first + 1, first + 2, 0x1001, 0x1002]
        cpu = machine.cpus[0]
        assert (cpu.registers[machine.accel.arch.pc], cpu.registers[counter]) == (at, 0x1002)
        assert cpu.memory.read(RESULT[isa] + 64, 4) == b"seen"
        machine.run(timeout=60, until=lambda: len(seen) > 20)
        assert seen[5:8] == [0x1003, 0x1004, 0x1005], "run() goes on behind the hook that has stopped it"


def test_hooks_come_and_go_while_it_runs(counting):
    machine, isa = counting
    places = [CODE[isa] + AT[isa][n] for n in (1, 3)]
    seen = []

    def first(hit):
        seen.append("first")
        remove()
        machine.on_address(places[1], second)

    def second(hit):
        seen.append("second")

    with machine:
        remove = machine.on_address(places[0], first)
        machine.run(timeout=60, until=lambda: len(seen) >= 6)
        assert seen[:6] == ["first", *["second"] * 5]
        third = []
        remove = machine.on_address(places[1], third.append)
        machine.start()  # from this thread, while the CPU runs
        while not third:
            time.sleep(0.01)
        remove()
        machine.pause()
        then = len(third), len(seen)
        machine.run(timeout=60, until=lambda: len(seen) > then[1] + 10)
        assert len(third) == then[0]


def test_a_hook_that_moves_the_pc_leaves_the_instruction_out(counting):
    machine, isa = counting
    if isa == "x86_64":
        start, store, after = (CODE[isa] + AT[isa][n] for n in (0, 1, 2))
    else:
        start, store, after = (CODE[isa] + AT[isa][n] for n in (0, 1, 2))
    counts = []

    def skip(hit):
        counts.append(hit.registers[COUNTER[isa]])
        hit.registers[machine.accel.arch.pc] = start
        if len(counts) == 4:
            hit.stop()

    with machine:
        machine.on_address(store, skip)
        assert machine.run(timeout=60).reason == "hook"
        assert machine.cpus[0].registers[machine.accel.arch.pc] == start
        assert counts == list(range(counts[0], counts[0] + 4))
        assert machine.memory.peek(RESULT[isa], 4) == bytes(4)
    assert after > store


def test_what_a_hook_raises_is_raised_from_run(arm64):
    class Mine(Exception):
        pass

    def fail(hit):
        raise Mine(hit.address)

    arm64.on_address(CODE["aarch64"] + 8, fail)
    with pytest.raises(Mine, match=str(CODE["aarch64"] + 8)):
        arm64.run(timeout=60)
    assert arm64.state == "shutdown"


def test_ctrl_c_amid_hooks_leaves_a_machine_that_goes_on(arm64):
    import os
    import signal

    seen = []
    arm64.on_address(CODE["aarch64"] + 4, lambda hit: seen.append(hit.registers["x2"]))
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        arm64.run(timeout=60)
    assert arm64.state == "paused"
    then = len(seen)
    arm64.run(timeout=60, until=lambda: len(seen) > then + 10)
    assert seen == list(range(seen[0], seen[0] + len(seen))), "no instruction was executed twice or left out"


def test_a_machine_that_was_reset_or_forked(arm64):
    seen = []
    arm64.on_address(CODE["aarch64"] + 4, lambda hit: (seen.append(hit.registers["x2"]), hit.stop()))
    arm64.run(timeout=60)
    with arm64.fork() as copy:
        assert copy.run(timeout=0.1).reason == "timeout", "a copy has no hooks"
    arm64.reset()
    arm64.run(timeout=60)
    assert seen == [1, 1]


def test_hooks_move_to_the_other_accelerator():
    from tests.conftest import usable

    usable("kvm")
    loop = kernel(words("41 eb fd"))  # inc ecx; jmp to it
    with Machine("microvm", accel="kvm,kernel-irqchip=off", kernel=loop) as machine:
        machine.on_address(BASE, lambda hit: hit.stop())
        seen = []
        for name in ("tcg", "kvm", "tcg"):
            machine.switch(name)
            # Where kvm emulates kernel mode a loop may run through a breakpoint: that tcg stops is sure.
            result = machine.run(timeout=60 if name == "tcg" else 0.1)
            if name == "tcg":
                assert (result.reason, machine.cpus[0].registers["rip"]) == ("hook", BASE)
                seen.append(machine.cpus[0].registers["rcx"])
        assert seen[0] < seen[1]


def test_a_debugger_has_its_breakpoints_beside_hooks(tmp_path):
    machine = Machine(counting_board("aarch64"), accel="tcg")
    seen = []
    machine.on_address(CODE["aarch64"] + 4, lambda hit: seen.append(hit.registers["x2"]))
    orders = [
        f"break *{CODE['aarch64'] + 8}",
        "continue",
        'printf "x2=%#lx\\n", $x2',
        f"break *{CODE['aarch64'] + 4}",
    ]
    orders += ["continue", 'printf "pc=%#lx\\n", $pc', "continue", 'printf "x2=%#lx\\n", $x2', "kill"]
    text, _ = debug(machine, orders, tmp_path / "gdb", arch=GDB_NAMES["aarch64"])
    assert values(text, "x2") == [1, 2], text
    assert values(text, "pc") == [CODE["aarch64"] + 4], text
    assert seen == [1, 2]


def test_what_is_not_there_is_an_error(arm64):
    with pytest.raises(DeviceError, match="no kernel or firmware with ELF symbols has a function 'main'"):
        arm64.on_address("main", lambda hit: None)

    def wrong(hit):
        with pytest.raises(EmuError, match="aarch64 has no register 'rax'; there are x0, "):
            hit.registers["rax"]
        with pytest.raises(EmuError, match="aarch64 has no register 'rax'"):
            hit.registers["rax"] = 1
        with pytest.raises(MapError, match="no memory is at"):
            hit.memory.read(RAM["aarch64"] - 8, 4)
        hit.stop()

    arm64.on_address(CODE["aarch64"] + 4, wrong)
    assert arm64.run(timeout=60).reason == "hook"


def test_more_than_a_cpu_has_registers_for_are_there_or_an_error_at_once():
    from tests.conftest import usable

    usable("kvm")
    with Machine(counting_board("x86_64"), accel="kvm") as machine:
        done = 0
        try:
            for number in range(100):
                machine.on_address(CODE["x86_64"] + 16 * number, lambda hit: hit.stop())
                done += 1
        except EmuError as error:
            assert "--accel tcg" in str(error)  # noqa: PT017
        assert done >= 4
        assert machine.run(timeout=60).reason == "hook"


def test_a_function_of_an_elf_kernel_is_found_by_name(tmp_path):
    import shutil
    import subprocess

    tool = "aarch64-linux-gnu"
    if shutil.which(f"{tool}-gcc") is None:
        pytest.skip(f"no {tool}-gcc to build a kernel with symbols")
    source = ".globl _start, answer\n_start: mov x0, #1\n bl answer\n b _start\n"
    source += ".type answer, %function\nanswer: add x0, x0, #41\n ret\n.size answer, .-answer\n"
    (tmp_path / "k.s").write_text(source)
    command = [f"{tool}-gcc", "-nostdlib", "-static", "-Wl,-Ttext=0x40080000", "-Wl,--build-id=none"]
    subprocess.run([*command, "-o", tmp_path / "k", tmp_path / "k.s"], check=True, timeout=60)
    with Machine("virt", arch="aarch64", accel="tcg", kernel=tmp_path / "k") as machine:
        machine.on_address("answer", lambda hit: hit.stop())
        assert machine.run(timeout=60).reason == "hook"
        assert machine.cpus[0].registers["x0"] == 1
