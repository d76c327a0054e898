"""A vCPU under KVM: ports and memory through the maps, hooks that raise, kicks, halts, budgets."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from random import Random

import pytest

from accel.api import ExitKind
from accel.errors import Unavailable, Unsupported
from accel.kvm.device import open_device
from accel.kvm.vcpu import KvmVcpu
from accel.kvm.vm import KvmAccelerator
from accel.memory import AddressSpace, Register
from isa.arch import find

DEVICE = 0xD000_0000
CODE = 0x7000


def why_not() -> str:
    try:
        os.close(open_device())
    except Unavailable as error:
        return str(error)
    return ""


pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "kvm is here")


class Guest:
    """Real-mode code at 0x7000, 1 MiB of RAM, and what a test adds."""

    def __init__(self) -> None:
        self.memory = AddressSpace()
        self.ports = AddressSpace("ports", 1 << 16)
        self.ram = self.memory.add_ram("ram", 0, 1 << 20)
        self.kvm: KvmAccelerator | None = None

    def start(self, code: str, *, flat: bool = False, crossing: bool = True) -> KvmVcpu:
        """A vCPU at `code` (hex); flat: DS reaches all of memory, as in unreal mode."""
        self.memory.load(CODE, bytes.fromhex(code))
        self.kvm = KvmAccelerator(find("x86_64"), self.memory, self.ports, crossing=crossing)
        vcpu = self.kvm.vcpu(0)
        vcpu.set(cs=0, cs_base=0, rip=CODE, rsp=0x6000)
        if flat:
            vcpu.set(ds_base=0, ds_limit=0xFFFF_FFFF, ds_attr=0xC093)
        return vcpu

    def close(self) -> None:
        if self.kvm is not None:
            self.kvm.close()
        self.memory.close()
        self.ports.close()


@pytest.fixture
def guest() -> Iterator[Guest]:
    guest = Guest()
    yield guest
    guest.close()


def test_a_guest_prints_through_a_port(guest: Guest) -> None:
    printed = bytearray()
    guest.ports.add_io("debug", 0x402, 1).ops(None, lambda offset, width, value: printed.append(value))
    # mov dx,0x402; mov si,0x7100; mov cx,5; cld; rep outsb; hlt
    vcpu = guest.start("ba0204 be0071 b90500 fc f36e f4")
    guest.memory.load(0x7100, b"hello")
    assert vcpu.run().kind == ExitKind.HALT
    assert printed == b"hello"


def test_ports_of_every_width_reach_the_hook_with_their_width(guest: Guest) -> None:
    seen: list[tuple[str, int, int, int]] = []

    def read(offset: int, width: int) -> int:
        seen.append(("in", offset, width, 0))
        return 0x8877_6655

    def write(offset: int, width: int, value: int) -> None:
        seen.append(("out", offset, width, value))

    guest.ports.add_io("device", 0x500, 16).ops(read, write)
    # mov dx,0x500; in eax,dx; out dx,eax; in ax,dx; inc dx; inc dx; out dx,ax; inc dx; in al,dx;
    # out dx,al; hlt
    vcpu = guest.start("ba0005 66ed 66ef ed 42 42 ef 42 ec ee f4")
    assert vcpu.run().kind == ExitKind.HALT
    assert seen == [
        ("in", 0, 4, 0),
        ("out", 0, 4, 0x8877_6655),
        ("in", 0, 2, 0),
        ("out", 2, 2, 0x6655),
        ("in", 3, 1, 0),
        ("out", 3, 1, 0x55),
    ]


def test_a_string_of_words_is_read_from_one_port(guest: Guest) -> None:
    words = iter(range(0x1111, 0x9999, 0x1111))
    guest.ports.add_io("disk", 0x1F0, 2).ops(lambda offset, width: next(words), None)
    # mov dx,0x1f0; mov di,0x7200; mov cx,4; cld; rep insw; hlt
    vcpu = guest.start("baf001 bf0072 b90400 fc f36d f4")
    assert vcpu.run().kind == ExitKind.HALT
    assert guest.memory.peek(0x7200, 8).hex() == "1111222233334444"


def test_a_register_without_hooks_is_served_without_python(guest: Guest) -> None:
    device = guest.memory.add_io("device", DEVICE, 0x1000)
    device.ops(lambda offset, width: pytest.fail("read"), lambda *_: pytest.fail("write"))
    live = device.registers([Register(0, 4, reset=0x1234_5678), Register(4, 4, write_mask=0xFFFF)])
    # mov eax,[DEVICE]; mov [DEVICE+4],eax; mov ebx,[DEVICE+4]; hlt
    vcpu = guest.start("66 67 a1 000000d0  66 67 a3 040000d0  66 67 8b1d 040000d0 f4", flat=True)
    assert vcpu.run().kind == ExitKind.HALT
    assert vcpu.get("rax", "rbx") == (0x1234_5678, 0x5678)
    assert live[1].value == 0x5678
    assert vcpu.counts()["mmio"] == 3


def test_nothing_there_reads_all_ones_and_swallows_writes(guest: Guest) -> None:
    # mov eax,[DEVICE]; mov [DEVICE],eax; mov dx,0x999; in al,dx; out dx,al; hlt
    vcpu = guest.start("66 67 a1 000000d0  66 67 a3 000000d0 ba9909 ec ee f4", flat=True)
    assert vcpu.run().kind == ExitKind.HALT
    assert vcpu.get("rax") == (0xFFFF_FFFF,)


def test_a_guest_write_to_rom_reaches_its_hook_and_leaves_it_alone(guest: Guest) -> None:
    told: list[tuple[int, int, int]] = []
    rom = guest.memory.add_ram("rom", DEVICE, 0x2000, readonly=True)
    rom.buffer[:4] = b"ROM!"
    rom.ops(None, lambda *access: told.append(access))
    # mov eax,[DEVICE]; mov word [DEVICE+0x10],ax; hlt
    vcpu = guest.start("66 67 a1 000000d0  67 a3 100000d0 f4", flat=True)
    assert vcpu.run().kind == ExitKind.HALT
    assert vcpu.get("rax") == (int.from_bytes(b"ROM!", "little"),)
    assert told == [(0x10, 2, int.from_bytes(b"RO", "little"))]
    assert bytes(rom.buffer[0x10:0x12]) == b"\0\0"


def test_ram_that_is_not_whole_pages_is_served_to_its_edges(guest: Guest) -> None:
    odd = guest.memory.add_ram("odd", DEVICE + 0xFF0, 0x1020)
    odd.buffer[0xC:0x14] = b"abcdefgh"
    odd.buffer[0x1010:0x1014] = b"tail"
    # mov eax,[DEVICE+0xffe]; mov ebx,[DEVICE+0x2000]; mov [DEVICE+0x200c],eax; hlt
    vcpu = guest.start("66 67 a1 fe0f00d0  66 67 8b1d 002000d0  66 67 a3 0c2000d0 f4", flat=True)
    assert vcpu.run().kind == ExitKind.HALT
    assert vcpu.get("rax", "rbx") == (int.from_bytes(b"cdef", "little"), int.from_bytes(b"tail", "little"))
    assert bytes(odd.buffer[0x101C:0x1020]) == b"cdef"


def test_a_moved_region_is_found_at_its_new_place_only(guest: Guest) -> None:
    window = guest.memory.add_ram("window", DEVICE, 0x1000)
    window.buffer[:4] = b"here"
    # mov eax,[DEVICE]; mov ebx,[DEVICE+0x10000]; hlt; and again
    vcpu = guest.start("66 67 a1 000000d0 66 67 8b1d 000001d0 f4 ebef", flat=True)
    here = int.from_bytes(b"here", "little")
    assert vcpu.run().kind == ExitKind.HALT
    assert vcpu.get("rax", "rbx") == (here, 0xFFFF_FFFF)
    guest.memory.move(window, DEVICE + 0x10000)
    vcpu.set(rip=CODE)
    assert vcpu.run().kind == ExitKind.HALT
    assert vcpu.get("rax", "rbx") == (0xFFFF_FFFF, here)


def test_a_hook_that_raises_stops_the_guest_and_is_raised_from_run(guest: Guest) -> None:
    def refuse(*_: int) -> None:
        raise LookupError("no such thing")

    guest.ports.add_io("device", 0x500, 1).ops(None, refuse)
    vcpu = guest.start("ba0005 ee f4")
    with pytest.raises(LookupError, match="no such thing"):
        vcpu.run()
    assert vcpu.run().kind == ExitKind.HALT


def test_a_hook_that_raises_on_a_read_gives_zero_and_registers_may_be_set_then(guest: Guest) -> None:
    def refuse(*_: int) -> int:
        raise LookupError("no such thing")

    guest.memory.add_io("device", DEVICE, 16).ops(refuse, None)
    vcpu = guest.start("6667a1000000d0 f4", flat=True)
    with pytest.raises(LookupError):
        vcpu.run()
    vcpu.set(rbx=5)
    assert vcpu.run().kind == ExitKind.HALT
    assert vcpu.get("rax", "rbx") == (0, 5)


def test_a_kick_from_another_thread_stops_an_endless_loop(guest: Guest) -> None:
    vcpu = guest.start("ebfe")
    for _ in range(20):
        threading.Timer(0.005, vcpu.kick).start()
        assert vcpu.run().kind == ExitKind.KICKED


def test_a_kick_between_runs_stops_the_next_one_once(guest: Guest) -> None:
    vcpu = guest.start("f4")
    vcpu.kick()
    assert vcpu.run().kind == ExitKind.KICKED
    assert vcpu.run().kind == ExitKind.HALT


def test_kicks_are_not_lost_whenever_they_come(guest: Guest) -> None:
    """Each of 300 runs of an endless guest ends by exactly the one kick that is sent for it."""
    vcpu = guest.start("ba0005 ec ebfd")
    guest.ports.add_io("device", 0x500, 1)
    go = threading.Semaphore(0)

    def kicker() -> None:
        for n in range(300):
            go.acquire()
            if n % 3:
                time.sleep((n % 7) * 1e-5)
            vcpu.kick()

    thread = threading.Thread(target=kicker)
    thread.start()
    for _ in range(300):
        go.release()
        assert vcpu.run().kind == ExitKind.KICKED
    thread.join()


def test_a_host_signal_gets_through_to_python(guest: Guest) -> None:
    class Interrupted(Exception):
        pass

    def handler(*_: object) -> None:
        raise Interrupted

    def run_between_alarms() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        vcpu.run()

    vcpu = guest.start("ebfe")
    old = signal.signal(signal.SIGALRM, handler)
    try:
        with pytest.raises(Interrupted):
            run_between_alarms()
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def test_a_budget_counts_exits_and_the_guest_goes_on_after_it(guest: Guest) -> None:
    count = guest.ports.add_io("device", 0x500, 1)
    values: list[int] = []
    count.ops(None, lambda offset, width, value: values.append(value))
    # mov dx,0x500; mov al,1; out dx,al; inc al; jmp back
    vcpu = guest.start("ba0005 b001 ee fec0 ebfb")
    assert vcpu.run(budget=3).kind == ExitKind.BUDGET
    assert values == [1, 2, 3]
    assert vcpu.run(budget=2).kind == ExitKind.BUDGET
    assert values == [1, 2, 3, 4, 5]


def test_a_halted_cpu_stays_halted_until_an_interrupt_comes(guest: Guest) -> None:
    printed: list[int] = []
    guest.ports.add_io("debug", 0x402, 1).ops(None, lambda offset, width, value: printed.append(value))
    # sti; hlt; hlt
    vcpu = guest.start("fb f4 f4")
    # vector 0x21: mov dx,0x402; mov al,'!'; out dx,al; iret
    guest.memory.load(0x7100, bytes.fromhex("ba0204 b021 ee cf"))
    guest.memory.load(4 * 0x21, bytes.fromhex("00710000"))
    taken: list[int] = []
    vcpu.taken = taken.append
    assert vcpu.run().pc == CODE + 2
    assert vcpu.run().pc == CODE + 2
    vcpu.interrupt(0, 0x21 + 1)
    assert vcpu.run().pc == CODE + 3
    assert printed == [0x21]
    assert taken == [0x21]


def test_an_interrupt_waits_until_the_guest_allows_it(guest: Guest) -> None:
    order: list[int] = []
    guest.ports.add_io("debug", 0x402, 1).ops(None, lambda offset, width, value: order.append(value))
    # mov dx,0x402; xor bl,bl; mov al,1; out dx,al; mov al,2; out dx,al; sti; wait: test bl,bl; jz wait;
    # mov al,3; out dx,al; cli; hlt
    vcpu = guest.start("ba0204 30db b001 ee b002 ee fb 84db 74fc b003 ee fa f4")
    # handler: mov al,9; out dx,al; inc bl; iret
    guest.memory.load(0x7100, bytes.fromhex("b009 ee fec3 cf"))
    guest.memory.load(4 * 0x30, bytes.fromhex("00710000"))
    vcpu.interrupt(0, 0x30 + 1)
    assert vcpu.run().kind == ExitKind.HALT
    assert order == [1, 2, 9, 3]


def test_a_withdrawn_interrupt_does_not_come(guest: Guest) -> None:
    vcpu = guest.start("fb 90 fa f4")
    vcpu.interrupt(0, 0x31)
    vcpu.interrupt(0, 0)
    assert vcpu.run().pc == CODE + 4


def test_an_interrupt_from_another_thread_breaks_into_a_loop(guest: Guest) -> None:
    # sti; jmp $
    vcpu = guest.start("fb ebfe")
    # handler: hlt
    guest.memory.load(0x7100, bytes.fromhex("f4"))
    guest.memory.load(4 * 0x30, bytes.fromhex("00710000"))
    threading.Timer(0.02, vcpu.interrupt, (0, 0x31)).start()
    assert vcpu.run().pc == 0x7101


def test_an_nmi_comes_even_with_interrupts_off(guest: Guest) -> None:
    vcpu = guest.start("fa f4")
    guest.memory.load(0x7100, bytes.fromhex("f4"))
    guest.memory.load(4 * 2, bytes.fromhex("00710000"))
    assert vcpu.run().kind == ExitKind.HALT
    vcpu.interrupt(1, 1)
    assert vcpu.run().pc == 0x7101


def test_a_triple_fault_is_a_shutdown(guest: Guest) -> None:
    # ud2 in 32-bit protected mode, with an IDT of no entries
    vcpu = guest.start("0f0b")
    vcpu.set(cr0=0x6000_0011, cs_limit=0xFFFF_FFFF, cs_attr=0xC09B, idtr_base=0, idtr_limit=0)
    assert vcpu.run().kind == ExitKind.SHUTDOWN


def test_another_isa_is_refused_in_one_line() -> None:
    with pytest.raises(Unsupported, match=r"KVM cannot run aarch64 on .*--accel tcg"):
        KvmAccelerator(find("aarch64"), AddressSpace())


def test_an_instruction_that_kvm_refuses_is_a_fault_with_its_bytes(guest: Guest) -> None:
    # popcnt ax,ax; hlt
    vcpu = guest.start("f30fb8c0 f4", crossing=False)
    exit = vcpu.run()
    if exit.kind == ExitKind.HALT:
        pytest.skip("this host's KVM does not emulate kernel mode: it refuses nothing")
    assert (exit.kind, exit.pc, exit.code) == (ExitKind.FAULT, CODE, 1)
    assert exit.data[:4] == bytes.fromhex("f30fb8c0")
    assert "f30fb8c0" in exit.text
    assert "--accel tcg" in exit.text
    vcpu.set(rip=CODE + 4)
    assert vcpu.run().kind == ExitKind.HALT


def test_a_guest_that_calls_the_hypervisor_for_ever_can_be_kicked(guest: Guest) -> None:
    # vmcall; jmp back
    vcpu = guest.start("0f01c1 ebfb")
    threading.Timer(0.05, vcpu.kick).start()
    assert vcpu.run().kind in (ExitKind.KICKED, ExitKind.FAULT, ExitKind.SHUTDOWN)


def test_code_outside_of_memory_is_a_fault_or_a_shutdown_and_never_a_hang(guest: Guest) -> None:
    vcpu = guest.start("f4")
    vcpu.set(cs_base=0xD000_0000, rip=0)
    timer = threading.Timer(5, vcpu.kick)
    timer.start()
    assert vcpu.run().kind in (ExitKind.FAULT, ExitKind.SHUTDOWN)
    timer.cancel()


def test_random_code_does_nothing_to_the_host(guest: Guest) -> None:
    """Guests of random bytes, with every port and all of memory above RAM served, end in some exit."""
    guest.ports.add_io("ports", 0, 1 << 16).ops(lambda offset, width: offset, lambda *_: None)
    guest.memory.add_io("hole", 1 << 20, 1 << 40).ops(lambda offset, width: offset, lambda *_: None)
    random = Random(7)
    vcpu = guest.start("f4")
    fresh = vcpu.save()
    kinds = set()
    for _ in range(60):
        guest.ram.buffer[:0x10000] = random.randbytes(0x10000)
        vcpu.load(fresh)
        values = {name: random.getrandbits(32) for name in ("rax", "rbx", "rcx", "rdx", "rsi", "rdi")}
        vcpu.set(**values, rip=CODE, ds_base=0, ds_limit=0xFFFF_FFFF, ds_attr=0xC093)
        timer = threading.Timer(0.02, vcpu.kick)
        timer.start()
        kinds.add(vcpu.run(budget=500).kind)
        timer.cancel()
        timer.join()
    assert kinds <= set(ExitKind)
