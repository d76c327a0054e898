"""The table of policies says what is done with every system call of every ABI, and fits the calls."""

import errno
import re
from pathlib import Path

import pytest

from emu.native import tables
from isa.syscalls import load

SOURCES = Path(tables.__file__).parent.parent / "linux" / "native"


@pytest.mark.parametrize("abi", tables.ABIS)
def test_every_call_of_an_abi_has_a_policy(abi):
    policies = tables.policies()
    for call in load(abi).values():
        assert tables.policy_of(call, abi, policies).verb in ("pass", "implement", "refuse")


def test_every_policy_is_about_a_call_that_exists():
    known = {call.name for abi in tables.ABIS for call in load(abi).values()}
    for name in tables.policies():
        bare, _, abi = name.partition("@")
        assert bare in known
        assert not abi or bare in {call.name for call in load(abi).values()}


def test_what_is_refused_is_refused_with_an_errno_and_a_reason():
    for name, policy in tables.policies().items():
        if policy.verb == "refuse":
            assert policy.target in errno.errorcode.values(), name
            assert len(policy.reason) > 8, name


def test_calls_that_linux_does_not_have_are_refused():
    policies = tables.policies()
    for abi in tables.ABIS:
        for call in load(abi).values():
            if call.result == "enosys":
                assert tables.policy_of(call, abi, policies).target == "ENOSYS", call


def test_every_function_that_the_table_names_is_written_once():
    source = "\n".join(path.read_text() for path in SOURCES.glob("*.c"))
    written = re.findall(r"^(?:WEAK )?int64_t emu_sys_(\w+)\(", source, re.MULTILINE)
    for policy in tables.policies().values():
        if policy.verb == "implement":
            assert written.count(policy.target) == 1, policy.target


@pytest.mark.parametrize(
    "line",
    [
        "read",
        "read perhaps",
        "read pass as",
        "read refuse ENOSYS",
        "read pass\nread pass",
        "read pass waits for ever",
    ],
)
def test_a_table_that_breaks_its_grammar_is_an_error_that_names_the_line(tmp_path, line):
    path = tmp_path / "syscalls.tbl"
    path.write_text(line + "\n")
    with pytest.raises(tables.PolicyError, match=r"syscalls\.tbl:\d+: "):
        tables.policies(path)


def test_the_header_has_a_row_for_every_number():
    text = tables.header()
    for abi in tables.ABIS:
        for number, call in load(abi).items():
            assert (
                f"[{number % tables.PRIVATE if number >= tables.PRIVATE else number}] = {{ /* {call.name} */"
                in text
            )


def test_a_structure_that_differs_is_not_passed_through():
    policies = {"fstat": tables.Policy("pass", "fstat", False, "")}
    call = next(call for call in load("aarch64").values() if call.name == "fstat")
    with pytest.raises(tables.PolicyError, match="differs from the host's"):
        tables._entry(call, "aarch64", policies["fstat"])


def test_a_structure_with_pointers_is_not_passed_through():
    call = next(call for call in load("aarch64").values() if call.name == "sendmsg")
    with pytest.raises(tables.PolicyError, match="holds pointers"):
        tables._entry(call, "aarch64", tables.Policy("pass", "sendmsg", True, ""))
