"""Doorbells under KVM: a guest's write adds to an eventfd without an exit, where the map shows it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from accel.api import ExitKind
from accel.errors import Unavailable
from accel.kvm.device import open_device
from accel.kvm.vcpu import KvmVcpu
from accel.kvm.vm import KvmAccelerator
from accel.memory import AddressSpace
from isa.arch import find

CODE = 0x7000
DEVICE = 0xD000_0000


def why_not() -> str:
    try:
        os.close(open_device())
    except Unavailable as error:
        return str(error)
    return ""


pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "kvm is here")


class Guest:
    def __init__(self) -> None:
        self.memory = AddressSpace()
        self.ports = AddressSpace("ports", 1 << 16)
        self.memory.add_ram("ram", 0, 1 << 20)
        self.event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.seen: list[tuple[int, int, int]] = []

    def start(self, code: str) -> KvmVcpu:
        self.memory.load(CODE, bytes.fromhex(code))
        self.kvm = KvmAccelerator(find("x86_64"), self.memory, self.ports)
        vcpu = self.kvm.vcpu(0)
        vcpu.set(cs=0, cs_base=0, rip=CODE, ds_limit=0xFFFF_FFFF, ds_attr=0xC093)
        return vcpu

    def rings(self) -> int:
        try:
            return os.eventfd_read(self.event)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        self.kvm.close()
        self.memory.close()
        self.ports.close()
        os.close(self.event)


@pytest.fixture
def guest() -> Iterator[Guest]:
    guest = Guest()
    yield guest
    guest.close()


def run_again(vcpu: KvmVcpu) -> None:
    vcpu.set(rip=CODE)
    assert vcpu.run().kind == ExitKind.HALT


def test_a_write_to_memory_rings_without_an_exit_and_other_offsets_do_not(guest: Guest) -> None:
    device = guest.memory.new_io("device", 0x1000)
    device.ops(None, lambda *access: guest.seen.append(access))
    device.doorbell(0x50, guest.event, width=4)
    guest.memory.place(device, DEVICE)
    # mov [DEVICE+0x50],eax twice; mov [DEVICE+0x54],eax; mov [DEVICE+0x50],ax; hlt
    ring = "6667a3500000d0"
    vcpu = guest.start(f"{ring} {ring} 6667a3540000d0 67a3500000d0 f4")
    exits, before = [], 0
    for _ in range(5):
        guest.seen.clear()
        run_again(vcpu)
        assert guest.rings() == 2
        assert [access[:2] for access in guest.seen] == [(0x54, 4), (0x50, 2)]
        exits.append(vcpu.counts()["mmio"] - before)
        before = vcpu.counts()["mmio"]
    if not guest.kvm.caps.ioeventfd:
        pytest.skip("this kvm has no ioeventfds: doorbells ring in the run loop")
    if guest.kvm.doorbells.refused:
        pytest.skip(f"this kvm took no ioeventfd: {guest.kvm.doorbells.refused}")
    # One that KVM takes rings without an exit; a KVM that is short of something may still bring some here.
    assert min(exits) == 2, exits


def test_a_write_to_a_port_rings_only_for_its_value(guest: Guest) -> None:
    device = guest.ports.new_io("device", 8)
    device.ops(None, lambda *access: guest.seen.append(access))
    device.doorbell(2, guest.event, width=2, match=0x1234)
    guest.ports.place(device, 0x500)
    # mov dx,0x502; mov ax,0x1234; out dx,ax; inc ax; out dx,ax; hlt
    vcpu = guest.start("ba0205 b83412 ef 40 ef f4")
    run_again(vcpu)
    assert guest.rings() == 1
    assert guest.seen == [(2, 2, 0x1235)]


def test_a_doorbell_of_any_width_takes_every_width(guest: Guest) -> None:
    device = guest.memory.new_io("device", 0x1000)
    device.ops(None, lambda *access: guest.seen.append(access))
    device.doorbell(0, guest.event)
    guest.memory.place(device, DEVICE)
    # mov [DEVICE],al; mov [DEVICE],ax; mov [DEVICE],eax; hlt
    vcpu = guest.start("67a2000000d0 67a3000000d0 6667a3000000d0 f4")
    run_again(vcpu)
    assert guest.rings() == 3
    assert guest.seen == []


def test_a_doorbell_moves_and_goes_with_its_region(guest: Guest) -> None:
    device = guest.memory.new_io("device", 0x1000)
    device.doorbell(0, guest.event, width=4)
    guest.memory.place(device, DEVICE)
    # mov [DEVICE],eax; mov [DEVICE+0x10000],eax twice; hlt
    vcpu = guest.start("6667a3000000d0 6667a3000001d0 6667a3000001d0 f4")
    run_again(vcpu)
    assert guest.rings() == 1
    guest.memory.move(device, DEVICE + 0x10000)
    run_again(vcpu)
    assert guest.rings() == 2
    guest.memory.remove(device)
    run_again(vcpu)
    assert guest.rings() == 0


def test_a_doorbell_covered_by_another_region_is_silent(guest: Guest) -> None:
    device = guest.memory.new_io("device", 0x1000)
    device.doorbell(0, guest.event, width=4)
    guest.memory.place(device, DEVICE)
    cover = guest.memory.new_io("cover", 0x10, priority=1)
    cover.ops(None, lambda *access: guest.seen.append(access))
    guest.memory.place(cover, DEVICE)
    vcpu = guest.start("6667a3000000d0 f4")
    run_again(vcpu)
    assert guest.rings() == 0
    assert [access[:2] for access in guest.seen] == [(0, 4)]
    guest.memory.remove(cover)
    run_again(vcpu)
    assert guest.rings() == 1
