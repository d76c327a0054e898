"""x86-64 guests that do what no kernel does, each in a microvm for a moment: none harms or hangs the host.

    python -m tests.guest.x86_hostile ENGINE SEED SECONDS [GUEST...]

runs them under an accelerator, each for so long, with virtio devices beside; prints each one's name before
and its end behind.  An end is: its time is up (and the vCPU let itself be stopped), a reset, a power-off, a
fault that can be reported.  Random ones start from SEED.
"""

from __future__ import annotations

import contextlib
import random
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import emu.block
from accel.errors import GuestFault
from emu import Machine
from emu.loader import x86_rom
from emu.net.sockets import pair
from emu.virtio.balloon import VirtioBalloon
from emu.virtio.blk import VirtioBlk
from emu.virtio.net import VirtioNet
from emu.virtio.p9 import open_share
from emu.virtio.rng import VirtioRng
from tests.guest.bare import words

# By offset in the ROM: where a guest begins, tables of 256 gates, and where these lead.
ENTRY, IDT, UNDEFINED, AGAIN, HANDLERS = 0x8800, 0xA000, 0xB000, 0xC000, 0xD000
WITH_CODE, SKIP, ACKNOWLEDGE, UD2, FROM_THE_TOP = (HANDLERS + 0x20 * n for n in range(5))
ERROR_CODES = (8, 10, 11, 12, 13, 14, 17, 21)
SKIPPING = """
    48 83 04 24 02                 ; add [rsp],0x2
    48 cf                          ; iretq
"""
STUBS = {
    WITH_CODE: "48 83 c4 08  ; add rsp,0x8" + SKIPPING,
    SKIP: SKIPPING,
    ACKNOWLEDGE: """
    50                             ; push rax
    b8 b0 00 e0 fe                 ; mov eax,0xfee000b0
    c7 00 00 00 00 00              ; mov [rax],0x0
    58                             ; pop rax
    48 cf                          ; iretq
    """,
    UD2: "0f 0b  ; ud2",
    FROM_THE_TOP: "bc 00 7c 00 00  ; mov esp,0x7c00" + "\n0f 0b  ; ud2",
}

# Before each: an IDT, the local APIC and its timer, a random number in RBX.  11 11 .. stands for others.
START = """
    b8 11 11 11 11                 ; mov eax,0x11111111
    0f 01 18                       ; lidt [rax]
    bf 00 00 e0 fe                 ; mov edi,0xfee00000
    c7 87 f0 00 00 00 ff 01 00 00  ; mov [rdi+0xf0],0x1ff
    c7 87 e0 03 00 00 0b 00 00 00  ; mov [rdi+0x3e0],0xb
    c7 87 20 03 00 00 40 00 02 00  ; mov [rdi+0x320],0x20040
    c7 87 80 03 00 00 50 c3 00 00  ; mov [rdi+0x380],0xc350
    48 bb 11 11 11 11 11 11 11 11  ; movabs rbx,0x1111111111111111
"""
LIDT = x86_rom.BASE + 0xFF0  # what LIDT loads for a table: behind its gates
ADDRESS, SEED = b"\x11" * 4, b"\x11" * 8

# A random number from the last one (xorshift), a port or the like from it, and one of eight accesses.
PORTS = """
    48 89 d9                       ; mov rcx,rbx
    48 c1 e1 0d                    ; shl rcx,0xd
    48 31 cb                       ; xor rbx,rcx
    48 89 d9                       ; mov rcx,rbx
    48 c1 e9 07                    ; shr rcx,0x7
    48 31 cb                       ; xor rbx,rcx
    48 89 d9                       ; mov rcx,rbx
    48 c1 e1 11                    ; shl rcx,0x11
    48 31 cb                       ; xor rbx,rcx
    48 89 da                       ; mov rdx,rbx
    48 c1 ea 18                    ; shr rdx,0x18
    48 0f ba e3 3c                 ; bt rbx,0x3c
    72 06                          ; jb 32
    81 e2 ff 07 00 00              ; and edx,0x7ff
    48 89 d8                       ; mov rax,rbx
    be 00 50 00 00                 ; mov esi,0x5000
    bf 00 50 00 00                 ; mov edi,0x5000
    b9 03 00 00 00                 ; mov ecx,0x3
    49 89 d8                       ; mov r8,rbx
    49 c1 e8 32                    ; shr r8,0x32
    41 83 e0 07                    ; and r8d,0x7
    4c 8d 0d 0a 00 00 00           ; lea r9,[rip+0xa]
    41 c1 e0 02                    ; shl r8d,0x2
    4d 01 c1                       ; add r9,r8
    41 ff e1                       ; jmp r9
    ee                             ; out dx,al
    eb 1b                          ; jmp 7e
    90                             ; nop
    66 ef                          ; out dx,ax
    eb 16                          ; jmp 7e
    ef                             ; out dx,eax
    eb 13                          ; jmp 7e
    90                             ; nop
    ec                             ; in al,dx
    eb 0f                          ; jmp 7e
    90                             ; nop
    66 ed                          ; in ax,dx
    eb 0a                          ; jmp 7e
    ed                             ; in eax,dx
    eb 07                          ; jmp 7e
    90                             ; nop
    f3 6e                          ; rep outs dx,ds:[rsi]
    eb 02                          ; jmp 7e
    f3 6d                          ; rep ins es:[rdi],dx
    eb 80                          ; jmp 0
"""

MSRS = """
    48 89 d9                       ; mov rcx,rbx
    48 c1 e1 0d                    ; shl rcx,0xd
    48 31 cb                       ; xor rbx,rcx
    48 89 d9                       ; mov rcx,rbx
    48 c1 e9 07                    ; shr rcx,0x7
    48 31 cb                       ; xor rbx,rcx
    48 89 d9                       ; mov rcx,rbx
    48 c1 e1 11                    ; shl rcx,0x11
    48 31 cb                       ; xor rbx,rcx
    48 89 d9                       ; mov rcx,rbx
    48 c1 e9 11                    ; shr rcx,0x11
    81 e1 ff 1f 00 00              ; and ecx,0x1fff
    48 0f ba e3 3c                 ; bt rbx,0x3c
    73 06                          ; jae 38
    81 c9 00 00 00 c0              ; or ecx,0xc0000000
    48 0f ba e3 3d                 ; bt rbx,0x3d
    73 09                          ; jae 48
    83 e1 4b                       ; and ecx,0x4b
    81 c9 00 4d 56 4b              ; or ecx,0x4b564d00
    48 89 d8                       ; mov rax,rbx
    48 89 da                       ; mov rdx,rbx
    48 c1 ea 20                    ; shr rdx,0x20
    48 0f ba e3 3e                 ; bt rbx,0x3e
    72 04                          ; jb 5d
    0f 32                          ; rdmsr
    eb 0b                          ; jmp 68
    48 0f ba e3 3b                 ; bt rbx,0x3b
    72 02                          ; jb 66
    31 d2                          ; xor edx,edx
    0f 30                          ; wrmsr
    eb 96                          ; jmp 0
"""

DEVICES = """
    48 89 d9                       ; mov rcx,rbx
    48 c1 e1 0d                    ; shl rcx,0xd
    48 31 cb                       ; xor rbx,rcx
    48 89 d9                       ; mov rcx,rbx
    48 c1 e9 07                    ; shr rcx,0x7
    48 31 cb                       ; xor rbx,rcx
    48 89 d9                       ; mov rcx,rbx
    48 c1 e1 11                    ; shl rcx,0x11
    48 31 cb                       ; xor rbx,rcx
    48 89 df                       ; mov rdi,rbx
    48 c1 ef 1e                    ; shr rdi,0x1e
    81 e7 ff 0f 00 00              ; and edi,0xfff
    49 89 d8                       ; mov r8,rbx
    49 c1 e8 38                    ; shr r8,0x38
    41 83 e0 03                    ; and r8d,0x3
    41 c1 e0 14                    ; shl r8d,0x14
    42 8d bc 07 00 00 b0 fe        ; lea edi,[rdi+r8*1-0x1500000]
    48 89 d8                       ; mov rax,rbx
    49 89 d8                       ; mov r8,rbx
    49 c1 e8 32                    ; shr r8,0x32
    41 83 e0 07                    ; and r8d,0x7
    4c 8d 0d 09 00 00 00           ; lea r9,[rip+0x9]
    4f 8d 0c c1                    ; lea r9,[r9+r8*8]
    41 ff e1                       ; jmp r9
    66 90                          ; xchg ax,ax
    88 07                          ; mov [rdi],al
    eb 37                          ; jmp 9b
    0f 1f 40 00                    ; nop [rax+0x0]
    66 89 07                       ; mov [rdi],ax
    eb 2e                          ; jmp 9b
    0f 1f 00                       ; nop [rax]
    89 07                          ; mov [rdi],eax
    eb 27                          ; jmp 9b
    0f 1f 40 00                    ; nop [rax+0x0]
    48 89 07                       ; mov [rdi],rax
    eb 1e                          ; jmp 9b
    0f 1f 00                       ; nop [rax]
    8a 07                          ; mov al,[rdi]
    eb 17                          ; jmp 9b
    0f 1f 40 00                    ; nop [rax+0x0]
    66 8b 07                       ; mov ax,[rdi]
    eb 0e                          ; jmp 9b
    0f 1f 00                       ; nop [rax]
    8b 07                          ; mov eax,[rdi]
    eb 07                          ; jmp 9b
    0f 1f 40 00                    ; nop [rax+0x0]
    48 8b 07                       ; mov rax,[rdi]
    e9 60 ff ff ff                 ; jmp 0
"""


# Guests by name; then those that put something at a place.
GUESTS = {
    "garbage to every port": "fb  ; sti" + PORTS,
    "garbage to every MSR": MSRS,
    "garbage to every device": "fb  ; sti" + DEVICES,
    "a flood of a serial line": """
    ba f8 03 00 00                 ; mov edx,0x3f8
    b0 78                          ; mov al,0x78
    ee                             ; out dx,al
    eb fd                          ; jmp 7
    """,
    "a string without end to a serial line": """
    ba f8 03 00 00                 ; mov edx,0x3f8
    31 f6                          ; xor esi,esi
    48 c7 c1 ff ff ff ff           ; mov rcx,0xffffffffffffffff
    f3 6e                          ; rep outs dx,ds:[rsi]
    eb ee                          ; jmp 0
    """,
    "a string without end from a serial line": """
    ba f8 03 00 00                 ; mov edx,0x3f8
    31 ff                          ; xor edi,edi
    48 c7 c1 ff ff ff ff           ; mov rcx,0xffffffffffffffff
    f3 6c                          ; rep ins es:[rdi],dx
    eb ee                          ; jmp 0
    """,
    "page tables that point to themselves": """
    bf 00 50 00 00                 ; mov edi,0x5000
    b8 63 50 00 00                 ; mov eax,0x5063
    b9 00 02 00 00                 ; mov ecx,0x200
    f3 48 ab                       ; rep stos es:[rdi],rax
    b8 00 50 00 00                 ; mov eax,0x5000
    0f 22 d8                       ; mov cr3,rax
    0f 0b                          ; ud2
    """,
    "a string without end between devices": """
    be 00 00 b0 fe                 ; mov esi,0xfeb00000
    bf 00 00 e0 fe                 ; mov edi,0xfee00000
    48 c7 c1 ff ff ff ff           ; mov rcx,0xffffffffffffffff
    f3 a4                          ; rep movs es:[rdi],ds:[rsi]
    eb eb                          ; jmp 0
    """,
    "a string without end to a device": """
    bf 00 00 b0 fe                 ; mov edi,0xfeb00000
    48 c7 c1 ff ff ff ff           ; mov rcx,0xffffffffffffffff
    31 c0                          ; xor eax,eax
    f3 48 ab                       ; rep stos es:[rdi],rax
    eb ed                          ; jmp 0
    """,
    "the fastest timer of the APIC": """
    c7 87 80 03 00 00 01 00 00 00  ; mov [rdi+0x380],0x1
    fb                             ; sti
    eb fe                          ; jmp b
    """,
    "asleep, and woken at once": """
    c7 87 80 03 00 00 01 00 00 00  ; mov [rdi+0x380],0x1
    fa                             ; cli
    b9 e8 03 00 00                 ; mov ecx,0x3e8
    ff c9                          ; dec ecx
    75 fc                          ; jne to the dec
    fb                             ; sti: what has come meanwhile wakes from the hlt, and not before
    f4                             ; hlt
    eb f2                          ; jmp to the cli
    """,
    "the fastest timer of the 8254": """
    b0 34                          ; mov al,0x34
    e6 43                          ; out 0x43,al
    b0 02                          ; mov al,0x2
    e6 40                          ; out 0x40,al
    31 c0                          ; xor eax,eax
    e6 40                          ; out 0x40,al
    b0 11                          ; mov al,0x11
    e6 20                          ; out 0x20,al
    b0 20                          ; mov al,0x20
    e6 21                          ; out 0x21,al
    b0 04                          ; mov al,0x4
    e6 21                          ; out 0x21,al
    b0 03                          ; mov al,0x3
    e6 21                          ; out 0x21,al
    31 c0                          ; xor eax,eax
    e6 21                          ; out 0x21,al
    fb                             ; sti
    eb fe                          ; jmp 21
    """,
    "the fastest timer of the clock": """
    b0 0a                          ; mov al,0xa
    e6 70                          ; out 0x70,al
    b0 21                          ; mov al,0x21
    e6 71                          ; out 0x71,al
    b0 0b                          ; mov al,0xb
    e6 70                          ; out 0x70,al
    b0 72                          ; mov al,0x72
    e6 71                          ; out 0x71,al
    fb                             ; sti
    b0 0c                          ; mov al,0xc
    e6 70                          ; out 0x70,al
    e4 71                          ; in al,0x71
    eb f8                          ; jmp 11
    """,
    "a stack at no address": """
    48 bc 00 00 00 00 00 00 00 80  ; movabs rsp,0x8000000000000000
    50                             ; push rax
    """,
    "asleep without interrupts": "fa f4 eb fd  ; cli; hlt; jmp",
    "asleep without a reason": "fb f4 eb fd  ; sti; hlt; jmp",
    "nothing but prefixes": "66 2e f0 " * 20,
}
AT_PLACES = {
    "an IDT": """
    48 83 ec 10                    ; sub rsp,0x10
    66 c7 04 24 ff 0f              ; mov [rsp],0xfff
    c7 44 24 02 11 11 11 11        ; mov [rsp+0x2],0x11111111
    c7 44 24 06 00 00 00 00        ; mov [rsp+0x6],0x0
    0f 01 1c 24                    ; lidt [rsp]
    0f 0b                          ; ud2
    """,
    "a GDT": """
    48 83 ec 10                    ; sub rsp,0x10
    66 c7 04 24 ff 0f              ; mov [rsp],0xfff
    c7 44 24 02 11 11 11 11        ; mov [rsp+0x2],0x11111111
    c7 44 24 06 00 00 00 00        ; mov [rsp+0x6],0x0
    0f 01 14 24                    ; lgdt [rsp]
    b8 08 00 00 00                 ; mov eax,0x8
    8e d8                          ; mov ds,eax
    0f 00 d8                       ; ltr ax
    eb d6                          ; jmp 0
    """,
    "a stack": """
    bc 11 11 11 11                 ; mov esp,0x11111111
    50                             ; push rax
    e8 00 00 00 00                 ; call b
    0f 0b                          ; ud2
    """,
    "page tables": """
    b8 11 11 11 11                 ; mov eax,0x11111111
    0f 22 d8                       ; mov cr3,rax
    48 8b 00                       ; mov rax,[rax]
    0f 0b                          ; ud2
    """,
    "code": """
    b8 11 11 11 11                 ; mov eax,0x11111111
    ff e0                          ; jmp rax
    """,
}
# Both APICs, virtio; its first slot's end, no slot, no memory, ROM, the end of RAM.
PLACES = (
    0xFEE0_0000,
    0xFEC0_0000,
    0xFEB0_0000,
    0xFEB0_01FC,
    0xFEB1_0000,
    0xA000_0000,
    0xFFFF_F000,
    0x07FF_FFFE,
)
IDTS = {"exceptions in handlers": UNDEFINED, "exceptions without end": AGAIN}


def code(text: str, seed: int, place: int = 0, idt: int = IDT) -> bytes:
    """A guest's machine code."""
    start = (
        words(START).replace(SEED, struct.pack("<Q", seed)).replace(ADDRESS, struct.pack("<I", LIDT + idt))
    )
    return start + words(text).replace(ADDRESS, struct.pack("<I", place))


def rom(code: bytes) -> bytes:
    """The firmware: into 64-bit mode, then the code."""
    image = bytearray(x86_rom.long_mode(x86_rom.BASE + ENTRY))
    image[ENTRY : ENTRY + len(code)] = code
    for offset, text in STUBS.items():
        stub = words(text)
        image[offset : offset + len(stub)] = stub
    for table in (IDT, UNDEFINED, AGAIN):
        for vector in range(255):  # in place of the last, what LIDT loads
            stub = ACKNOWLEDGE if vector > 31 else WITH_CODE if vector in ERROR_CODES else SKIP
            if table != IDT and vector < 32:
                stub = UD2 if table == UNDEFINED else FROM_THE_TOP
            where = x86_rom.BASE + stub
            gate = struct.pack("<HHBBHII", where & 0xFFFF, 8, 0, 0x8E, where >> 16, 0, 0)
            image[table + 16 * vector : table + 16 * vector + 16] = gate
        struct.pack_into("<HQ", image, table + 0xFF0, 0xFEF, x86_rom.BASE + table)
    return bytes(image)


def guests(rng: random.Random) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Names, and what makes their firmware: for those that have a random number, another one each time."""
    for name, text in GUESTS.items():
        yield name, lambda text=text: rom(code(text, rng.getrandbits(64)))
    for name, text in AT_PLACES.items():
        for place in PLACES:
            yield f"{name} at {place:#x}", lambda text=text, place=place: rom(code(text, 1, place))
    for name, idt in IDTS.items():
        yield name, lambda idt=idt: rom(code("0f 0b  ; ud2", 1, idt=idt))


@contextlib.contextmanager
def virtio(folder: Path) -> Iterator[list]:
    """A device of each kind, with files in the folder."""
    (folder / "share").mkdir(exist_ok=True)
    emu.block.create(folder / "disk", 1 << 20)
    ends = pair()
    with contextlib.closing(ends[1]):
        disk = VirtioBlk(emu.block.open(folder / "disk"))
        yield [disk, VirtioNet(ends[0]), open_share(f"{folder / 'share'}", 0), VirtioRng(), VirtioBalloon()]
    (folder / "disk").unlink()


def run(engine: str, make: Callable[[], bytes], seconds: float, folder: Path, *, again: bool) -> str:
    """One guest's life; how it ended.  again: it begins anew, with another number, until time is up."""
    end = time.monotonic() + seconds
    with (
        virtio(folder) as devices,
        Machine("microvm", accel=engine, firmware=make(), virtio=devices, serial="null") as machine,
    ):
        while True:
            try:
                how = machine.run(timeout=max(0, end - time.monotonic())).reason
            except GuestFault as fault:
                how = str(fault)
            machine.stop()
            assert "rip " in machine.describe(0)
            if how == "timeout" or not again:
                return how
            machine.firmware = make()
            machine.reset()


def main(engine: str, seed: int, seconds: float, wanted: list[str]) -> None:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        for name, make in guests(rng):
            if not wanted or name in wanted:
                print(f"{name}: ", end="", flush=True)
                print(run(engine, make, seconds, Path(folder), again="garbage" in name), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:])
