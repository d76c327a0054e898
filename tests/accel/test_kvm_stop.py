"""Stopping a vCPU of KVM at any moment: no access is half done, none is lost, none is done twice."""

from __future__ import annotations

import os
import threading
from random import Random

import pytest

from accel.api import ExitKind
from accel.kvm.vm import KvmAccelerator
from accel.memory import AddressSpace
from isa.arch import find
from tests.conftest import obstacle

pytestmark = pytest.mark.skipif(bool(obstacle("kvm")), reason=obstacle("kvm") or "kvm is here")

CODE, SOURCE, TARGET, NEXT, DEVICE = 0x7000, 0x7100, 0x7200, 0x7300, 0xD000_0000
KICKS = int(os.environ.get("EMU_KICKS", "10000"))
PROGRAM = """
    31 ed                 ; 7000 xor bp, bp            rounds
    fc                    ; 7002 cld
    be 00 71 b9 10 00     ; 7003 mov si, 0x7100; mov cx, 16
    ba 00 05              ; 7009 mov dx, 0x500
    f3 6e                 ; 700c rep outsb
    bf 00 72 b9 10 00 42  ; 700e mov di, 0x7200; mov cx, 16; inc dx
    f3 6c                 ; 7015 rep insb
    67 66 a1 00 00 00 d0  ; 7017 mov eax, [DEVICE]     the next number
    66 3b 06 00 73        ; 701e cmp eax, [0x7300]
    75 10                 ; 7023 jne 7035
    66 ff 06 00 73        ; 7025 inc dword [0x7300]
    67 66 a3 04 00 00 d0  ; 702a mov [DEVICE+4], eax   and back
    45                    ; 7031 inc bp
    eb cf                 ; 7032 jmp 7003
    90                    ; 7034 nop
    f4                    ; 7035 hlt
"""
OUTS, INS, LOADED, COUNTED, STORED = 0x700C, 0x7015, 0x701E, 0x7031, 0x7032


class Device:
    """Counts what comes and goes."""

    def __init__(self) -> None:
        self.out = self.into = self.read = self.written = 0
        self.wrong: list[str] = []

    def write_byte(self, offset: int, width: int, value: int) -> None:
        if value != self.out % 16:
            self.wrong.append(f"byte {value} in place of {self.out % 16}")
        self.out += 1

    def read_byte(self, offset: int, width: int) -> int:
        self.into += 1
        return self.into - 1 & 0xFF

    def read_number(self, offset: int, width: int) -> int:
        self.read += 1
        return self.read - 1

    def write_number(self, offset: int, width: int, value: int) -> None:
        if value != self.written:
            self.wrong.append(f"number {value} in place of {self.written}")
        self.written += 1


def test_ten_thousand_kicks_find_every_access_done_or_not_begun() -> None:
    memory, ports, device = AddressSpace(), AddressSpace("ports", 1 << 16), Device()
    memory.add_ram("ram", 0, 1 << 20)
    ports.add_io("out", 0x500, 1).ops(None, device.write_byte)
    ports.add_io("in", 0x501, 1).ops(device.read_byte, None)
    memory.add_io("number", DEVICE, 8).ops(device.read_number, device.write_number)
    memory.load(CODE, bytes.fromhex("".join(line.split(";")[0] for line in PROGRAM.split("\n"))))
    memory.load(SOURCE, bytes(range(16)))
    kvm = KvmAccelerator(find("x86_64"), memory, ports)
    vcpu = kvm.vcpu(0)
    vcpu.set(cs=0, cs_base=0, ds_base=0, ds_limit=0xFFFF_FFFF, ds_attr=0xC093, rip=CODE)
    ended = threading.Event()
    random = Random(11)
    pauses = [random.random() * 2e-4 for _ in range(1000)]

    def kick() -> None:
        n = 0
        while not ended.wait(pauses[n % 1000]):
            vcpu.kick()
            n += 1

    kicker = threading.Thread(target=kick)
    kicker.start()
    places: set[int] = set()
    try:
        for n in range(KICKS):
            exit = vcpu.run()
            assert exit.kind == ExitKind.KICKED, exit
            if n % 2:
                vcpu.settle()
                places.add(check(device, memory, *vcpu.get("rip", "rbp", "rsi", "rdi", "rcx")))
            assert not device.wrong
    finally:
        ended.set()
        kicker.join()
        kvm.close()
    memory.close()
    ports.close()
    assert len(places) > 3, "all kicks came at the same moment"


def check(device: Device, memory: AddressSpace, rip: int, rounds: int, si: int, di: int, cx: int) -> int:
    """The registers against what the device saw, between two instructions; the instruction."""
    rounds += (
        (device.written - rounds & ~0xFFFF) if device.written - rounds >= 0x10000 else 0
    )  # bp has 16 bits
    done = rounds + (rip == COUNTED)  # the round's store is done, and not counted yet
    began_out = OUTS <= rip <= COUNTED
    assert device.out == 16 * rounds + (si - SOURCE if began_out else 0)
    after_in = rip > INS and rip <= COUNTED
    assert device.into == 16 * rounds + (16 if after_in else di - TARGET if rip == INS else 0)
    assert device.read == rounds + (LOADED <= rip <= COUNTED)
    assert device.written == done
    if rip == OUTS:
        assert cx == 16 - (si - SOURCE)
    if after_in:
        last = bytes(n & 0xFF for n in range(device.into - 16, device.into))
        assert memory.peek(TARGET, 16) == last
    return rip
