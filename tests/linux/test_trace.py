"""`emu trace` of programs: what was executed is what qemu-user executes, instruction for instruction."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.linux.conftest import ROOT, Build

FLAGS = ("-static", "-nostdlib", "-fno-stack-protector", "-fno-tree-vectorize", "-fno-builtin")
EMU = [sys.executable, "-c", "import sys; from emu.cli import main; sys.exit(main())"]


def trace(*words: str | Path, status: int = 3, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*EMU, "trace", *map(str, words)], capture_output=True, text=True, timeout=timeout, cwd=ROOT
    )
    assert done.returncode == status, done.stderr
    return done


def qemu(isa: str) -> str:
    found = shutil.which(f"qemu-{isa}")
    if found is None:
        pytest.skip(f"no qemu-{isa}, which says what is executed (apt-get install qemu-user)")
    return found


def by_instructions(isa: str) -> list[str]:
    """qemu-user that makes each instruction a block, whatever its version calls that."""
    usage = subprocess.run([qemu(isa), "--help"], capture_output=True, text=True, timeout=60).stdout
    return [qemu(isa), "-one-insn-per-tb" if "one-insn-per-tb" in usage else "-singlestep"]


def executed(isa: str, program: str, tmp_path: Path, *words: str) -> list[int]:
    """Addresses of instructions in their order, by qemu-user."""
    log = tmp_path / "qemu.log"
    command = [*by_instructions(isa), "-d", "exec,nochain", "-D", str(log), program, *words]
    subprocess.run(command, capture_output=True, timeout=120)
    return [
        int(found, 16) for found in re.findall(r"^Trace.*\[[0-9a-f]+/([0-9a-f]+)/", log.read_text(), re.M)
    ]


def instructions(isa: str, program: str) -> set[int]:
    """Where instructions begin, by binutils."""
    prefix = {"x86_64": "", "arm": "arm-linux-gnueabihf-"}.get(isa, f"{isa}-linux-gnu-")
    listed = subprocess.run([f"{prefix}objdump", "-d", program], capture_output=True, text=True, timeout=60)
    return {int(found, 16) for found in re.findall(r"^ +([0-9a-f]+):\t", listed.stdout, re.M)}


def objects(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def drcov(path: Path) -> tuple[list[list[str]], list[tuple[int, int, int]]]:
    """Modules' columns, and blocks: module, distance, size.  By DynamoRIO's description of the format."""
    data = path.read_bytes()
    lines, at = [], 0
    while not lines or not lines[-1].startswith("BB Table:"):
        end = data.index(b"\n", at)
        lines.append(data[at:end].decode())
        at = end + 1
    assert lines[0] == "DRCOV VERSION: 2"
    assert lines[1].startswith("DRCOV FLAVOR: ")
    found = re.fullmatch(r"Module Table: version 2, count (\d+)", lines[2])
    assert found
    assert lines[3] == "Columns: id, base, end, entry, path"
    modules = [[column.strip() for column in line.split(",", 4)] for line in lines[4:-1]]
    assert len(modules) == int(found[1])
    assert [int(module[0]) for module in modules] == list(range(len(modules)))
    blocks = list(struct.iter_unpack("<IHH", data[at:]))
    assert lines[-1] == f"BB Table: {len(blocks)} bbs"
    return modules, [(module, start, size) for start, size, module in blocks]


def test_every_instruction_is_told_in_the_order_in_which_qemu_executes_them(
    isa: str, build: Build, tmp_path: Path
) -> None:
    program = build("traced", isa, *FLAGS)
    trace("--format", "jsonl", "-o", tmp_path / "trace", program)
    told = [each for each in objects(tmp_path / "trace") if each["event"] == "instruction"]
    addresses, expected = [int(each["address"], 16) for each in told], executed(isa, program, tmp_path)
    if isa == "arm":  # Unicorn tells nothing of an instruction whose condition fails
        rest = iter(expected)
        assert all(address in rest for address in addresses)
        assert len(addresses) > 0.8 * len(expected)
    else:
        assert addresses == expected
    assert all(each["text"] and not each["text"].startswith(".byte") for each in told)
    assert {each["where"].partition("+")[0] for each in told} >= {
        "_start",
        "start",
        "collatz",
        "leaf",
        "middle",
    }


def test_coverage_is_what_qemu_has_executed(isa: str, build: Build, tmp_path: Path) -> None:
    program = build("traced", isa, *FLAGS)
    trace("--coverage", tmp_path / "cover", program)
    modules, blocks = drcov(tmp_path / "cover")
    bases = [int(module[1], 16) for module in modules]
    assert [Path(module[4]).name for module in modules] == [Path(program).name]
    covered = {bases[module] + start + n for module, start, size in blocks for n in range(size)}
    addresses = set(executed(isa, program, tmp_path))
    assert addresses <= covered
    starts = instructions(isa, program)
    assert starts & covered == addresses


def test_registers_change_as_qemu_shows_them(build: Build, tmp_path: Path) -> None:
    """arm64's x0-x30 and NZCV before each instruction, from those before and what was told to change."""
    program = build("traced", "aarch64", *FLAGS)
    log = tmp_path / "qemu.log"
    command = [*by_instructions("aarch64"), "-d", "cpu,exec,nochain", "-D", str(log), program]
    subprocess.run(command, capture_output=True, timeout=120)
    states, flags = [], []
    for dump in log.read_text().split("Trace ")[1:]:
        states.append(
            {f"x{int(n)}": int(value, 16) for n, value in re.findall(r"\bX(\d\d)=([0-9a-f]+)", dump)}
        )
        flags.append(re.search(r"PSTATE=([0-9a-f]{8})", dump)[1])  # type: ignore[index]
    trace("--format", "jsonl", "-o", tmp_path / "trace", program)
    told = [each for each in objects(tmp_path / "trace") if each["event"] == "instruction"]
    assert len(told) == len(states)
    registers, nzcv = dict(states[0]), "0"
    stack = 1 << 36  # above it are stacks, which are elsewhere with qemu
    for each, before, flag in zip(told, states, flags, strict=True):
        assert {name: value for name, value in registers.items() if value < stack} == {
            name: value for name, value in before.items() if registers[name] < stack
        }, each
        assert nzcv == flag[0] or each is told[0], each
        for name, value in each["registers"].items():
            if name == "nzcv":
                nzcv = f"{int(value, 16) >> 28:x}"
            elif name != "sp":
                registers[name] = int(value, 16)
        if each["text"].startswith("svc"):  # the call's result is no change of the instruction's
            registers["x0"] = 10  # bytes written
        nzcv = flag[0] if each is told[0] and "nzcv" not in each["registers"] else nzcv


def test_only_a_function_s_instructions_or_those_of_a_range_are_told(build: Build, tmp_path: Path) -> None:
    program = build("traced", "aarch64", *FLAGS)
    trace("--format", "jsonl", "-o", tmp_path / "all", program)
    every = [each for each in objects(tmp_path / "all") if each["event"] == "instruction"]
    trace("--format", "jsonl", "--symbol", "leaf", "-o", tmp_path / "leaf", program)
    leaf = [each for each in objects(tmp_path / "leaf") if each["event"] == "instruction"]
    picked = [each for each in every if each["where"].partition("+")[0] == "leaf"]
    told = ("address", "text", "registers")
    assert [[each[name] for name in told] for each in leaf] == [
        [each[name] for name in told] for each in picked
    ]
    first, last = (int(picked[n]["address"], 16) for n in (0, -1))
    trace("--format", "jsonl", "--address", f"{first:#x}-{last + 4:#x}", "-o", tmp_path / "range", program)
    ranged = [each for each in objects(tmp_path / "range") if each["event"] == "instruction"]
    assert [each["address"] for each in ranged] == [each["address"] for each in leaf]
    done = trace("--symbol", "nowhere", program)
    assert "no function is called nowhere" in done.stderr


def test_blocks_are_entered_where_instructions_are(isa: str, build: Build, tmp_path: Path) -> None:
    program = build("traced", isa, *FLAGS)
    trace("--what", "blocks", "--format", "jsonl", "-o", tmp_path / "trace", program)
    blocks = [each for each in objects(tmp_path / "trace") if each["event"] == "block"]
    wanted = executed(isa, program, tmp_path)
    rest = iter(wanted)
    assert all(int(each["address"], 16) in rest for each in blocks)
    inside = {int(each["address"], 16) + n for each in blocks for n in range(each["size"])}
    assert set(wanted) <= inside


def test_a_limit_ends_the_trace_and_not_the_program(isa: str, build: Build, tmp_path: Path) -> None:
    program = build("traced", isa, *FLAGS)
    done = trace("--limit", 10, "-o", tmp_path / "trace", program)
    assert done.stdout.startswith("traced ")
    assert len((tmp_path / "trace").read_text().splitlines()) == 10


def test_children_have_coverage_of_their_own(isa: str, build: Build, tmp_path: Path) -> None:
    program = build("traced", isa, *FLAGS)
    trace("--coverage", tmp_path / "cover.%p", program, "child")
    covered = []
    for file in tmp_path.glob("cover.*"):
        modules, blocks = drcov(file)
        bases = [int(module[1], 16) for module in modules]
        covered.append({bases[module] + start + n for module, start, size in blocks for n in range(size)})
    entry = int(modules[0][3], 16)
    symbols = subprocess.run(["nm", program], capture_output=True, text=True, timeout=60).stdout
    never = next(int(line.split()[0], 16) for line in symbols.splitlines() if line.endswith(" never"))
    parent, child = sorted(covered, key=lambda each: entry not in each)
    assert entry in parent
    assert never not in parent
    assert entry not in child
    assert never in child


def test_a_picture_has_what_perfetto_wants(build: Build, tmp_path: Path) -> None:
    """The Trace Event Format: an object with traceEvents, each with its phase's fields."""
    program = build("traced", "aarch64", *FLAGS)
    trace("--what", "instructions,syscalls", "--format", "perfetto", "-o", tmp_path / "trace", program)
    events = json.loads((tmp_path / "trace").read_text())["traceEvents"]
    for event in events:
        assert {"ph", "pid", "name"} <= event.keys()
        if event["ph"] in "Xi":
            assert event["ts"] >= 0
            assert isinstance(event["tid"], int)
        if event["ph"] == "X":
            assert event["dur"] > 0
    slices = [event for event in events if event["ph"] == "X"]
    assert [event["name"] for event in slices if event["cat"] == "syscall"] == ["write", "exit"]
    assert {event["name"] for event in slices if event["cat"] == "code"} >= {
        "_start",
        "start",
        "collatz",
        "leaf",
    }
    for one, other in pairwise(slices):  # a track's slices do not overlap
        assert one["ts"] + one["dur"] <= other["ts"] + 0.002


def test_a_profile_knows_who_called_what(isa: str, build: Build, tmp_path: Path) -> None:
    # In Thumb a frame pointer is where the number of a system call is wanted.
    program = build("traced", isa, *FLAGS, "-fno-omit-frame-pointer", *(["-marm"] if isa == "arm" else []))
    trace("--profile", tmp_path / "folded", program, "spin")
    stacks = {}
    for line in (tmp_path / "folded").read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        stacks[tuple(stack.split(";"))] = int(count)
    most = max(stacks, key=lambda stack: stacks[stack])
    assert most[-1] == "spin"
    assert most[-2:-1] == ("start",) or isa == "arm"
    assert stacks[most] > 0.8 * sum(stacks.values())


def test_a_flame_graph_is_a_picture_that_needs_nothing_else(tmp_path: Path) -> None:
    from xml.etree import ElementTree

    from emu.trace.flame import svg

    tree = ElementTree.fromstring(svg({("main", "<b>&"): 3, ("main", "other"): 1}))
    titles = [title.text for title in tree.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["all: 4 samples, 100.0 %", "main: 4 samples, 100.0 %", "<b>&: 3 samples, 75.0 %",
                      "other: 1 samples, 25.0 %"]  # fmt: skip
    assert "http" not in svg({("a",): 1}).replace("http://www.w3.org/2000/svg", "")


def test_a_full_disk_is_told_in_one_line(build: Build) -> None:
    program = build("traced", "aarch64", *FLAGS)
    for words in ([program, "spin"], ["--limit", "5", program]):
        done = trace("-o", "/dev/full", *words, status=2)
        assert done.stderr == "emu: the trace cannot be written: No space left on device; it is not whole\n"


def test_ctrl_c_leaves_a_whole_file(build: Build, tmp_path: Path) -> None:
    program = build("traced", "aarch64", *FLAGS)
    command = [*EMU, "trace", "--format", "perfetto", "-o", str(tmp_path / "trace"), program, "spin"]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    end = time.monotonic() + 60
    while time.monotonic() < end and (
        not (tmp_path / "trace").exists() or not (tmp_path / "trace").stat().st_size
    ):
        time.sleep(0.05)
        if process.poll() is not None:
            break
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == -signal.SIGINT
    assert json.loads((tmp_path / "trace").read_text())["traceEvents"]


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["--what", "dreams", "x"], "--what dreams is nothing that can be traced"),
        (["--what", "mmio", "/bin/true"], "--what mmio is for machines"),
        (["--address", "5-4", "x"], "--address 5-4 is empty"),
        (["--address", "main", "x"], "--address main is no range"),
        (["--thread", "0", "x"], "--thread 0: threads are counted from 1"),
        (["-o", "/nowhere/file", "/bin/true"], "/nowhere/file: No such file or directory"),
        (["--accel", "kvm", "--what", "blocks", "/bin/true"], "--accel"),
        ([], "which program shall be traced?"),
        (["--coverage", "x", "boot"], "--coverage and --profile are of programs"),
        (["--what", "instructions", "boot"], "add --accel tcg"),
    ],
)
def test_a_wrong_use_is_one_line(words: list[str], cause: str) -> None:
    done = trace(*words, status=2)
    assert done.stderr.startswith("emu: ")
    assert done.stderr.count("\n") == 1
    assert cause in done.stderr


def test_the_host_s_cpu_is_stepped_through_a_program(build: Build, tmp_path: Path) -> None:
    from accel.choice import kvm_obstacle

    if obstacle := kvm_obstacle():
        pytest.skip(f"x86-64 programs run under kvm here: {obstacle}")
    program = build("traced", "x86_64", *FLAGS)
    trace("--accel", "kvm", "--format", "jsonl", "-o", tmp_path / "trace", program)
    told = [each for each in objects(tmp_path / "trace") if each["event"] == "instruction"]
    assert [int(each["address"], 16) for each in told] == executed("x86_64", program, tmp_path)
    trace("--format", "jsonl", "-o", tmp_path / "translated", program)
    other = [each for each in objects(tmp_path / "translated") if each["event"] == "instruction"]
    assert [each["bytes"] for each in told] == [each["bytes"] for each in other]


def test_a_death_by_a_signal_ends_the_trace(isa: str, build: Build, tmp_path: Path) -> None:
    program = build("traced", isa, *FLAGS)
    done = trace("--symbol", "leaf", "-o", tmp_path / "trace", program, "fault", status=-signal.SIGSEGV)
    assert done.stdout.startswith("traced ")
    assert (tmp_path / "trace").read_text().splitlines()[-1] == "+++ killed by signal 11 +++"


@given(cut=st.integers(0, 4096), at=st.integers(0, 4096), byte=st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_a_damaged_file_has_fewer_symbols_and_no_other_effect(cut: int, at: int, byte: int) -> None:
    from emu.trace.symbols import Image

    data = bytearray(SMALL)
    data[at % len(data)] = byte
    image = Image(bytes(data[: len(data) - cut % len(data)]))
    for address in (0, 0x400100, 1 << 63):
        image.name(address)
        image.address(address)
    image.find("main")


def _small() -> bytes:
    """An ELF file with a symbol."""
    names = b"\0main\0"
    symbols = bytes(24) + struct.pack("<IBBHQQ", 1, 2, 0, 1, 0x400100, 16)
    header = (
        b"\x7fELF\2\1\1"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, 0x400100, 64, 120, 0, 64, 56, 1, 64, 3, 0)
    )
    loads = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0, 4096, 4096, 4096)
    place = 120 + 3 * 64
    rows = [bytes(64), struct.pack("<IIQQQQIIQQ", 0, 2, 0, 0, place, len(symbols), 2, 0, 8, 24),
            struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, place + len(symbols), len(names), 0, 0, 1, 0)]  # fmt: skip
    return header + loads + b"".join(rows) + symbols + names


SMALL = _small()


def test_a_function_is_found_by_its_address_and_its_name() -> None:
    from emu.trace.symbols import Image

    image = Image(SMALL)
    assert image.name(0x400104) == ("main", 4)
    assert image.find("main") == [(0x400100, 0x400110)]
    assert image.address(0x104) == 0x400104


def test_threads_and_children_are_told_apart(build: Build, tmp_path: Path) -> None:
    """Four threads of each of four children, and the program's own first thread."""
    program = build("crowd", "aarch64")
    options = ("--what", "syscalls", "--format", "jsonl", "-o")
    trace(*options, tmp_path / "all", program, "2", status=0)
    calls = [each for each in objects(tmp_path / "all") if each["event"] == "syscall"]
    assert len({each["tid"] for each in calls}) == 1 + 4 + 16
    assert len({each["pid"] for each in calls}) == 1 + 4
    assert sum(each["name"] == "getppid" and each["result"] > 0 for each in calls) == 16 * 2
    trace(*options, tmp_path / "first", "--thread", 1, program, "2", status=0)
    first = objects(tmp_path / "first")
    assert len({each["tid"] for each in first if each["event"] == "syscall"}) == 1
    assert sum(each.get("name") == "clone" for each in first) == 4
