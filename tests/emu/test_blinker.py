"""The example device, from one file, under every accelerator and on every architecture."""

import importlib.util
import struct
import sys
from pathlib import Path

import pytest

from emu import Machine
from emu.devices.test_exit import SifiveTest
from tests.conftest import usable

EXAMPLES = Path(__file__).parents[2] / "examples"
PAIRS = [
    *(("tcg", arch) for arch in ("aarch64", "arm", "riscv64", "x86_64")),
    ("kvm", "x86_64"),
]


@pytest.fixture(scope="module")
def example():
    """The modules blinker and blinker_machine, as `python examples/blinker_machine.py` finds them."""
    found = {}
    for name in ("blinker", "blinker_machine"):
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        found[name] = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found[name])
    yield found["blinker_machine"]
    for name in found:
        del sys.modules[name]


@pytest.mark.parametrize(("accel", "arch"), PAIRS)
def test_a_guest_polls_the_example_device(example, accel, arch, capsys):
    usable(accel)
    assert example.main(arch, accel) == 0
    assert f"{arch} under {accel}: guest-shutdown" in capsys.readouterr().out


def words(*numbers):
    return struct.pack(f"<{len(numbers)}I", *numbers)


# Each lets the Blinker interrupt it every millisecond, sleeps, acknowledges and counts three interrupts, and
# ends the machine with that count.
SLEEPERS = {
    # The Blinker is the GIC's interrupt 32 + 40.
    "aarch64": words(
        0xD2A16001,  # mov  x1, #0x0b000000     Blinker
        0xD2A10005,  # mov  x5, #0x08000000     distributor
        0x914040A6,  # add  x6, x5, #0x10000    CPU interface
        0x52800022,  # mov  w2, #1
        0xB90000A2,  # str  w2, [x5]            GICD_CTLR
        0x52802003,  # mov  w3, #0x100
        0xB90108A3,  # str  w3, [x5, #0x108]    GICD_ISENABLER2
        0x52801FE3,  # mov  w3, #0xff
        0xB90004C3,  # str  w3, [x6, #4]        GICC_PMR
        0xB90000C2,  # str  w2, [x6]            GICC_CTLR
        0x52800223,  # mov  w3, #0x11
        0xB9000023,  # str  w3, [x1]            CTRL
        0x52800007,  # mov  w7, #0
        0xD503207F,  # wfi
        0xB9400CC3,  # ldr  w3, [x6, #0xc]      GICC_IAR
        0x7101207F,  # cmp  w3, #72
        0x54FFFFA1,  # b.ne wfi
        0xB9000822,  # str  w2, [x1, #8]        STATUS
        0xB90010C3,  # str  w3, [x6, #0x10]     GICC_EOIR
        0x110004E7,  # add  w7, w7, #1
        0x71000CFF,  # cmp  w7, #3
        0x54FFFF03,  # b.lo wfi
        0xB900003F,  # str  wzr, [x1]
        0x52866662,  # mov  w2, #0x3333
        0x2A074042,  # orr  w2, w2, w7, lsl #16
        0x91400424,  # add  x4, x1, #0x1000
        0xB9000082,  # str  w2, [x4]            exit
        0x14000000,  # b    .
    ),
    "arm": words(
        0xE3A0140B,  # mov  r1, #0x0b000000     Blinker
        0xE3A05302,  # mov  r5, #0x08000000     distributor
        0xE2856801,  # add  r6, r5, #0x10000    CPU interface
        0xE3A02001,  # mov  r2, #1
        0xE5852000,  # str  r2, [r5]            GICD_CTLR
        0xE3A03C01,  # mov  r3, #0x100
        0xE5853108,  # str  r3, [r5, #0x108]    GICD_ISENABLER2
        0xE3A030FF,  # mov  r3, #0xff
        0xE5863004,  # str  r3, [r6, #4]        GICC_PMR
        0xE5862000,  # str  r2, [r6]            GICC_CTLR
        0xE3A03011,  # mov  r3, #0x11
        0xE5813000,  # str  r3, [r1]            CTRL
        0xE3A07000,  # mov  r7, #0
        0xE320F003,  # wfi
        0xE596300C,  # ldr  r3, [r6, #0xc]      GICC_IAR
        0xE3530048,  # cmp  r3, #72
        0x1AFFFFFB,  # bne  wfi
        0xE5812008,  # str  r2, [r1, #8]        STATUS
        0xE5863010,  # str  r3, [r6, #0x10]     GICC_EOIR
        0xE2877001,  # add  r7, r7, #1
        0xE3570003,  # cmp  r7, #3
        0x3AFFFFF6,  # blo  wfi
        0xE3A02000,  # mov  r2, #0
        0xE5812000,  # str  r2, [r1]
        0xE3032333,  # movw r2, #0x3333
        0xE1822807,  # orr  r2, r2, r7, lsl #16
        0xE2814A01,  # add  r4, r1, #0x1000
        0xE5842000,  # str  r2, [r4]            exit
        0xEAFFFFFE,  # b    .
    ),
    # The Blinker is the PLIC's source 40.
    "riscv64": words(
        0x0B0002B7,  # lui  t0, 0xb000          Blinker
        0x0C0004B7,  # lui  s1, 0xc000          PLIC
        0x00100313,  # li   t1, 1
        0x0A64A023,  # sw   t1, 160(s1)         priority of source 40
        0x0C002937,  # lui  s2, 0xc002
        0x10000393,  # li   t2, 0x100
        0x00792223,  # sw   t2, 4(s2)           enable, context 0
        0x0C2009B7,  # lui  s3, 0xc200
        0x0009A023,  # sw   zero, 0(s3)         threshold
        0x000013B7,  # lui  t2, 1
        0x80038393,  # addi t2, t2, -2048
        0x3043A073,  # csrs mie, t2             MEIE
        0x01100393,  # li   t2, 0x11
        0x0072A023,  # sw   t2, 0(t0)           CTRL
        0x00000A13,  # li   s4, 0
        0x02800393,  # li   t2, 40
        0x00300A93,  # li   s5, 3
        0x10500073,  # wfi
        0x0049AE03,  # lw   t3, 4(s3)           claim
        0xFE7E1CE3,  # bne  t3, t2, wfi
        0x0062A423,  # sw   t1, 8(t0)           STATUS
        0x01C9A223,  # sw   t3, 4(s3)           complete
        0x001A0A13,  # addi s4, s4, 1
        0xFF5A64E3,  # bltu s4, s5, wfi
        0x0002A023,  # sw   zero, 0(t0)
        0x010A1A13,  # slli s4, s4, 16
        0x00003EB7,  # lui  t4, 3
        0x333E8E93,  # addi t4, t4, 0x333
        0x01DA6A33,  # or   s4, s4, t4
        0x00001F37,  # lui  t5, 1
        0x005F0F33,  # add  t5, t5, t0
        0x014F2023,  # sw   s4, 0(t5)           exit
        0x0000006F,  # j    .
    ),
    # The Blinker is line 5 of the first 8259, whose vectors begin at 0x20; the IDT is at 0x20000.
    "x86_64": bytes.fromhex(
        "bb0000000b"  # mov  ebx, 0x0b000000
        "31c9"  # xor  ecx, ecx
        "488d057a000000"  # lea  rax, [handler]
        "bf50000200"  # mov  edi, 0x20050
        "6689042550020200"  # mov  [0x20250], ax
        "66c7042552020200" "0800"  # mov  word [0x20252], 8
        "66c7042554020200" "008e"  # mov  word [0x20254], 0x8e00
        "48c1e810"  # shr  rax, 16
        "6689042556020200"  # mov  [0x20256], ax
        "48c7042558020200" "00000000"  # mov  qword [0x20258], 0
        "0f011d49000000"  # lidt [idtr]
        "b011" "e620"  # ICW1
        "b020" "e621"  # ICW2: vectors from 0x20
        "b004" "e621"  # ICW3: the second chip at line 2
        "b001" "e621"  # ICW4
        "b0df" "e621"  # OCW1: line 5 alone
        "c70311000000"  # mov  dword [rbx], 0x11      CTRL
        "fb"  # sti
        "f4"  # hlt
        "83f903"  # cmp  ecx, 3
        "72fa"  # jb   hlt
        "fa"  # cli
        "c70300000000"  # mov  dword [rbx], 0
        "c1e110"  # shl  ecx, 16
        "81c933330000"  # or   ecx, 0x3333
        "898b00100000"  # mov  [rbx+0x1000], ecx      exit
        "f4" "ebfd"  # hlt; jmp .-1
        # handler:
        "ffc1"  # inc  ecx
        "c7430801000000"  # mov  dword [rbx+8], 1        STATUS
        "b020" "e620"  # OCW2: end of interrupt
        "48cf"  # iretq
        # idtr:
        "ff02" "0000020000000000"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("accel", "arch"), PAIRS)
def test_a_guest_sleeps_until_the_example_device_interrupts(example, accel, arch):
    usable(accel)
    blinker = sys.modules["blinker"].Blinker()
    irq = 5 if arch == "x86_64" else 40
    with Machine(
        example.BOARDS[arch],
        arch=arch,
        accel=accel,
        kernel=SLEEPERS[arch],
        devices=[(blinker, example.BLINKER, irq), (SifiveTest(), example.EXIT)],
    ) as machine:
        result = machine.run(timeout=30)
    assert (result.reason, result.code) == ("guest-shutdown", 3)


def test_the_example_device_is_about_thirty_lines():
    code = [line for line in (EXAMPLES / "blinker.py").read_text().splitlines() if line.strip()]
    assert len(code) <= 35
