"""x86-64 machines under tcg: exceptions, INTR, NMI, SYSCALL, ports, by the Intel SDM.

The guests start in long mode (guest/bare.py); every vector's handler waits for an interrupt with IF clear,
so that the pc after HALT tells which was taken.
"""

from __future__ import annotations

import struct
import threading
import time

import pytest

from accel.api import ExitKind
from tests.conftest import Engine
from tests.guest.bare import CODE, CODE64, USER_CODE, USER_DATA, Bare, words

CODE64_AT = CODE["x86_64"]
TABLE, HANDLERS, STACK = 0x8000, 0x9000, 0xC_0000
PATIENCE = 10


@pytest.fixture
def pc():
    """A machine in long mode, about to run at CODE, with a table of 256 interrupt gates."""
    bare = Bare(Engine("tcg"), "x86_64")
    bare.load(words("f4"))
    assert run(bare).kind == ExitKind.HALT  # through the reset code to long mode
    gates = b""
    for vector in range(256):
        at = HANDLERS + 16 * vector
        bare.memory.load(at, words("f4 eb fd"))  # hlt; jmp -3
        gates += struct.pack("<HHBBHII", at & 0xFFFF, CODE64, 0, 0xEE, at >> 16 & 0xFFFF, at >> 32, 0)
    bare.memory.load(TABLE, gates)
    bare.vcpu.set(
        idtr_base=TABLE, idtr_limit=0xFFF, rsp=STACK, rip=CODE64_AT, eflags=2, tr=0x30, tr_base=0x7100
    )
    bare.vcpu.set(tr_limit=0x67, tr_attr=0x8B)
    yield bare
    bare.close()


def run(bare: Bare):
    """To the next exit; a guest that hangs ends as KICKED."""
    watchdog = threading.Timer(PATIENCE, bare.vcpu.kick)
    watchdog.start()
    try:
        return bare.vcpu.run()
    finally:
        watchdog.cancel()
        watchdog.join()


def vector_taken(bare: Bare) -> int:
    """The vector whose handler the guest waits in."""
    return (bare.vcpu.get("rip")[0] - 1 - HANDLERS) // 16


def frame(bare: Bare, count: int) -> tuple[int, ...]:
    """What the CPU pushed, top first."""
    (rsp,) = bare.vcpu.get("rsp")
    return struct.unpack(f"<{count}Q", bare.memory.peek(rsp, 8 * count))


# text, vector, error code or None, saved rip - CODE.  Intel SDM vol. 3, table 6-1.
FAULTS = {
    "int3": ("cc", 3, None, 1),
    "int 0x80": ("cd 80", 0x80, None, 2),
    "ud2": ("0f 0b", 6, None, 0),
    "div by zero": ("31 c9 f7 f1", 0, None, 2),
    "mov ss, 0x40": ("b8 40 00 00 00 8e d0", 13, 0x40, 5),
    "page fault": ("48 b8 00 00 00 00 01 00 00 00 8b 18", 14, 0, 10),
    "non-canonical": ("48 b8 00 00 00 00 00 00 00 80 8b 18", 13, 0, 10),
}


@pytest.mark.parametrize("name", FAULTS)
def test_an_instruction_faults_with_its_vector_and_frame(pc, name):
    text, vector, error, after = FAULTS[name]
    pc.load(words(text))
    assert run(pc).kind == ExitKind.HALT
    assert vector_taken(pc) == vector
    pushed = frame(pc, 6)
    if error is not None:
        assert pushed[0] == error
        pushed = pushed[1:]
    assert pushed[:3] == (CODE64_AT + after, CODE64, 2 | pushed[2] & 0x10_08D5)
    assert pushed[3] == STACK
    if name == "page fault":
        assert pc.vcpu.get("cr2") == (1 << 32,)


def test_an_interrupt_waits_for_if_and_tells_when_it_is_taken(pc):
    taken: list[int] = []
    pc.vcpu.taken = taken.append
    pc.load(words("90 90 eb fe"))
    pc.vcpu.interrupt(0, 0x41 + 1)
    assert pc.vcpu.run(100).kind == ExitKind.BUDGET
    assert taken == []
    pc.vcpu.set(eflags=0x202)
    assert run(pc).kind == ExitKind.HALT
    assert vector_taken(pc) == 0x41
    assert taken == [0x41]
    assert frame(pc, 3) == (CODE64_AT + 2, CODE64, 0x202)


def test_a_withdrawn_interrupt_is_not_taken(pc):
    pc.load(words("eb fe"))
    pc.vcpu.interrupt(0, 0x41 + 1)
    pc.vcpu.interrupt(0, 0)
    pc.vcpu.set(eflags=0x202)
    assert pc.vcpu.run(100).kind == ExitKind.BUDGET
    assert pc.vcpu.get("rip") == (CODE64_AT,)


def test_an_interrupt_wakes_a_cpu_that_sleeps_and_only_where_if_is_set(pc):
    pc.load(words("f4 f4 f4"))
    assert run(pc).kind == ExitKind.HALT
    assert run(pc).kind == ExitKind.HALT
    assert pc.vcpu.get("rip") == (CODE64_AT + 1,)  # HLT is no hint
    pc.vcpu.interrupt(0, 0x50 + 1)
    assert run(pc).kind == ExitKind.HALT
    assert pc.vcpu.get("rip") == (CODE64_AT + 1,)
    pc.vcpu.set(eflags=0x202)
    assert run(pc).kind == ExitKind.HALT
    assert vector_taken(pc) == 0x50
    assert frame(pc, 1) == (CODE64_AT + 1,)


def test_an_interrupt_waits_for_the_instruction_after_sti(pc):
    pc.load(words("fb 90 eb fe"))  # sti; nop; jmp
    pc.vcpu.interrupt(0, 0x42 + 1)
    assert run(pc).kind == ExitKind.HALT
    assert vector_taken(pc) == 0x42
    assert frame(pc, 1)[0] >= CODE64_AT + 2


def test_nmi_needs_no_if(pc):
    pc.load(words("eb fe"))
    pc.vcpu.interrupt(1, 1)
    assert run(pc).kind == ExitKind.HALT
    assert vector_taken(pc) == 2


def test_a_cpu_may_halt_again_and_again_with_an_interrupt_due(pc):
    """Where it halts is where it was woken each time, and the next interrupt has come meanwhile."""
    pc.vcpu.taken = lambda vector: pc.vcpu.interrupt(0, 0x41 + 1)
    pc.load(words("fb f4 eb fc"))  # sti; hlt; jmp sti
    # inc ecx; cmp ecx, 100; jae hlt; and dword [rsp+16], ~IF; iretq; hlt
    handler = words("ff c1 83 f9 64 73 0a 81 64 24 10 ff fd ff ff 48 cf f4")
    pc.memory.load(HANDLERS + 16 * 0x41, words("e9") + struct.pack("<i", 0x1000 - 5))
    pc.memory.load(HANDLERS + 16 * 0x41 + 0x1000, handler)
    pc.vcpu.set(rcx=0)
    pc.vcpu.interrupt(0, 0x41 + 1)
    exit = run(pc)
    assert (exit.kind, pc.vcpu.get("rcx")[0]) == (ExitKind.HALT, 100), exit.text


def test_an_interrupt_reaches_a_guest_that_runs(pc):
    pc.load(words("eb fe"))
    pc.vcpu.set(eflags=0x202)

    def drive() -> None:
        time.sleep(0.02)
        pc.vcpu.interrupt(0, 0x33 + 1)

    thread = threading.Thread(target=drive)
    thread.start()
    assert run(pc).kind == ExitKind.HALT
    thread.join()
    assert vector_taken(pc) == 0x33


def test_a_triple_fault_shuts_the_machine_down(pc):
    pc.load(words("0f 0b"))
    pc.vcpu.set(idtr_limit=0)
    assert run(pc).kind == ExitKind.SHUTDOWN


def test_syscall_enters_the_kernel_and_sysret_returns(pc):
    user, kernel = CODE64_AT + 0x100, CODE64_AT + 0x200
    pc.load(words("48 0f 07"))  # sysretq
    pc.memory.load(user, words("0f 05 eb fe"))  # syscall; jmp .
    pc.memory.load(kernel, words("f4"))  # hlt
    pc.vcpu.set(
        efer=pc.vcpu.get("efer")[0] | 1,
        star=(0x18 << 48) | (CODE64 << 32),
        lstar=kernel,
        sfmask=0x200,
        rcx=user,
        r11=0x202,
    )
    assert run(pc).kind == ExitKind.HALT
    rip, rcx, r11, flags, cs, attr = pc.vcpu.get("rip", "rcx", "r11", "eflags", "cs", "cs_attr")
    assert (rip, rcx, r11 & 0x202, flags & 0x200) == (kernel + 1, user + 2, 0x202, 0)
    assert (cs, attr >> 5 & 3) == (CODE64, 0)


def to_user(bare: Bare, text: str, flags: int = 2) -> None:
    """Has the guest go to user mode by IRETQ and run `text` there."""
    user = CODE64_AT + 0x100
    bare.memory.load(user, words(text))
    bare.memory.load(STACK - 40, struct.pack("<5Q", user, USER_CODE, flags, 0xD_0000, USER_DATA))
    bare.load(words("48 cf"))  # iretq
    bare.vcpu.set(rsp=STACK - 40)


def test_user_mode_may_not_touch_ports_unless_iopl_lets_it(pc):
    seen: list[int] = []
    pc.ports.add_io("port", 0x80, 1).ops(None, lambda offset, width, value: seen.append(value))
    to_user(pc, "b0 07 e6 80 cc")  # mov al, 7; out 0x80, al; int3
    assert run(pc).kind == ExitKind.HALT
    assert (vector_taken(pc), seen) == (13, [])
    assert frame(pc, 2) == (0, CODE64_AT + 0x102)
    to_user(pc, "b0 07 e6 80 cc", flags=0x3002)
    pc.vcpu.set(rip=CODE64_AT, cs=CODE64, cs_attr=0xA09B, ss=0x10, ss_attr=0xC093, eflags=2)
    assert run(pc).kind == ExitKind.HALT
    assert (vector_taken(pc), seen) == (3, [7])


def test_a_port_hook_that_raises_leaves_the_pc_at_the_instruction(pc):
    def fail(offset: int, width: int) -> int:
        raise RuntimeError("no such port")

    pc.ports.add_io("port", 0x80, 1).ops(fail, None)
    pc.load(words("90 e4 80 40 b0 55 f4"))  # nop; in al, 0x80; ...
    pc.vcpu.set(rax=0x1234)
    with pytest.raises(RuntimeError, match="no such port"):
        run(pc)
    assert pc.vcpu.get("rip", "rax") == (CODE64_AT + 1, 0x1234)


def test_a_machine_starts_at_the_reset_vector_in_real_mode():
    bare = Bare(Engine("tcg"), "x86_64")
    names = ("rip", "cs", "cs_base", "cs_limit", "cr0", "eflags", "efer", "rdx")
    rip, cs, base, limit, cr0, eflags, efer, _ = bare.vcpu.get(*names)
    # Intel SDM vol. 3, table 9-1
    assert (rip, cs, base, limit) == (0xFFF0, 0xF000, 0xFFFF_0000, 0xFFFF)
    assert (cr0, eflags, efer) == (0x6000_0010, 2, 0)
    bare.close()


# What KVM says of an event under way (accel.kvm.state), the vector that is taken, and its error code.
EVENTS = {
    "page fault": (
        {
            "exception_injected": 1,
            "exception_nr": 14,
            "exception_has_error_code": 1,
            "exception_error_code": 2,
        },
        14,
        2,
    ),
    "protection": (
        {
            "exception_pending": 1,
            "exception_nr": 13,
            "exception_has_error_code": 1,
            "exception_error_code": 0,
        },
        13,
        0,
    ),
    "undefined": ({"exception_injected": 1, "exception_nr": 6}, 6, None),
    "interrupt": ({"interrupt_injected": 1, "interrupt_nr": 0x61}, 0x61, None),
    "nmi": ({"nmi_injected": 1, "nmi_masked": 1}, 2, None),
    "nmi that waits": ({"nmi_pending": 1}, 2, None),
}


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_that_another_engine_had_begun_is_taken_first(pc, name):
    """Frames: Intel SDM vol. 3, 6.14.2; an interrupt that was acknowledged does not wait for IF."""
    events, vector, error = EVENTS[name]
    taken: list[int] = []
    pc.vcpu.taken = taken.append
    pc.load(words("90 90 f4"))
    pc.vcpu.load(pc.vcpu.save() | {"events": events})
    assert pc.vcpu.save()["events"].items() >= events.items()
    assert run(pc).kind == ExitKind.HALT
    assert vector_taken(pc) == vector
    assert taken == []  # its controller has heard of it already
    pushed = frame(pc, 6)
    if error is not None:
        assert pushed[0] == error
        pushed = pushed[1:]
    assert pushed[:2] == (CODE64_AT, CODE64)


def test_an_nmi_waits_while_one_is_served(pc):
    pc.load(words("90 90 f4"))
    pc.vcpu.load(pc.vcpu.save() | {"events": {"nmi_masked": 1, "nmi_pending": 1}})
    assert run(pc).kind == ExitKind.HALT
    assert pc.vcpu.get("rip") == (CODE64_AT + 3,)
    assert pc.vcpu.save()["events"]["nmi_pending"] == 1


def test_the_time_stamp_counter_goes_on_from_where_it_was(pc):
    pc.load(words("0f 31 f4"))  # rdtsc; hlt
    pc.vcpu.load(pc.vcpu.save() | {"tsc": 1 << 50})
    assert run(pc).kind == ExitKind.HALT
    low, high = pc.vcpu.get("rax", "rdx")
    assert 0 <= (high << 32 | low) - (1 << 50) < 1 << 40
    assert pc.vcpu.save()["tsc"] > high << 32 | low


def test_a_task_register_that_was_loaded_is_busy(pc: Bare) -> None:
    """Intel SDM vol. 2, LTR; vol. 3, 27.3.1.2: the only one that VT-x enters with."""
    pc.load(words("b8 30 00 00 00  0f 00 d8  f4"))  # mov eax, 30h; ltr ax; hlt
    pc.vcpu.set(rip=CODE64_AT)
    assert run(pc).kind == ExitKind.HALT
    assert pc.vcpu.get("tr", "tr_attr") == (0x30, 0x8B)
