"""A bare-metal guest for arm64's board virt that asks for a name on its serial line, greets it, and asks on.

What is typed is echoed, as by a terminal's driver.  An empty name switches the machine off (PSCI, by hvc).
Registers: x19 the PL011, x20 the texts, with the name's buffer behind them, x21 the place in that.
"""

from emu.samples import from_words

LISTING = """
d2a12013    mov    x19, #0x09000000
10000414    adr    x20, text
aa1403e0    mov    x0, x20
          ask:
94000017    bl     say
91010295    add    x21, x20, #64
          read:
b9401a61    ldr    w1, [x19, #0x18]
3727ffe1    tbnz   w1, #4, read
b9400261    ldr    w1, [x19]
39000261    strb   w1, [x19]
7100343f    cmp    w1, #13
54000060    b.eq   got
380016a1    strb   w1, [x21], #1
17fffff9    b      read
          got:
390002bf    strb   wzr, [x21]
91010280    add    x0, x20, #64
eb0002bf    cmp    x21, x0
540000e0    b.eq   off
          greet:
91004280    add    x0, x20, #16
94000008    bl     say
91010280    add    x0, x20, #64
94000006    bl     say
91008280    add    x0, x20, #32
17ffffed    b      ask
          off:
52800100    mov    w0, #0x0008
72b08000    movk   w0, #0x8400, lsl #16
d4000002    hvc    #0
          say:
38401401    ldrb   w1, [x0], #1
340000a1    cbz    w1, said
          ready:
b9401a62    ldr    w2, [x19, #0x18]
372fffe2    tbnz   w2, #5, ready
39000261    strb   w1, [x19]
17fffffb    b      say
          said:
d65f03c0    ret
          text:
"""
# At multiples of 16 bytes behind the code; the name follows.
TEXTS = (b"your name? ", b"\r\nhello, ", b"\r\nyour name? ")


def kernel() -> bytes:
    """The guest as a raw image, which the board enters at its first byte."""
    return from_words(LISTING) + b"".join(text.ljust(16, b"\0") for text in TEXTS) + bytes(80)
