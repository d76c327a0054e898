"""Firmware on a serial line: a bare-metal arm64 guest that asks for a name."""

import re

import pytest

from emu.pytest_plugin import Machines
from emu.samples.dialogue import kernel


@pytest.mark.parametrize("name", ["Ada", "Grace Hopper", "<>&|"])
def test_it_greets_who_is_there(emu_machine: Machines, name: str) -> None:
    console = emu_machine("virt", arch="aarch64", kernel=kernel()).console
    console.expect("your name? ")
    console.sendline(name)
    assert console.expect(re.compile(r"hello, (.*)\n")).group(1) == name
    console.expect("your name? ")


def test_an_empty_name_switches_it_off(emu_machine: Machines) -> None:
    machine = emu_machine("virt", arch="aarch64", kernel=kernel())
    machine.console.expect("your name? ")
    machine.console.sendline()
    assert machine.run(timeout=60).reason == "guest-shutdown"
