"""MSRs under KVM: the paravirtual clock, those nobody knows, and what a saved state has of them."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from accel.api import ExitKind
from accel.kvm.vcpu import KvmVcpu
from accel.kvm.vm import KvmAccelerator
from accel.memory import AddressSpace
from isa.arch import find
from tests.conftest import obstacle

pytestmark = pytest.mark.skipif(bool(obstacle("kvm")), reason=obstacle("kvm") or "kvm is here")

CODE, CLOCK, SYSTEM_TIME_NEW = 0x7000, 0x8000, 0x4B56_4D01
# Linux, Documentation/virt/kvm/x86/msr.rst: version, padding, tsc, time, factor, shift, flags.
PAGE = struct.Struct("<IIQQIbB2x")


@pytest.fixture(params=["on", "split", "off"])
def guest(request: pytest.FixtureRequest) -> Iterator[tuple[AddressSpace, KvmVcpu]]:
    memory = AddressSpace()
    memory.add_ram("ram", 0, 1 << 20)
    with KvmAccelerator(find("x86_64"), memory, AddressSpace("ports", 1 << 16), irqchip=request.param) as kvm:
        for kind in kvm.caps.irqchips:
            kvm.irqchip(kind)
        vcpu = kvm.vcpu(0)
        vcpu.set(cs=0, cs_base=0, rip=CODE)
        yield memory, vcpu
    memory.close()


def out(vcpu: KvmVcpu) -> None:
    """Runs to the guest's next `out`."""
    assert vcpu.run(budget=1).kind == ExitKind.BUDGET


def test_the_paravirtual_clock_goes_as_the_host_s_does(guest: tuple[AddressSpace, KvmVcpu]) -> None:
    memory, vcpu = guest
    # mov ecx,MSR; mov eax,CLOCK|1; xor edx,edx; wrmsr; read: rdtsc; out 0xf4,al; jmp read
    memory.load(CODE, bytes.fromhex("66b9014d564b 66b801800000 6631d2 0f30 0f31 e6f4 ebfa"))

    def now() -> int:
        out(vcpu)
        low, high = vcpu.get("rax", "rdx")
        version, _, stamp, at, factor, shift, _ = PAGE.unpack(memory.peek(CLOCK, PAGE.size))
        assert version % 2 == 0
        assert version > 0
        ticks = (low & 0xFFFF_FFFF | high << 32) - stamp
        ticks = ticks << shift if shift >= 0 else ticks >> -shift
        return at + (ticks * factor >> 32)

    before = time.monotonic_ns()
    first = now()
    inside = time.monotonic_ns()
    time.sleep(0.05)
    waited = time.monotonic_ns()
    second = now()
    after = time.monotonic_ns()
    # The clocks differ by what adjusts the host's: 1 in 1,000 is far above that.
    assert (waited - inside) * 0.999 <= second - first <= (after - before) * 1.001
    saved = vcpu.save()
    assert saved[f"msr_{SYSTEM_TIME_NEW:x}"] == CLOCK | 1
    vcpu.load(saved)
    assert vcpu.read_msr(SYSTEM_TIME_NEW) == CLOCK | 1


@pytest.mark.parametrize(("access", "kind"), [("0f32", "read"), ("0f30", "write")])
def test_an_msr_that_nobody_knows_is_a_general_protection_fault(
    guest: tuple[AddressSpace, KvmVcpu], access: str, kind: str
) -> None:
    parameter = Path("/sys/module/kvm/parameters/ignore_msrs")
    if parameter.exists() and parameter.read_text().strip() in ("Y", "1"):
        pytest.skip("this host's KVM is told to ignore unknown MSRs")
    memory, vcpu = guest
    # mov ecx,0x12345678; access; out 0xf4,al.  Vector 13: mov al,13; out 0xf4,al
    memory.load(CODE, bytes.fromhex("66b978563412" + access + "e6f4"))
    memory.load(0x7800, bytes.fromhex("b00d e6f4"))
    memory.load(4 * 13, struct.pack("<HH", 0x7800, 0))
    vcpu.set(rsp=0x6000)
    out(vcpu)
    assert vcpu.get("rax")[0] & 0xFF == 13, kind


def test_every_msr_that_was_saved_is_taken_again_or_named(guest: tuple[AddressSpace, KvmVcpu]) -> None:
    _, vcpu = guest
    saved = vcpu.save()
    vcpu.load(saved)
    again = vcpu.save()
    moving = {"tsc", "msr_10", *vcpu.passed_over}
    differing = {name for name, value in saved.items() if name != "lapic" and again.get(name) != value}
    assert differing <= moving
