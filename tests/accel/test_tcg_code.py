"""Code that changes while the guest runs it: under another virtual address, by a loader, by DMA."""

from __future__ import annotations

import threading

import pytest

from accel.api import ExitKind
from tests.conftest import Engine
from tests.guest.bare import CODE, DEVICE, Bare, words

BASE = CODE["aarch64"]
TABLES, BUFFER = BASE + 0x1_0000, BASE + 0x2_0000
ALIAS = 0x4000_0000  # the same memory, seen at C000_0000
EXECUTE_NEVER = 3 << 53
ROUNDS = 2000


def rewriting_guest() -> bytes:
    """Writes `mov w0, #i; ret` under x4 and calls it under x3, ROUNDS times."""
    text = [
        0xD2800005,  # mov x5, #0
        0xD2800006,  # mov x6, #0
        0x180001C7,  # ldr w7, ret
        0xB9000487,  # str w7, [x4, #4]
        0x180001A7,  # 1: ldr w7, movz
        0x2A0514E7,  # orr w7, w7, w5, lsl #5
        0xB9000087,  # str w7, [x4]
        0xB400007C,  # cbz x28, 2f
        0xD50B7523,  # ic ivau, x3
        0xD5033FDF,  # isb
        0xD63F0060,  # 2: blr x3
        0x6B05001F,  # cmp w0, w5
        0x9A8604C6,  # cinc x6, x6, ne
        0x910004A5,  # add x5, x5, #1
        0xF11F40BF,  # cmp x5, #2000
        0x54FFFEA3,  # b.lo 1b
        0xD65F03C0,  # ret
        0x52800000,  # movz w0, #0
    ]
    # the constants are behind the end of the program
    program = [*text[:16], 0xD503207F, 0x14000000, *text[16:]]
    program[2] = 0x18000000 | (18 - 2) << 5 | 7
    program[4] = 0x18000000 | (19 - 4) << 5 | 7
    return b"".join(word.to_bytes(4, "little") for word in program)


def run(bare: Bare):
    """To the next exit; a guest that hangs ends as KICKED."""
    watchdog = threading.Timer(20, bare.vcpu.kick)
    watchdog.start()
    try:
        return bare.vcpu.run()
    finally:
        watchdog.cancel()
        watchdog.join()


@pytest.mark.parametrize("maintained", [False, True], ids=["coherent", "ic-ivau"])
@pytest.mark.parametrize("never", [False, True], ids=["RWX-alias", "RW-alias"])
@pytest.mark.parametrize("path", ["private", "public"])
def test_code_written_under_another_virtual_address_is_run(path, never, maintained):
    if path == "public" and never and not maintained:
        pytest.skip("without its insides Unicorn needs the cache maintenance that the architecture asks for")
    bare = Bare(Engine("tcg"), "aarch64", path=path)
    block = BASE | 0x705
    bare.memory.load(TABLES + 8 * 2, block.to_bytes(8, "little"))
    bare.memory.load(TABLES + 8 * 3, (block | EXECUTE_NEVER * never).to_bytes(8, "little"))
    bare.load(rewriting_guest())
    bare.vcpu.set(
        TTBR0_EL1=TABLES,
        TCR_EL1=0x8080_3519,
        MAIR_EL1=0xFF00,
        SCTLR_EL1=0x30D0_0801,
        x3=BUFFER,
        x4=BUFFER + ALIAS,
        x28=int(maintained),
    )
    assert run(bare).kind == ExitKind.HALT
    rounds, wrong = bare.vcpu.get("x5", "x6")
    bare.close()
    assert (rounds, wrong) == (ROUNDS, 0)


@pytest.mark.parametrize("isa", ["aarch64", "arm", "riscv64", "x86_64"])
def test_code_that_a_loader_replaces_is_run(isa):
    wait = {"aarch64": "d503207f", "arm": "e320f003", "riscv64": "10500073", "x86_64": "f4"}[isa]
    # set the accumulator to 1, to 2
    one = {"aarch64": "d2800020", "arm": "e3a00001", "riscv64": "00100513", "x86_64": "b8 01 00 00 00"}[isa]
    two = {"aarch64": "d2800040", "arm": "e3a00002", "riscv64": "00200513", "x86_64": "b8 02 00 00 00"}[isa]
    register = {"aarch64": "x0", "arm": "r0", "riscv64": "a0", "x86_64": "rax"}[isa]
    bare = Bare(Engine("tcg"), isa)
    for text, value in ((one, 1), (two, 2), (one, 1)):
        bare.load(words(f"{text} {wait}", isa))
        bare.vcpu.set(**{bare.arch.pc: CODE[isa]} if isa != "x86_64" or value == 2 else {})
        if isa == "x86_64":
            bare.vcpu.set(rip=bare.vcpu.get("rip")[0] if bare.vcpu.get("cs") == (0xF000,) else CODE[isa])
        assert run(bare).kind == ExitKind.HALT
        assert bare.vcpu.get(register) == (value,)
    bare.close()


@pytest.mark.parametrize("path", ["private", "public"])
def test_code_that_a_device_s_dma_replaces_is_run(path):
    """The guest asks the device, which writes through the RAM's own buffer and says so."""
    bare = Bare(Engine("tcg"), "aarch64", path=path)
    place = BUFFER - BASE

    def fill(offset: int, width: int, value: int) -> None:
        bare.ram.buffer[place : place + 8] = words(f"{0xD2800000 | value << 5:08x} d65f03c0", "aarch64")
        bare.memory.written(BUFFER, 8)

    bare.device.ops(None, fill)
    bare.memory.place(bare.device, DEVICE)
    # x5: round; str w5, [x1]; blr x3; add x6, x6, x0; add x5, x5, #1; cmp x5, #100; b.ne
    bare.load(words("b9000025 d63f0060 8b0000c6 910004a5 f10190bf 54ffff61 d503207f", "aarch64"))
    bare.vcpu.set(x1=DEVICE, x3=BUFFER)
    assert run(bare).kind == ExitKind.HALT
    total = bare.vcpu.get("x6")[0]
    bare.close()
    assert total == sum(range(100))


def test_a_page_of_data_beside_code_keeps_both_right():
    """Stores next to code that runs: the page is marked, the code stays what it is."""
    bare = Bare(Engine("tcg"), "aarch64")
    # str x5, [x1]; ldr x0, [x1]; add x6, x6, x0; add x5, x5, #1; cmp x5, #1000; b.ne
    bare.load(words("f9000025 f9400020 8b0000c6 910004a5 f10fa0bf 54ffff61 d503207f", "aarch64"))
    bare.vcpu.set(x1=BASE + 0x800)
    assert run(bare).kind == ExitKind.HALT
    assert bare.vcpu.get("x6") == (sum(range(1000)),)
    bare.close()
