"""`emu --stats`: counts and times by system call."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from emu.linux.stats import table
from tests.linux.conftest import emulate


def rows(text: str) -> dict[str, tuple[int, int]]:
    """Calls and errors by name."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if re.match(r"\d+\.\d\d$", words[0] if words else ""):
            found[words[-1]] = (int(words[3]), int(words[4]) if len(words) > 5 else 0)
    return found


def test_the_table_has_shares_times_and_a_total() -> None:
    lines = table({"read": (4, 1, 3_000_000), "write": (1, 0, 1_000_000), "": (1, 1, 0)}).splitlines()
    assert lines[0].split() == ["%", "time", "seconds", "usecs/call", "calls", "errors", "syscall"]
    assert lines[2].split() == ["75.00", "0.003000", "750", "4", "1", "read"]
    assert lines[3].split() == ["25.00", "0.001000", "1000", "1", "write"]
    assert lines[4].split()[-1] == "?"
    assert lines[-1].split() == ["100.00", "0.004000", "666", "6", "2", "total"]


def test_a_program_without_calls_has_an_empty_table() -> None:
    assert table({}).splitlines()[-1].split() == ["100.00", "0.000000", "0", "0", "total"]


def test_all_processes_are_counted_together(isa, build) -> None:
    done = emulate("--stats", build("see", isa))
    assert done.returncode == -15
    found = rows(done.stderr)
    assert found["openat"] == (3, 2)
    assert found["socketpair"] == (1, 0)
    assert found["exit_group"][0] == 1  # the child's: the parent dies of a signal
    assert found["total"][0] == sum(calls for name, (calls, _) in found.items() if name != "total")


def test_counts_are_those_of_strace(build) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed, and there is nothing to compare with")
    program = build("see", "x86_64")
    done = subprocess.run(["strace", "-f", "-c", program], capture_output=True, text=True, timeout=60)
    if "% time" not in done.stderr:
        pytest.skip(f"strace cannot trace here: {done.stderr.splitlines()[0]}")
    theirs, ours = rows(done.stderr), rows(emulate("--stats", program).stderr)
    # strace counts the start and no exit; CPUs and kernels differ in what the C library finds.
    for start in ("execve", "exit_group", "total", "arch_prctl", "rseq"):
        theirs.pop(start, None)
        ours.pop(start, None)
    assert ours == theirs


def test_stats_follow_the_lines_of_strace_in_one_file(build, tmp_path) -> None:
    done = emulate("--strace", "--stats", "-o", tmp_path / "out", build("echo", "arm"), "x")
    assert (done.returncode, done.stderr) == (2, "")
    lines = (tmp_path / "out").read_text().splitlines()
    assert "exit_group(2)" in "".join(lines)
    assert lines[-1].endswith("total")
