"""gdb-multiarch, unmodified, on Linux programs: what it says of them, beside what it says under qemu-user."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

from tests.emu.gdb_client import PATIENCE, Client, command, run

QEMU = {"aarch64": "qemu-aarch64", "arm": "qemu-arm", "riscv64": "qemu-riscv64", "x86_64": "qemu-x86_64"}
FLAGS = ("-static", "-g", "-O0", "-pthread")


def debug(
    program: str, commands: list[str], path, *arguments: str, options: tuple[str, ...] = ("--accel", "tcg")
):
    """What gdb says, what the program says, and how emu ends."""
    script = command(str(path), commands, program=program)
    words = [sys.executable, "-m", "emu", *options, "--gdb", f"unix:{path}", program, *arguments]
    emu = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert emu.stderr is not None
    first = emu.stderr.readline()
    if "a debugger may come" not in first:
        emu.communicate()
        return "", first, emu.returncode
    try:
        said = run(script)
        out, _ = emu.communicate(timeout=PATIENCE)
    finally:
        emu.kill()
        emu.communicate()
    return said, out, emu.returncode


def under_qemu(isa: str, program: str, commands: list[str], path) -> str:
    qemu = shutil.which(QEMU[isa])
    if qemu is None:
        pytest.skip(f"{QEMU[isa]} is not installed (apt-get install qemu-user)")
    process = subprocess.Popen([qemu, "-g", str(path), program], stdout=subprocess.DEVNULL)
    try:
        while not path.exists():
            assert process.poll() is None
        return run(command(str(path), commands, program=program))
    finally:
        process.kill()
        process.wait()


def comparable(text: str) -> list[str]:
    """Without what differs from run to run: numbers of threads, addresses of the stack."""
    text = re.sub(r"Thread [0-9.]+", "Thread N", text)
    text = re.sub(r'"[^"\n]*"', '"..."', text)
    text = re.sub(r"0x[0-9a-f]{8,}|\b\d{9,}\b", "ADDRESS", text)
    text = re.sub(r"Inferior 1 \(.*?\)", "Inferior 1", text)
    apart = ("warning", "determining", "[New")
    return [line.rstrip() for line in text.splitlines() if not line.startswith(apart)]


def stepwise(isa: str, count: int) -> list[str]:
    """Instruction after instruction: where each is, and the flags."""
    flags = {"x86_64": "$eflags & 0x8d5", "aarch64": "$cpsr >> 28 & 15"}.get(isa, "0")
    return [f"set $i = {count}", "while $i--", "stepi", f'printf "%x %x\\n", $pc, {flags}', "end"]


def test_calls_steps_and_variables_look_as_they_do_under_qemu(isa, build, tmp_path):
    program = build("debugged", isa, *FLAGS)
    commands = [
        "break leaf",
        "continue",
        "backtrace",
        "info args",
        "print place",
        "print counter",
        "finish",
        "tbreak main if counter > 1000",
        "next",
        "continue",
        "print counter",
        "stepi",
        "stepi 3",
        "x/3i $pc",
        "set var counter = 100",
        "step",
        *stepwise(isa, 60),
        "delete",
        "tbreak on_signal",
        "break 'debugged.c':65",
        "continue",
        "next",
        "print place.z",
        "info locals",
        "delete",
        "continue",
    ]
    text, out, status = debug(program, commands, tmp_path / "emu")
    oracle = under_qemu(isa, program, commands, tmp_path / "qemu")
    assert "#2 " in text, text
    assert comparable(text) == comparable(oracle)
    assert out.startswith("result "), out
    assert status == 7


@pytest.fixture(params=["tcg", "kvm"])
def accel(request, isa):
    if request.param == "kvm" and isa != "x86_64":
        pytest.skip("kvm runs x86-64 programs only")
    return request.param


def test_a_program_that_is_stepped_from_its_first_instruction_to_its_last_does_the_same(
    isa, accel, build, tmp_path
):
    # Atomic accesses that may be made of two instructions are, whatever else the CPU has.
    own = {"aarch64": ("-mno-outline-atomics",)}.get(isa, ())
    program = build("debugged", isa, *FLAGS, *own)
    place = str(tmp_path / "gdb")
    words = [sys.executable, "-m", "emu", "--accel", accel, "--gdb", f"unix:{place}", program, "swap"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as emu:
        assert emu.stderr is not None
        try:
            first = emu.stderr.readline()
            if "a debugger may come" not in first and accel == "kvm":
                pytest.skip(first)
            client = Client(place)
            thread = client.ask(b"qC")[2:]
            at, ranges = b"T", 0
            while at.startswith(b"T05") or not ranges:
                # a step takes 0.1 ms where kvm emulates what is around it
                far = accel == "kvm" and ranges == 2
                at = client.ask(b"vCont;c" if far else b"vCont;r0,ffffffffffff0000:" + thread)
                ranges += 1
            client.close()
            assert at == b"W07"
            # each ends at a system call, not before
            assert ranges < 60
            assert emu.communicate(timeout=PATIENCE)[0] == "result 40, z 5\nswapped 10 for 5\n"
        finally:
            emu.kill()


def test_signals_are_told_and_passed_on_or_kept_back(isa, build, tmp_path):
    program = build("debugged", isa, *FLAGS)
    text, _out, status = debug(
        program,
        ["continue", "break on_signal", "continue", "print counter", "continue"],
        tmp_path / "a",
        "signal",
    )
    assert "received signal SIGUSR1" in text, text
    assert re.search(r"Breakpoint 1, on_signal \(number=10\)", text), text
    assert "exited with code 07" in text, text
    text, _out, status = debug(program, ["continue", "signal 0"], tmp_path / "b", "signal")
    assert "exited with code 07" in text, text
    text, _out, status = debug(
        program, ["continue", "print $_siginfo_missing", "backtrace", "continue"], tmp_path / "c", "crash"
    )
    assert "received signal SIGSEGV" in text, text
    assert re.search(r"#0 .* main \(argc=2", text), text
    assert "terminated with signal SIGSEGV" in text, text
    assert status == -11


def test_a_signal_is_told_with_its_siginfo(isa, build, tmp_path):
    program = build("debugged", isa, *FLAGS)
    fault = "$_siginfo._sifields._sigfault.si_addr"
    commands = ["break leaf", "continue", "print $_siginfo.si_signo", "delete", "continue"]
    commands += ["print $_siginfo.si_signo", "print $_siginfo.si_code", f"print/x (long){fault}", "kill"]
    text, _out, _status = debug(program, commands, tmp_path / "gdb", "crash")
    # SIGTRAP; SIGSEGV, SEGV_MAPERR
    assert re.findall(r"^\$\d+ = (.*)", text, re.MULTILINE) == ["5", "11", "1", "0x10"], text


def test_registers_of_256_bits_are_shown_and_changed_where_the_cpu_has_them(build, tmp_path):
    with open("/proc/cpuinfo", encoding="ascii") as file:
        if " avx " not in file.read():
            pytest.skip("this host's CPU has no AVX")
    program = build("wide", "x86_64", "-static", "-g", "-O0")
    commands = ["break *loaded", "continue", "print/x $ymm3.v4_int64", "print $ymm0.v4_int64[3]"]
    commands += ["set $ymm3.v32_int8[31] = 'X'", "set $xmm3.v16_int8[0] = 'Y'", "print/c $ymm3.v32_int8[30]"]
    text, out, status = debug(program, [*commands, "continue"], tmp_path / "gdb", options=("--accel", "kvm"))
    if "kvm" in out and status != 0:
        pytest.skip(out)
    assert "{0x3736353433323130, 0x6665646362613938, 0x6e6d6c6b6a696867, 0x767574737271706f}" in text, text
    assert "= 117 'u'" in text, text
    assert out == "Y123456789abcdefghijklmnopqrstuX\n"


def test_threads_stand_together_and_each_has_its_frames(isa, build, tmp_path):
    program = build("debugged", isa, *FLAGS)
    commands = [
        "break leaf if stop == 0 && n == 1 && counter == 10",
        "continue",
        "info threads",
        "thread apply all backtrace",
        "set var stop = 1",
        "next",
        "continue",
    ]
    text, _out, status = debug(program, commands, tmp_path / "gdb", "threads")
    assert len(re.findall(r"^[* ] +\d+ +Thread ", text, re.MULTILINE)) == 3, text
    assert text.count(" worker (name=") >= 2, text
    assert "exited with code 07" in text, text
    assert status == 7


def test_a_step_that_waits_for_another_thread_ends(isa, build, tmp_path):
    program = build("debugged", isa, *FLAGS)
    place = str(tmp_path / "gdb")
    words = [sys.executable, "-m", "emu", "--accel", "tcg", "--gdb", f"unix:{place}", program, "threads"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as emu:
        assert emu.stderr is not None
        try:
            emu.stderr.readline()
            client = Client(place)
            thread = client.ask(b"qC")[2:]
            at = b"T05"
            while at.startswith(b"T05"):
                at = client.ask(b"vCont;r0,ffffffffffff0000:" + thread + b";c")
            client.close()
            assert at == b"W07"
            assert emu.wait(timeout=PATIENCE) == 7
        finally:
            emu.kill()


def test_a_child_runs_on_without_breakpoints(isa, build, tmp_path):
    program = build("debugged", isa, *FLAGS)
    text, out, _status = debug(
        program, ["break leaf if n == 4", "continue", "next", "continue"], tmp_path / "gdb", "fork"
    )
    assert "child 22\n" in out, (out, text)
    assert "exited with code 07" in text, text


def test_a_program_executed_in_its_place_stops_at_its_breakpoints_again(build, tmp_path):
    program = build("debugged", "aarch64", *FLAGS)
    text, _out, _status = debug(
        program, ["break main", "continue", "continue", "continue", "continue"], tmp_path / "gdb", "exec"
    )
    assert text.count("Breakpoint 1, main") == 2, text
    assert "exited with code 07" in text, text


def test_ctrl_c_and_kill(isa, build, tmp_path):
    program = build("debugged", isa, *FLAGS)
    interrupt = ["python import os, signal, threading"]
    interrupt.append("python threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()")
    text, _out, status = debug(
        program,
        [
            *interrupt,
            "continue",
            "backtrace",
            "print counter > 10",
            "kill",
        ],
        tmp_path / "gdb",
        "spin",
    )
    assert "received signal SIGINT" in text, text
    assert re.search(r"#0 .*spin \(\)", text), text
    assert "$1 = 1" in text, text
    assert status == -9


def test_a_program_runs_on_when_the_debugger_detaches(isa, build, tmp_path):
    program = build("debugged", isa, *FLAGS)
    text, out, status = debug(program, ["break leaf", "continue", "detach"], tmp_path / "gdb")
    assert "result 40, z 5\n" in out, (out, text)
    assert status == 7


def test_debuggers_come_to_a_program_that_runs_and_leave_it_one_after_the_other(isa, build, tmp_path):
    program = build("debugged", isa, *FLAGS)
    place = tmp_path / "gdb"
    words = [
        sys.executable,
        "-m",
        "emu",
        "--accel",
        "tcg",
        "--gdb",
        f"unix:{place},wait=off",
        program,
        "spin",
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as emu:
        try:
            assert emu.stdout is not None
            assert emu.stdout.readline() == "result 40, z 5\n"  # nobody has come yet, and it runs
            looks = ["backtrace", "print counter > 0", "set var counter = 0", "tbreak spin", "stepi"]
            for _ in range(2):
                # gdb detaches at its end from what it has not started
                text = run(command(str(place), looks, program=program))
                assert re.search(r"#0 .*spin \(\)", text), text
                assert "$1 = 1" in text, text
                assert emu.poll() is None
            run(command(str(place), ["kill"], program=program))
            assert emu.wait(timeout=PATIENCE) == -9
        finally:
            emu.kill()


def test_libraries_are_found_by_the_program_s_own_words(build, tmp_path):
    program = build("debugged", "aarch64", "-g", "-O0", "-pthread")
    root = "/usr/aarch64-linux-gnu"
    text, _out, _status = debug(
        program,
        ["break leaf", "continue", "info sharedlibrary", "info auxv", "info proc exe", "continue"],
        tmp_path / "gdb",
        options=("--accel", "tcg", "-L", root),
    )
    assert re.search(r"ld-linux-aarch64\.so\.1", text), text
    assert re.search(r"libc\.so\.6", text), text
    assert "AT_ENTRY" in text, text


def test_lldb_breaks_steps_and_sees_variables(build, tmp_path):
    lldb = shutil.which("lldb")
    if lldb is None:
        pytest.skip("lldb is not installed (apt-get install lldb)")
    program = build("debugged", "aarch64", *FLAGS)
    words = [sys.executable, "-m", "emu", "--accel", "tcg", "--gdb", "0", program]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as emu:
        assert emu.stderr is not None
        place = emu.stderr.readline().split()[-1]
        # lldb goes on from a program's entry by itself: the breakpoint comes first
        orders = [f"target create {program}", "breakpoint set -n leaf", f"gdb-remote {place}", "bt"]
        orders += [
            "frame variable",
            "thread step-inst",
            "thread step-out",
            "breakpoint delete -f",
            "continue",
        ]
        script = [word for order in orders for word in ("-o", order)]
        text = run([lldb, "-b", "-x", *script])
        emu.kill()
    assert re.search(r"frame #1: .*`middle\(n=4\)", text), text
    assert "(int) n = 1" in text, text
    assert "stop reason = instruction step into" in text, text
    assert "stop reason = step out" in text, text
    assert "exited with status = 7" in text, text
