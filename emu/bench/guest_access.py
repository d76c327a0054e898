"""Machines that read a device's register again and again, between two marks on their serial line.

Behind the first mark they wait for a byte, so that what comes next is measured from its begin.
"""

from __future__ import annotations

from emu.bench.guest_timed import COUNTER, code, number
from emu.loader import x86_rom

# On the board virt: x21 is the register's address, x20 how often; the line is a PL011 at 0x9000000.
AARCH64 = """
d2a12002    mov   x2, #0x9000000
52806023    mov   w3, #0x301
b9003043    str   w3, [x2, #48]
10000261    adr   x1, first
9400000b    bl    say
            empty:
b9401843    ldr   w3, [x2, #24]
3727ffe3    tbnz  w3, #4, empty
b9400043    ldr   w3, [x2]
            again:
b94002a0    ldr   w0, [x21]
f1000694    subs  x20, x20, #1
54ffffc1    b.ne  again
100001c1    adr   x1, last
94000003    bl    say
            end:
d503207f    wfi
17ffffff    b     end
            say:
38401423    ldrb  w3, [x1], #1
340000a3    cbz   w3, said
            full:
b9401844    ldr   w4, [x2, #24]
372fffe4    tbnz  w4, #5, full
b9000043    str   w3, [x2]
17fffffb    b     say
            said:
d65f03c0    ret
            first:
62204040    .ascii "@@ b"
6e696765    .ascii "egin"
0000000a    .word 10
            last:
65204040    .ascii "@@ e"
2020646e    .ascii "nd  "
0000000a    .word 10
"""
# PL011's FR, and where a device of ours is put, behind virt's own.
PL011_FR, DEVICE = 0x0900_0018, 0x0B00_0000
# On PCs: r12d is how often; the line is a 16550 at port 0x3f8, and its LSR is what is read.
X86_64_PORT = """
bafd030000          mov     edx, 0x3fd
488d3537000000      lea     rsi, [rip+first]
e820000000          call    say
                    empty:
ec                  in      al, dx
a801                test    al, 1
74fb                jz      empty
b2f8                mov     dl, 0xf8
ec                  in      al, dx
b2fd                mov     dl, 0xfd
                    again:
ec                  in      al, dx
4183ec01            sub     r12d, 1
75f9                jnz     again
488d3524000000      lea     rsi, [rip+last]
e803000000          call    say
                    end:
f4                  hlt
ebfd                jmp     end
                    say:
ec                  in      al, dx
a820                test    al, 0x20
74fb                jz      say
ac                  lodsb
84c0                test    al, al
7407                jz      said
b2f8                mov     dl, 0xf8
ee                  out     dx, al
b2fd                mov     dl, 0xfd
ebef                jmp     say
                    said:
c3                  ret
                    first:
404020626567696e    .ascii "@@ begin"
0a00                .byte 10, 0
                    last:
404020656e64        .ascii "@@ end"
0a00                .byte 10, 0
"""
# The same for the register at ebx.
X86_64_MEMORY = """
bafd030000          mov     edx, 0x3fd
488d3538000000      lea     rsi, [rip+first]
e821000000          call    say
                    empty:
ec                  in      al, dx
a801                test    al, 1
74fb                jz      empty
b2f8                mov     dl, 0xf8
ec                  in      al, dx
b2fd                mov     dl, 0xfd
                    again:
8b03                mov     eax, [rbx]
4183ec01            sub     r12d, 1
75f8                jnz     again
488d3524000000      lea     rsi, [rip+last]
e803000000          call    say
                    end:
f4                  hlt
ebfd                jmp     end
                    say:
ec                  in      al, dx
a820                test    al, 0x20
74fb                jz      say
ac                  lodsb
84c0                test    al, al
7407                jz      said
b2f8                mov     dl, 0xf8
ee                  out     dx, al
b2fd                mov     dl, 0xfd
ebef                jmp     say
                    said:
c3                  ret
                    first:
404020626567696e    .ascii "@@ begin"
0a00                .byte 10, 0
                    last:
404020656e64        .ascii "@@ end"
0a00                .byte 10, 0
"""
# Where the PC's code is within its ROM; what leads there is in the first 36 KiB.
ENTRY = 0x9000


def aarch64(address: int, count: int) -> bytes:
    """Firmware for virt, from the reset vector on."""
    numbers = number("aarch64", 21, address) + number("aarch64", COUNTER["aarch64"], count)
    return numbers + code("aarch64", AARCH64)


def x86_64(address: int | None, count: int) -> bytes:
    """A PC's firmware, 64 KiB; address None: the 16550's LSR by port."""
    body = number("x86_64", COUNTER["x86_64"], count)
    if address is None:
        body += code("x86_64", X86_64_PORT)
    else:
        body += number("x86_64", 3, address) + code("x86_64", X86_64_MEMORY)
    rom = bytearray(x86_rom.long_mode(x86_rom.BASE + ENTRY))
    rom[ENTRY : ENTRY + len(body)] = body
    return bytes(rom)
