"""Exceptions and interrupts of bare-metal guests under tcg, with what the manuals say as the oracle.

Every vector holds a wait for an interrupt, so that the pc after HALT tells which was taken.
"""

from __future__ import annotations

import threading
import time

import pytest

from accel.api import ExitKind
from tests.conftest import Engine
from tests.guest.bare import CODE, Bare, words

PATIENCE = 2  # seconds until a guest that hangs is kicked


@pytest.fixture
def machine():
    """machine(isa, **options) makes a bare machine; all are closed at the end."""
    made = []

    def make(isa: str, **options: object) -> Bare:
        bare = Bare(Engine("tcg"), isa, **options)
        made.append(bare)
        return bare

    yield make
    for bare in made:
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


def later(action, *arguments, seconds: float = 0.02) -> threading.Thread:
    """Does something from another thread while the guest runs."""

    def act() -> None:
        time.sleep(seconds)
        action(*arguments)

    thread = threading.Thread(target=act)
    thread.start()
    return thread


# ---- AArch64: both paths to the library --------------------------------------------------------------

VECTORS = 0x8001_0000
WFI64, LOOP64 = 0xD503207F, 0x14000000


@pytest.fixture(params=["private", "public"])
def a64(request, machine):
    """An AArch64 machine at EL1 whose vectors wait, by the way its library is used."""

    def make(**options: object) -> Bare:
        bare = machine("aarch64", path=request.param, **options)
        wait = WFI64.to_bytes(4, "little") + LOOP64.to_bytes(4, "little")
        for vector in range(16):
            bare.memory.load(VECTORS + 0x80 * vector, wait)
        bare.vcpu.set(VBAR_EL1=VECTORS)
        return bare

    return make


# instruction, vector's offset, ESR_EL1, ELR_EL1 - pc.  Arm ARM D1.10.2 (vectors), D13.2.37 (ESR_EL1).
SYNCHRONOUS = {
    "svc #7": (0xD40000E1, 0x200, 0x5600_0007, 4),
    "brk #3": (0xD4200060, 0x200, 0xF200_0003, 0),
    "udf": (0x0000_0000, 0x200, 0x0200_0000, 0),
    "fadd d0, d0, d0": (0x1E602800, 0x200, 0x1FE0_0000, 0),  # CPACR_EL1 is 0: floating point is off
}


@pytest.mark.parametrize("name", SYNCHRONOUS)
def test_an_instruction_takes_its_exception_to_el1(a64, name):
    instruction, vector, syndrome, after = SYNCHRONOUS[name]
    bare = a64()
    if name.startswith("fadd") and not bare.accelerator.features & 1:
        pytest.skip("Unicorn never traps floating point; that is cured on the private path alone")
    bare.load(instruction.to_bytes(4, "little"))
    bare.vcpu.set(sp=0x1234_5670, cpsr=0x6000_03C5)
    assert run(bare).kind == ExitKind.HALT
    pc, esr, elr, spsr, cpsr, sp = bare.vcpu.get("pc", "ESR_EL1", "ELR_EL1", "SPSR_EL1", "cpsr", "sp")
    assert pc == VECTORS + vector + 4
    assert esr == syndrome
    assert elr == CODE["aarch64"] + after
    assert spsr == 0x6000_03C5
    assert cpsr & 0x3DF == 0x3C5
    assert sp == 0x1234_5670


def test_an_exception_from_el0_changes_the_stack_pointer_and_eret_brings_it_back(a64):
    bare = a64()
    bare.load(words("d4000001 91000400 d4000001", "aarch64"))  # svc #0; add x0, x0, #1; svc #0
    # the first comes back by ERET, the second stays
    bare.memory.load(VECTORS + 0x400, words("910003e1 b4000040 d503207f d69f03e0", "aarch64"))
    # mov x1, sp; cbz x0, +8; wfi; eret
    bare.vcpu.set(cpsr=0x3C0, SP_EL0=0x1000, SP_EL1=0x2000, x0=0)
    assert bare.vcpu.get("sp") == (0x1000,)
    assert run(bare).kind == ExitKind.HALT
    assert bare.vcpu.get("x0", "x1", "sp", "SP_EL0", "ELR_EL1", "SPSR_EL1") == (
        1,
        0x2000,
        0x2000,
        0x1000,
        CODE["aarch64"] + 12,
        0x3C0,
    )


def test_a_translation_fault_tells_address_and_syndrome(a64):
    bare = a64()
    tables = 0x8002_0000
    # level 1, 39 bits of address: one block of 1 GiB at 0x80000000
    bare.memory.load(tables + 8 * 2, (0x8000_0000 | 0x701).to_bytes(8, "little"))
    bare.load(words("f9400001", "aarch64"))  # ldr x1, [x0]
    bare.vcpu.set(
        x0=0x12_3456_7890, TTBR0_EL1=tables, TCR_EL1=0x8080_3519, MAIR_EL1=0xFF, SCTLR_EL1=0x30D0_0801
    )
    assert run(bare).kind == ExitKind.HALT
    pc, esr, elr, far = bare.vcpu.get("pc", "ESR_EL1", "ELR_EL1", "FAR_EL1")
    assert (pc, elr, far) == (VECTORS + 0x204, CODE["aarch64"], 0x12_3456_7890)
    assert esr == 0x9600_0005  # data abort, same level; translation fault, level 1


def test_an_interrupt_waits_for_its_mask(a64):
    bare = a64()
    bare.load(words("d503201f 14000000", "aarch64"))  # nop; b .
    bare.vcpu.interrupt(0, 1)
    assert bare.vcpu.run(1000).kind == ExitKind.BUDGET  # DAIF is set after reset
    assert bare.vcpu.get("pc") == (CODE["aarch64"] + 4,)
    bare.vcpu.set(cpsr=0x345)  # I clear
    assert bare.vcpu.run(1000).kind == ExitKind.BUDGET  # the line is up, so that WFI does not wait
    pc, elr, spsr, cpsr = bare.vcpu.get("pc", "ELR_EL1", "SPSR_EL1", "cpsr")
    assert (pc, elr, spsr) == (VECTORS + 0x284, CODE["aarch64"] + 4, 0x345)
    bare.vcpu.interrupt(0, 0)
    bare.vcpu.set(pc=VECTORS + 0x280)
    assert run(bare).kind == ExitKind.HALT
    assert cpsr & 0x3C0 == 0x3C0


@pytest.mark.parametrize(("line", "vector"), [(0, 0x280), (1, 0x300)], ids=["IRQ", "FIQ"])
def test_an_interrupt_reaches_a_guest_that_runs(a64, line, vector):
    bare = a64()
    bare.load(LOOP64.to_bytes(4, "little"))
    bare.vcpu.set(cpsr=0x305)
    bare.memory.load(VECTORS + vector, LOOP64.to_bytes(4, "little"))
    threads = later(bare.vcpu.interrupt, line, 1), later(bare.vcpu.kick, seconds=0.1)
    assert run(bare).kind == ExitKind.KICKED
    for thread in threads:
        thread.join()
    assert bare.vcpu.get("pc", "ELR_EL1") == (VECTORS + vector, CODE["aarch64"])


def test_a_line_that_falls_in_time_is_not_taken(a64):
    bare = a64()
    bare.load(words("d503207f 14000000", "aarch64"))
    bare.vcpu.interrupt(0, 1)
    bare.vcpu.interrupt(0, 0)
    bare.vcpu.set(cpsr=0x345)
    assert run(bare).kind == ExitKind.HALT
    assert bare.vcpu.get("pc") == (CODE["aarch64"] + 4,)


def test_psci_ends_or_restarts_the_machine(a64):
    for number, kind in ((0x8400_0008, ExitKind.SHUTDOWN), (0x8400_0009, ExitKind.RESET)):
        bare = a64()
        bare.load(words("d4000002 d503207f", "aarch64"))  # hvc #0; wfi
        bare.vcpu.set(x0=number)
        assert run(bare).kind == kind


def test_an_unknown_firmware_call_answers_not_supported(a64):
    bare = a64()
    bare.load(words("d4000002 d503207f", "aarch64"))
    bare.vcpu.set(x0=0xC600_0042)
    assert run(bare).kind == ExitKind.HALT
    assert bare.vcpu.get("x0") == ((1 << 64) - 1,)


def test_a_guest_can_start_at_el2(a64):
    bare = a64(level=2)
    bare.load(words("d5384240 d4000003 d503207f", "aarch64"))  # mrs x0, CurrentEL; smc #0; wfi
    assert run(bare).kind == ExitKind.HALT
    # SMC went to the firmware: no such call
    assert bare.vcpu.get("cpsr")[0] & 0xF == 9
    assert bare.vcpu.get("x0") == ((1 << 64) - 1,)


def test_breakpoints_end_the_run_where_the_board_wants_them(machine):
    code = {
        "aarch64": "d4200000",
        "arm": "e1200070",
        "riscv64": "00100073",
        "x86_64": "cc",
    }
    for isa, text in code.items():
        bare = machine(isa, breakpoints=True)
        bare.load(words(text, isa))
        exit_ = run(bare)
        assert exit_.kind == ExitKind.DEBUG
        assert exit_.pc - CODE[isa] in (0, 1)


# ---- AArch32 -------------------------------------------------------------------------------------------


@pytest.fixture
def a32(machine) -> Bare:
    """An AArch32 machine in supervisor mode whose vectors, at VECTORS, wait."""
    bare = machine("arm")
    for vector in range(8):
        bare.memory.load(VECTORS + 4 * vector, words("eafffffe", "arm"))  # b .
    bare.vcpu.set(VBAR=VECTORS)
    return bare


@pytest.mark.parametrize(
    ("word", "vector", "mode", "after"),
    [("ef000007", 0x08, 0x13, 4), ("e7f000f0", 0x04, 0x1B, 4), ("e1200070", 0x0C, 0x17, 4)],
    ids=["svc", "undefined", "bkpt"],
)
def test_an_instruction_takes_its_exception_to_its_mode(a32, word, vector, mode, after):
    a32.load(words(word, "arm"))
    assert a32.vcpu.run(20).kind == ExitKind.BUDGET
    pc, cpsr, lr, spsr = a32.vcpu.get("pc", "cpsr", "lr", "spsr")
    assert (pc, cpsr & 0x1F, lr) == (VECTORS + vector, mode, CODE["arm"] + after)
    assert spsr & 0x1F == 0x13


def test_an_undefined_thumb_instruction_leaves_the_address_behind_it_plus_two(a32):
    a32.load(bytes.fromhex("00de"))  # udf #0
    a32.vcpu.set(pc=CODE["arm"] | 1)
    assert a32.vcpu.run(20).kind == ExitKind.BUDGET
    assert a32.vcpu.get("pc", "lr") == (VECTORS + 4, CODE["arm"] + 2)


@pytest.mark.parametrize(("line", "vector", "mode"), [(0, 0x18, 0x12), (1, 0x1C, 0x11)], ids=["IRQ", "FIQ"])
def test_an_interrupt_takes_its_mode(a32, line, vector, mode):
    a32.load(words("eafffffe", "arm"))
    a32.memory.load(VECTORS + vector, words("e320f003 eafffffd", "arm"))  # wfi; b -4
    a32.vcpu.interrupt(line, 1)
    assert a32.vcpu.run(100).kind == ExitKind.BUDGET
    a32.vcpu.set(cpsr=0x13)
    # the interrupt is still there, so that WFI does not wait
    assert a32.vcpu.run(100).kind == ExitKind.BUDGET
    pc, cpsr, lr = a32.vcpu.get("pc", "cpsr", "lr")
    assert cpsr & 0x1F == mode
    assert lr == CODE["arm"] + 4
    assert pc - (VECTORS + vector) in (0, 4)


# ---- RISC-V ----------------------------------------------------------------------------------------------


@pytest.fixture
def rv(machine) -> Bare:
    """A RISC-V machine whose trap vector waits."""
    bare = machine("riscv64")
    bare.memory.load(VECTORS, words("10500073 0000006f", "riscv64"))
    bare.vcpu.set(mtvec=VECTORS)
    return bare


# Privileged specification, table 3.6.
@pytest.mark.parametrize(
    ("word", "cause", "value"),
    [
        ("00000073", 11, 0),  # ecall from M
        ("00100073", 3, None),  # ebreak; mtval is the address or 0
        ("00000000", 2, None),  # mtval is the instruction or 0
        ("c0001073", 2, None),  # csrw cycle, zero
        ("00152083", 4, None),  # lw x1, 1(a0) of an odd address
    ],
    ids=["ecall", "ebreak", "illegal", "read-only CSR", "misaligned load"],
)
def test_an_instruction_traps_with_its_cause(rv, word, cause, value):
    rv.load(words(word, "riscv64"))
    rv.vcpu.set(a0=0x8000_0000)
    if cause == 4:
        pytest.skip("Unicorn's U54 carries out misaligned loads")
    assert run(rv).kind == ExitKind.HALT
    pc, mcause, mepc, mtval = rv.vcpu.get("pc", "mcause", "mepc", "mtval")
    assert (pc, mcause, mepc) == (VECTORS + 4, cause, CODE["riscv64"])
    assert value is None or mtval == value


@pytest.mark.parametrize("line", [3, 7, 11], ids=["software", "timer", "external"])
def test_an_interrupt_traps_when_both_enables_are_set(rv, line):
    rv.load(words("0000006f", "riscv64"))
    rv.vcpu.interrupt(line, 1)
    assert rv.vcpu.run(100).kind == ExitKind.BUDGET
    assert rv.vcpu.get("mip") == (1 << line,)
    rv.vcpu.set(mie=1 << line)
    assert rv.vcpu.run(100).kind == ExitKind.BUDGET
    assert rv.vcpu.get("pc") == (CODE["riscv64"],)
    rv.vcpu.set(mstatus=rv.vcpu.get("mstatus")[0] | 8)
    assert rv.vcpu.run(100).kind == ExitKind.BUDGET  # pending: WFI goes on
    assert rv.vcpu.get("mcause", "mepc") == (1 << 63 | line, CODE["riscv64"])
    rv.vcpu.interrupt(line, 0)
    assert rv.vcpu.run(100).kind in (ExitKind.HALT, ExitKind.BUDGET)
    assert rv.vcpu.get("mip") == (0,)


def test_an_interrupt_reaches_a_hart_that_runs(rv):
    rv.load(words("0000006f", "riscv64"))
    rv.memory.load(VECTORS, words("30401073 10500073 0000006f", "riscv64"))  # csrw mie, zero; wfi
    rv.vcpu.set(mie=0x800, mstatus=rv.vcpu.get("mstatus")[0] | 8)
    thread = later(rv.vcpu.interrupt, 11, 1)
    assert run(rv).kind == ExitKind.HALT
    thread.join()
    assert rv.vcpu.get("mcause", "mepc") == (1 << 63 | 11, CODE["riscv64"])


def test_an_ecall_from_user_mode_traps_to_machine_mode(rv):
    rv.load(words("00000073", "riscv64"))
    # all memory to user mode: NAPOT, read write execute
    rv.vcpu.set(pmpaddr0=(1 << 53) - 1, pmpcfg0=0x1F, priv=0)
    assert run(rv).kind == ExitKind.HALT
    mcause, mstatus = rv.vcpu.get("mcause", "mstatus")
    assert (mcause, mstatus >> 11 & 3) == (8, 0)


# ---- the generic timer (AArch64; the registers are the same in AArch32) -------------------------------


def test_the_virtual_timer_raises_its_line_when_its_time_has_come_and_the_guest_lowers_it(machine):
    bare = machine("aarch64")
    told: list[int] = []
    line = bare.vcpu.timers["virtual"]

    def drive(level: int) -> None:
        told.append(level)
        bare.vcpu.interrupt(0, level)

    line.connect(drive)
    # msr cntv_tval_el0, x0; mov x1, #1; msr cntv_ctl_el0, x1; b .
    bare.load(words("d51be300 d2800021 d51be321 14000000", "aarch64"))
    # mrs x4, cntv_ctl_el0; msr cntv_ctl_el0, xzr; mrs x2, cntvct_el0; wfi
    bare.memory.load(VECTORS + 0x280, words("d53be324 d51be33f d53be042 d503207f", "aarch64"))
    bare.vcpu.set(x0=62500000 // 100, VBAR_EL1=VECTORS, cpsr=0x305)
    (before,) = bare.vcpu.get("CNTVCT_EL0")
    assert run(bare).kind == ExitKind.HALT
    assert told == [1, 0]
    control, after, compare = bare.vcpu.get("x4", "x2", "CNTV_CVAL_EL0")
    assert control == 5  # enabled, and the condition is met
    assert after >= compare >= before + 62500000 // 100


def test_a_masked_timer_tells_its_status_and_no_line(machine):
    bare = machine("aarch64")
    told: list[int] = []
    bare.vcpu.timers["physical"].connect(told.append)
    bare.vcpu.set(CNTP_CVAL_EL0=0, CNTP_CTL_EL0=3)
    assert bare.vcpu.get("CNTP_CTL_EL0") == (7,)
    bare.vcpu.set(CNTP_CTL_EL0=1)
    assert told == [1]
    bare.vcpu.set(CNTP_CVAL_EL0=(1 << 64) - 1)
    assert told == [1, 0]
    assert bare.vcpu.get("CNTP_CTL_EL0") == (1,)


def test_the_counter_runs_at_the_frequency_it_tells(machine):
    bare = machine("aarch64")
    start, (first,) = time.monotonic_ns(), bare.vcpu.get("CNTPCT_EL0")
    time.sleep(0.05)
    (second,), end = bare.vcpu.get("CNTPCT_EL0"), time.monotonic_ns()
    assert bare.vcpu.get("CNTFRQ_EL0") == (62_500_000,)
    # 16 ns to a tick, and it ran no longer than the host's clock between the two looks
    assert 50_000_000 <= (second - first + 1) * 16 <= end - start + 32
