"""More stops than a CPU has debug registers, in the kernel and in a program of x86-64 guests."""

from __future__ import annotations

import struct

import pytest

from accel.api import ExitKind
from accel.errors import AccelError
from tests.guest.bare import CODE64, Bare, words
from tests.guest.x86 import IDT, IDTR

USER, HANDLER = 0x11_0000, 0x12_0000
KERNEL = """
    0f 01 1c 25 20 00 09 00  ; lidt [0x90020]
    66 b8 30 00              ; mov ax, 0x30
    0f 00 d8                 ; ltr ax
    6a 23                    ; push 0x23        ss
    68 00 00 0d 00           ; push 0xd0000     rsp
    6a 02                    ; push 2           rflags
    6a 2b                    ; push 0x2b        cs
    68 00 00 11 00           ; push 0x110000    rip
    48 cf                    ; iretq
"""
PROGRAM = """
    48 ff c1  ; inc rcx
    48 ff c2  ; inc rdx
    48 ff c6  ; inc rsi
    cc        ; int3
    48 ff c7  ; inc rdi
    49 ff c0  ; inc r8
    49 ff c1  ; inc r9
    eb eb     ; jmp to the first
"""
ON_INT3 = "49 ff c7 49 ff c6 48 cf  ; inc r15; inc r14; iretq"
STOPS = [USER, USER + 3, USER + 6, HANDLER, HANDLER + 3, USER + 10, USER + 13, USER + 16]


@pytest.fixture(params=["kernel", "user"])
def machine(accel, request):
    """In front of the program, which is the kernel's or a user's."""
    bare = Bare(accel, "x86_64")
    try:
        bare.attach()
        bare.load(words("f4"))
        assert bare.vcpu.run().kind == ExitKind.HALT  # in 64-bit mode
        gate = struct.pack("<HHBBHII", HANDLER & 0xFFFF, 0x18, 0, 0xEE, HANDLER >> 16, 0, 0)
        bare.memory.load(IDT + 3 * 16, gate)
        bare.memory.load(IDTR, struct.pack("<HQ", 0x1FF, IDT))
        kernel = words(KERNEL)
        if request.param == "kernel":
            if bare.accelerator.caps.name == "kvm":
                bare.memory.load(0x3000, struct.pack("<Q", 0x83))  # 2 MiB that are no user's
            kernel = words(KERNEL.replace("6a 2b", "6a 18").replace("6a 23", "6a 10"))
        elif bare.accelerator.caps.name == "kvm" and not bare.accelerator.caps.user_breakpoints:
            pytest.skip("this KVM does not tell of breakpoints in user mode")
        bare.memory.load(CODE64, kernel)
        bare.memory.load(USER, words(PROGRAM))
        bare.memory.load(HANDLER, words(ON_INT3))
        bare.vcpu.set(rip=CODE64, rsp=0xE_0000, **dict.fromkeys(("rcx", "rdx", "r8", "r9", "r14", "r15"), 0))
        yield bare
    finally:
        bare.close()


def test_each_of_eight_stops_is_met_in_turn_and_the_guest_s_own_int3_is_the_guest_s(machine):
    vcpu = machine.vcpu
    vcpu.debug(STOPS)
    met = []
    for _ in range(2 * len(STOPS)):
        exit = vcpu.run()
        assert exit.kind == ExitKind.DEBUG, exit
        assert vcpu.stopped_by(exit)[0] == "breakpoint"
        met.append(exit.pc)
        assert machine.memory.peek(USER, 21) == words(PROGRAM), "memory is the guest's while it stands"
        assert vcpu.step().kind == ExitKind.DEBUG
    assert met == 2 * STOPS
    assert vcpu.get("rcx", "rdx", "r15", "r14", "r9") == (2, 2, 2, 2, 2)
    vcpu.debug([HANDLER])
    assert vcpu.run().pc == HANDLER


def test_a_stop_where_nothing_is_mapped_takes_a_register_and_a_fifth_of_these_is_refused(machine):
    if machine.accelerator.caps.name != "kvm":
        pytest.skip("tcg's stops take nothing")
    nowhere = [0x8000_0000_0000 - (n << 39) for n in range(1, 6)]
    machine.vcpu.debug([*STOPS, *nowhere[:4]])
    exit = machine.vcpu.run()
    assert (exit.kind, exit.pc) == (ExitKind.DEBUG, STOPS[0])
    with pytest.raises(AccelError, match="4 breakpoints"):
        machine.vcpu.debug([*STOPS, *nowhere])
