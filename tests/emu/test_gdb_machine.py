"""gdb-multiarch, unmodified, on whole machines."""

from __future__ import annotations

import re
import socket
import subprocess
import sys

import pytest

from emu import Machine
from emu.board import Board
from emu.samples.greeting import BOARDS
from tests.accel.test_tcg_debug import AT, COUNT
from tests.emu.gdb_client import command, debug, run, values
from tests.emu.linux_guest import Screen, image, initrd
from tests.emu.steered import steered
from tests.guest.bare import CODE, RAM, RESET, RESET_BASE, RESULT, long_mode_tables, words

POINTER = {"aarch64": "x1", "arm": "r1", "riscv64": "a1", "x86_64": "rbx"}
COUNTER = {"aarch64": "x2", "arm": "r2", "riscv64": "a2", "x86_64": "rcx"}
GDB_NAMES = {"aarch64": "aarch64", "arm": "arm", "riscv64": "riscv:rv64", "x86_64": "i386:x86-64"}


def counting_board(isa: str, code: str = "") -> Board:
    """A board whose CPU counts, stores the number, loads it, and begins again; or executes other code."""

    class Counting(Board):
        arch = isa
        ram_base = RAM[isa]
        default_ram = 16 << 20
        ports = isa == "x86_64"

        def memory(self, machine):
            super().memory(machine)
            if isa == "x86_64":
                machine.memory.add_ram("reset", RESET_BASE, 0x1_0000, readonly=True)

        def load(self, machine):
            machine.memory.load(CODE[isa], words(code or COUNT[isa], isa))
            if isa == "x86_64":
                for offset, text in RESET.items():
                    machine.memory.load(RESET_BASE + offset, words(text))
                for address, data in long_mode_tables().items():
                    machine.memory.load(address, data)
                machine.memory.load(0x3000, (0x83).to_bytes(8, "little"))  # 2 MiB that are the kernel's alone

        def start_cpu(self, machine, index, vcpu):
            vcpu.set(**{POINTER[isa]: RESULT[isa], COUNTER[isa]: 0})
            if isa != "x86_64":
                vcpu.set(pc=CODE[isa])

    return Counting()


@pytest.fixture(params=[("tcg", isa) for isa in GDB_NAMES] + [("kvm", "x86_64")], ids="-".join)
def counting(request):
    """A machine with such a board under every engine that runs it, and its ISA."""
    from accel.errors import EmuError

    accel, isa = request.param
    try:
        return Machine(counting_board(isa), accel=accel), isa
    except EmuError as error:
        pytest.skip(str(error))


def test_breakpoints_steps_watchpoints_and_memory_of_a_bare_machine(counting, tmp_path):
    machine, isa = counting
    start, at = CODE[isa], AT[isa]
    data, counter = RESULT[isa], COUNTER[isa]
    watches = machine.accel.caps.watchpoints
    first = 1 + (0xC000_0081 - 1) * (isa == "x86_64")  # what x86's reset code leaves there
    text, result = debug(
        machine,
        [
            f"hbreak *{start + at[1]}",
            "continue",
            f'printf "first=%#lx\\n", ${counter}',
            'printf "pc=%#lx\\n", $pc',
            "stepi",
            'printf "pc=%#lx\\n", $pc',
            f"set ${counter} = 0x100",
            "delete",
            f"break *{start + at[3]}",
            "continue",
            'printf "pc=%#lx\\n", $pc',
            "continue",
            f'printf "stored=%#lx\\n", *(unsigned int *){data}',
            "delete",
            f"set can-use-hw-watchpoints {int(watches)}",  # without: gdb steps
            f"watch *(unsigned int *){data}",
            "continue",
            "continue",
            "delete",
            *([f"awatch *(unsigned int *){data}", "continue"] if watches else []),
            f"set *(unsigned int *){data + 64} = 0x12345678",
            f"x/1xw {data + 64}",
            f"x/2i {start}",
            "info threads",
            "monitor physical on",
            "kill",
        ],
        tmp_path / "gdb",
        arch=GDB_NAMES[isa],
    )
    assert values(text, "first") == [first], text
    assert values(text, "pc") == [start + at[1], start + at[2], start + at[3]], text
    assert values(text, "stored") == [0x101], text
    watched = re.findall(r"Old value = (\d+)\s+New value = (\d+)", text)
    assert watched == [("257", "258"), ("258", "259")], text
    assert not watches or re.search(r"access \(read/write\) watchpoint \d+: .*\s+Value = 0?x?\d+", text), text
    assert re.search(rf"{data + 64:#x}:\s+0x12345678", text), text
    assert "CPU 0" in text, text
    assert "addresses are physical" in text, text
    assert result.reason == "host-ui"


@pytest.mark.parametrize("accel", ["kvm", "tcg"])
def test_breakpoints_are_more_than_x86_has_registers_for(accel, tmp_path):
    from accel.errors import EmuError

    try:
        machine = Machine(counting_board("x86_64", "48 ff c1 " * 8 + "eb e6"), accel=accel)  # inc rcx
    except EmuError as error:
        pytest.skip(str(error))
    start = CODE["x86_64"]
    commands = [f"hbreak *{start}", "continue", "set $rcx = 0", "delete"]
    commands += [f"break *{start + 3 * n}" for n in range(8)]
    commands += ["continue", 'printf "rcx=%#lx\\n", $rcx', f"x/8xb {start}"] * 8
    wide = getattr(machine.cpus[0].vcpu, "avx", False)
    commands += ["set $ymm3.v4_int64[3] = 77", "stepi", 'printf "wide=%#lx\\n", $ymm3.v4_int64[3]'] * wide
    text, result = debug(machine, [*commands, "kill"], tmp_path / "gdb", arch=GDB_NAMES["x86_64"])
    assert values(text, "wide") == [77] * wide, text
    assert values(text, "rcx") == list(range(1, 9)), text
    assert text.count("0x48\t0xff\t0xc1\t0x48\t0xff\t0xc1\t0x48\t0xff") == 8, text
    assert result.reason == "host-ui"


@pytest.mark.parametrize("isa", BOARDS)
def test_a_guest_that_ends_while_a_debugger_is_there_tells_it_its_exit_code(isa, tmp_path):
    text, result = debug(
        Machine(BOARDS[isa](), accel="tcg"), ["continue"], tmp_path / "gdb", arch=GDB_NAMES[isa]
    )
    assert result.reason == "guest-shutdown"
    assert "exited normally" in text, text


def test_a_detached_machine_runs_on(tmp_path):
    text, result = debug(
        Machine(BOARDS["aarch64"](), accel="tcg"),
        ["break *0x40000004", "continue", "detach"],
        tmp_path / "gdb",
        arch="aarch64",
    )
    assert "Breakpoint 1, 0x0000000040000004" in text, text
    assert result.reason == "guest-shutdown"


def test_ctrl_c_stops_a_machine_that_runs(tmp_path):
    machine = Machine(counting_board("aarch64"), accel="tcg")
    words = ["python import threading, time, os, signal",
             "python threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()",
             "continue", 'printf "pc=%#lx\\n", $pc', "kill"]  # fmt: skip
    text, result = debug(machine, words, tmp_path / "gdb", arch="aarch64")
    assert "Program received signal SIGINT" in text, text
    (pc,) = values(text, "pc")
    assert CODE["aarch64"] <= pc < CODE["aarch64"] + 16
    assert result.reason == "host-ui"


def kernel_symbols(*names: str) -> dict[str, int]:
    """Where the kernel's symbols are without KASLR, by its own word."""
    screen = Screen()
    script = "\n".join(f"grep ' {name}$' /proc/kallsyms" for name in names)
    with Machine(
        "virt", arch="aarch64", accel="tcg", ram=256 << 20, kernel=image(), initrd=initrd(script),
        append="console=ttyAMA0 quiet nokaslr", serial=screen,
    ) as machine:  # fmt: skip
        machine.run(timeout=300)
    lines = re.findall(r"^([0-9a-f]{16}) \S (\w+)$", screen.text, re.MULTILINE)
    found = {name: int(address, 16) for address, name in lines}
    assert set(found) == set(names), screen.text[-2000:]
    return found


def test_debians_kernel_stops_at_start_kernel_and_its_clock_is_watched(tmp_path):
    places = kernel_symbols("start_kernel", "do_timer")
    screen = Screen()
    machine = Machine(
        "virt", arch="aarch64", accel="tcg", ram=256 << 20, kernel=image(), initrd=initrd("echo alive"),
        append="console=ttyAMA0 quiet nokaslr", serial=screen,
    )  # fmt: skip
    text, result = debug(
        machine,
        [
            f"hbreak *{places['start_kernel']:#x}",
            "continue",
            'printf "pc=%#lx\\n", $pc',
            "stepi 20",
            "delete",
            f"hbreak *{places['do_timer']:#x}",
            "continue",
            "delete",
            # to where it stores jiffies_64: STR (unsigned offset), not by SP
            "while (*(unsigned *)$pc & 0xffc00000) != 0xf9000000 || (*(unsigned *)$pc >> 5 & 31) == 31",
            "stepi",
            "end",
            "set $word = *(unsigned *)$pc",
            'eval "watch -l *(unsigned long *)($x%d + %d)", $word >> 5 & 31, ($word >> 10 & 4095) * 8',
            "continue",
            "continue",
            "info registers pc",
            "delete",
            "detach",
        ],
        tmp_path / "gdb",
        arch="aarch64",
    )
    assert values(text, "pc") == [places["start_kernel"]], text
    changes = re.findall(r"Old value = (\d+)\s+New value = (\d+)", text)
    assert len(changes) == 2, text
    assert all(int(new) == int(old) + 1 for old, new in changes), text
    assert result.reason == "guest-shutdown"
    assert "alive" in screen.text


def test_emu_boot_waits_for_a_debugger_and_says_where(tmp_path):
    guest = tmp_path / "guest"
    guest.write_bytes(words("14000000", "aarch64"))
    options = ["--firmware", guest, "--serial", "null", "--gdb", "0", "--paused"]
    boot = subprocess.Popen(
        [sys.executable, "-m", "emu", "boot", *options], stderr=subprocess.PIPE, text=True
    )
    assert boot.stderr is not None
    found = re.fullmatch(r"emu: a debugger may come to localhost:(\d+)\n", boot.stderr.readline())
    assert found
    commands = ["stepi", 'printf "pc=%#lx\\n", $pc', "monitor info status", "kill"]
    text = run(command(f":{found[1]}", commands, arch="aarch64"))
    assert values(text, "pc") == [0], text
    assert "VM status: paused (prelaunch)" in text, text
    boot.communicate(timeout=60)


def test_a_client_that_hangs_up_leaves_the_machine_running_and_another_may_come(tmp_path):
    machine = Machine(counting_board("riscv64"), accel="tcg")
    with machine:
        machine.gdb(f"unix:{tmp_path / 'gdb'}")
        for _ in range(2):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(tmp_path / "gdb"))
                client.sendall(b"$?#3f")
                machine.run(until=lambda: machine.state == "paused" or machine.restarted, timeout=0.3)
                client.sendall(b"$m80000000,4#")  # half a packet
            machine.run(timeout=0.3)
            before = machine.cpus[0].vcpu.get("a2")
            machine.run(timeout=0.3)
            assert machine.cpus[0].vcpu.get("a2") != before


def test_the_monitor_lets_debuggers_in_and_out(tmp_path):
    first, second = f"unix:{tmp_path / 'first'}", f"unix:{tmp_path / 'second'}"
    with steered(tmp_path) as machine:
        client = machine.client()
        assert client.human("gdbserver none") == "No debugger could come in\n"
        assert f"to {tmp_path / 'first'}\n" in client.human(f"gdbserver {first}")
        text = run(
            command(str(tmp_path / "first"), ["stepi", "monitor info status", "detach"], arch="aarch64")
        )
        assert "VM status: paused" in text, text
        assert client.ask("query-status")["running"]

        with socket.socket(socket.AF_UNIX) as debugger:
            debugger.connect(str(tmp_path / "first"))
            machine.wait(lambda: not client.ask("query-status")["running"], "a debugger stops it")
            assert str(tmp_path / "second") in client.human(f"gdbserver {second}")
            machine.wait(lambda: client.ask("query-status")["running"], "who was there is let go")
            debugger.settimeout(30)
            while debugger.recv(100):
                pass
        assert not (tmp_path / "first").exists()

        # One that asks for its own end is answered first.
        text = run(command(str(tmp_path / "second"), ["monitor gdbserver none"], arch="aarch64"))
        assert "No debugger can come in any more" in text, text
        machine.wait(lambda: client.ask("query-status")["running"], "it runs on")
        assert "No such file" in client.human("gdbserver unix:/nonexistent/gdb")
