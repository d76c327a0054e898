"""What KVM refuses at CPL0, done by others: as the host's own CPU does it."""

from __future__ import annotations

import pytest

from accel.kvm.crossing import Crossings
from accel.kvm.device import emulates_cpl0
from tests.conftest import Engine, usable
from tests.guest.x86 import Case, Guest

DOUBLES = [0x3FF8_0000_0000_0000_4004_0000_0000_0000 + n for n in range(16)]

# Instructions that a KVM which emulates kernel mode refuses, with registers to start from.
REFUSED = {
    "addpd": ("66 0f 58 c1", {}),
    "addps from memory": ("41 0f 58 06", {}),
    "paddd": ("66 0f fe c1", {}),
    "cvtsi2sd": ("f2 48 0f 2a c0", {"rax": 12345}),
    "fld1 and fldz": ("d9 e8 d9 ee de c1 41 dd 1e", {}),
    "fwait": ("9b", {}),
    "popcnt": ("f3 48 0f b8 c3", {"rbx": 0xF0F0}),
    "crc32": ("f2 48 0f 38 f1 c3", {"rax": 7, "rbx": 0x1234_5678_9ABC}),
    "cmpxchg16b that fails": ("f0 49 0f c7 0e", {"rax": 1, "rdx": 2}),
    "cmpxchg16b that stores": ("f0 49 0f c7 0e", {"rbx": 1, "rcx": 2}),
    "ldmxcsr and stmxcsr": ("68 c0 1f 00 00 0f ae 14 24 0f 58 c1 41 0f ae 1e 58", {}),
}


class Counted(Guest):
    """Counts crossings."""

    def ended(self, machine) -> None:
        self.crossings = Crossings(machine.vcpu)


@pytest.fixture
def kernel() -> Counted:
    usable("kvm")
    return Counted(Engine("kvm"), kernel=True)


@pytest.mark.parametrize("name", REFUSED)
def test_what_kvm_refuses_ends_as_on_the_host_cpu(kernel, host_cpu, name):
    code, registers = REFUSED[name]
    case = Case(bytes.fromhex(code), registers, vectors=DOUBLES)
    (ours,), (theirs,) = kernel.run([case]), host_cpu.run([case])
    assert not ours.difference(theirs)
    assert bool(kernel.crossings) == emulates_cpl0()
