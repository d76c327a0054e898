"""The table of capabilities says what the tables say that the runtime is made from, and what it does."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys

import pytest

from accel.errors import EmuError
from emu.linux.capabilities import HOWS, capabilities, markdown, text
from emu.linux.process import PIPE, Process
from emu.native import tables
from isa.syscalls import load
from tests.linux.programs import ROOT


@pytest.mark.parametrize("abi", tables.ABIS)
def test_every_number_of_the_tables_is_there_once(abi):
    calls = load(abi)
    rows = capabilities(abi)
    assert {row.number: row.name for row in rows} == {number: call.name for number, call in calls.items()}
    policies = tables.policies()
    verbs = {"passed through": "pass", "converted": "pass", "implemented": "implement", "refused": "refuse"}
    for row in rows:
        policy = tables.policy_of(calls[row.number], abi, policies)
        assert verbs[row.how] == policy.verb, row.name
        assert row.reason == (f"{policy.target}: {policy.reason}" if policy.verb == "refuse" else "")


@pytest.mark.parametrize("abi", tables.ABIS)
def test_converted_is_what_the_runtime_s_header_converts(abi):
    """The rows that C is compiled with: EMU_CALL_PATH or EMU_CALL_COPIES, and no function."""
    part = re.findall(rf"{abi}(?:_private)?_calls\[\] = {{\n(.*?)\n}};", tables.header(), re.DOTALL)
    rows = re.findall(r"\[(\d+)\] = { /\* (\w+) \*/ (\w+), (\w+|-1), (\w+), \d+, ([^{]*), {", "\n".join(part))
    assert len(rows) == len(capabilities(abi))
    hows = {row.name: row.how for row in capabilities(abi)}
    for _, name, function, host, refused, flags in rows:
        if function != "CALL_NO_FUNCTION":
            assert hows[name] == "implemented"
        elif refused != "0":
            assert hows[name] == "refused"
        else:
            assert host.startswith("SYS_")
            converts = "EMU_CALL_PATH" in flags or "EMU_CALL_COPIES" in flags
            assert hows[name] == ("converted" if converts else "passed through"), name


@pytest.mark.parametrize("abi", tables.ABIS)
def test_what_is_refused_is_refused_by_the_runtime(abi, build):
    """A hook turns the program's first call into each of them in turn, by its number's own row."""
    refused = {row.name: row.reason.partition(":")[0] for row in capabilities(abi) if row.how == "refused"}
    seen = {}
    with Process(build("refused", abi), accel="tcg", stdout=PIPE) as process:
        process.on_syscall("*", after=lambda call: seen.setdefault(call.name, call.result))
        process.run()
    tried = refused.keys() & seen.keys()
    assert len(tried) >= 10
    for name in tried:
        assert seen[name] == -getattr(errno, refused[name]), name


def test_text_and_markdown_have_a_line_for_each_call():
    rows = capabilities("arm64")
    lines = text("arm64").splitlines()
    assert len(lines) == len(rows) + 1
    assert lines[0].startswith(f"aarch64: {len(rows)} system calls")
    assert any(re.fullmatch(r" +425  io_uring_setup +refused +ENOSYS: .*", line) for line in lines)
    table = [line for line in markdown().splitlines() if line.startswith("| ")]
    assert len(table) == 1 + len({call.name for abi in tables.ABIS for call in load(abi).values()})
    assert all(line.count("|") == 7 for line in table)
    assert "| getppid | 173 | 64 | 173 | 110 | passed through |" in table
    for how in HOWS:
        assert f"- **{how}**" in markdown()


def test_an_isa_that_nobody_runs_is_told():
    with pytest.raises(EmuError, match="aarch64"):
        capabilities("vax")


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("emu.linux.capabilities", "riscv64"), 0),
        (("emu.linux.capabilities", "--markdown"), 0),
        (("emu", "doctor", "--syscalls", "arm"), 0),
        (("emu.linux.capabilities", "vax"), 1),
        (("emu", "doctor", "--syscalls", "vax"), 2),
    ],
)
def test_the_commands_print_it(words, status):
    done = subprocess.run(
        [sys.executable, "-m", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert done.returncode == status, done.stderr
    assert ("openat" in done.stdout) == (status == 0)
    assert done.stderr.count("\n") == (1 if status else 0)
