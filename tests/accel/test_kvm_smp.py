"""Several vCPUs under KVM: each in its thread, started as processors are, kicked while they wait."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from accel.api import Exit, ExitKind
from accel.errors import AccelError, Unavailable
from accel.kvm.device import open_device
from accel.kvm.vcpu import KvmVcpu
from accel.kvm.vm import KvmAccelerator
from accel.memory import AddressSpace
from isa.arch import find

CODE = 0x7000
FLAT = {"ds_base": 0, "ds_limit": 0xFFFF_FFFF, "ds_attr": 0xC093}


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
        self.kvm = KvmAccelerator(find("x86_64"), self.memory, self.ports)

    def close(self) -> None:
        self.kvm.close()
        self.memory.close()
        self.ports.close()


class Running:
    """A vCPU's run() in a thread of its own; its exit afterwards."""

    def __init__(self, vcpu: KvmVcpu) -> None:
        self.vcpu = vcpu
        self.exit: Exit | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        self.exit = self.vcpu.run()

    def kicked(self) -> Exit:
        self.vcpu.kick()
        self.thread.join(10)
        assert self.exit is not None, "the vCPU did not stop"
        return self.exit


@pytest.fixture
def guest() -> Iterator[Guest]:
    guest = Guest()
    yield guest
    guest.close()


def test_two_vcpus_run_at_the_same_time_and_share_memory(guest: Guest) -> None:
    """Each waits for the other's word: with one of them standing still neither would end."""
    # wait: cmp byte [0x7f00],bl; jne wait; inc byte [0x7f00]; add bl,2; cmp bl,20; jb wait; hlt
    code = bytes.fromhex("381e007f 75fa fe06007f 80c302 80fb14 72ee f4")
    guest.memory.load(CODE, code)
    vcpus = [guest.kvm.vcpu(0), guest.kvm.vcpu(1)]
    for n, vcpu in enumerate(vcpus):
        vcpu.set(cs=0, cs_base=0, rip=CODE, rbx=n)
    running = [Running(vcpu) for vcpu in vcpus]
    for each in running:
        each.thread.join(20)
        assert each.exit is not None
        assert each.exit.kind == ExitKind.HALT
    assert guest.memory.peek(0x7F00, 1) == bytes([20])


def test_a_second_processor_starts_by_init_and_startup_interrupts(guest: Guest) -> None:
    """Intel SDM vol. 3, 9.4.4: INIT, then SIPI with vector 8 starts it at 0x8000 in real mode."""
    chip = guest.kvm.irqchip("pc")
    assert chip is not None
    said = threading.Event()
    words: list[int] = []

    def write(offset: int, width: int, value: int) -> None:
        words.append(value)
        said.set()

    guest.ports.add_io("debug", 0x402, 2).ops(None, write)
    first, second = guest.kvm.vcpu(0), guest.kvm.vcpu(1)
    # mov dword [0xfee00300],0x000c4500 (INIT to the others); ... 0x000c4608 (SIPI); hlt
    icr = "6667c705 0003e0fe"
    guest.memory.load(CODE, bytes.fromhex(f"{icr} 00450c00 {icr} 08460c00 fa f4"))
    # mov dx,0x402; mov ax,0xcafe; out dx,ax; cli; hlt
    guest.memory.load(0x8000, bytes.fromhex("ba0204 b8feca ef fa f4"))
    first.set(cs=0, cs_base=0, rip=CODE, **FLAT)
    assert second.save()["mp_state"] == "uninitialized"
    running = [Running(second), Running(first)]
    try:
        assert said.wait(20)
    finally:
        exits = [each.kicked() for each in running]
    assert words == [0xCAFE]
    assert [exit.kind for exit in exits] == [ExitKind.KICKED, ExitKind.KICKED]
    assert second.get("cs", "cs_base") == (0x800, 0x8000)


def test_a_processor_that_waits_for_its_start_can_be_kicked_and_told_registers(guest: Guest) -> None:
    guest.kvm.irqchip("pc")
    guest.kvm.vcpu(0)
    second = guest.kvm.vcpu(1)
    second.set(rbx=5)
    assert Running(second).kicked().kind == ExitKind.KICKED
    assert second.get("rbx") == (5,)


def test_a_cpu_halted_in_the_kernel_can_be_kicked_again_and_again(guest: Guest) -> None:
    guest.kvm.irqchip("pc")
    vcpu = guest.kvm.vcpu(0)
    guest.memory.load(CODE, bytes.fromhex("fa f4"))
    vcpu.set(cs=0, cs_base=0, rip=CODE)
    for _ in range(5):
        assert Running(vcpu).kicked().kind == ExitKind.KICKED
    assert vcpu.get("rip") == (CODE + 2,)


def test_an_index_twice_or_beyond_the_host_is_refused(guest: Guest) -> None:
    guest.kvm.vcpu(0)
    with pytest.raises(AccelError, match="vCPU 0 exists already"):
        guest.kvm.vcpu(0)
    with pytest.raises(AccelError, match=r"is beyond this host's \d+; give the machine fewer CPUs"):
        guest.kvm.vcpu(guest.kvm.caps.max_vcpus)


def test_breakpoints_and_single_steps_stop_a_guest_where_they_are_set(guest: Guest) -> None:
    vcpu = guest.kvm.vcpu(0)
    guest.memory.load(CODE, bytes.fromhex("40 43 41 42 f4"))  # inc ax; inc bx; inc cx; inc dx; hlt
    vcpu.set(cs=0, cs_base=0, rip=CODE)
    vcpu.debug(breakpoints=[CODE + 2])
    assert (vcpu.run().kind, vcpu.get("rip", "rax", "rcx")) == (ExitKind.DEBUG, (CODE + 2, 1, 0))
    vcpu.debug(step=True)
    exit = vcpu.run()
    assert (exit.kind, exit.pc) == (ExitKind.DEBUG, CODE + 3)
    vcpu.debug()
    assert vcpu.run().kind == ExitKind.HALT
    with pytest.raises(AccelError, match="4 breakpoints"):
        vcpu.debug(watchpoints=[(8 * n, 1, "w") for n in range(5)])
