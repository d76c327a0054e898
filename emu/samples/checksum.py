"""A Linux program for arm64: prints uname's machine and the CRC-32 of its standard input.

Its output is one line, `aarch64 3610a686`, which Python's zlib.crc32 and os.uname can be asked about too.  It
makes four kinds of system call (read, uname, write, exit) and branches, loads and stores like any
program.  Registers: w19 the CRC, w20 the polynomial, x1 the place in the buffer on the stack.
"""

from emu.samples import from_words

LISTING = """
12800013      mov   w19, #-1
52906414      mov   w20, #0x8320
72bdb714      movk  w20, #0xedb8, lsl #16
d14007ff      sub   sp, sp, #4096
          read:
d2800000      mov   x0, #0
910003e1      mov   x1, sp
d2820002      mov   x2, #4096
d28007e8      mov   x8, #63
d4000001      svc   #0
f100001f      cmp   x0, #0
540001ed      b.le  done
910003e1      mov   x1, sp
8b000022      add   x2, x1, x0
          byte:
38401423      ldrb  w3, [x1], #1
4a030273      eor   w19, w19, w3
52800104      mov   w4, #8
          bit:
7200027f      tst   w19, #1
53017e73      lsr   w19, w19, #1
4a140265      eor   w5, w19, w20
1a9310b3      csel  w19, w5, w19, ne
71000484      subs  w4, w4, #1
54ffff61      b.ne  bit
eb02003f      cmp   x1, x2
54fffec1      b.ne  byte
17ffffec      b     read
          done:
2a3303f3      mvn   w19, w19
910003e0      mov   x0, sp
d2801408      mov   x8, #160
d4000001      svc   #0
910413e1      add   x1, sp, #260
d2800002      mov   x2, #0
          length:
38626823      ldrb  w3, [x1, x2]
34000063      cbz   w3, space
91000442      add   x2, x2, #1
17fffffd      b     length
          space:
52800403      mov   w3, #32
38226823      strb  w3, [x1, x2]
91000442      add   x2, x2, #1
52800104      mov   w4, #8
          digit:
13937273      ror   w19, w19, #28
12000e63      and   w3, w19, #15
7100287f      cmp   w3, #10
1100c065      add   w5, w3, #48
11015c63      add   w3, w3, #87
1a8330a3      csel  w3, w5, w3, lo
38226823      strb  w3, [x1, x2]
91000442      add   x2, x2, #1
71000484      subs  w4, w4, #1
54fffee1      b.ne  digit
52800143      mov   w3, #10
38226823      strb  w3, [x1, x2]
91000442      add   x2, x2, #1
d2800020      mov   x0, #1
d2800808      mov   x8, #64
d4000001      svc   #0
d2800000      mov   x0, #0
d2800ba8      mov   x8, #93
d4000001      svc   #0
"""


def program() -> bytes:
    """The ELF file."""
    from emu.samples.elf import executable
    from isa.aarch64 import ARCH

    return executable(ARCH, from_words(LISTING))
