"""`emu trace` of programs: what was executed is what qemu-user executes, instruction for instruction."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

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


def executed(isa: str, program: str, tmp_path: Path, *words: str) -> list[int]:
    """Addresses of instructions in their order, by qemu-user."""
    log = tmp_path / "qemu.log"
    command = [qemu(isa), "-singlestep", "-d", "exec,nochain", "-D", str(log), program, *words]
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
