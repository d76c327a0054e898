"""What the suite `translate` repeats: loops of a few instructions, the same work on each ISA."""

from __future__ import annotations

# Multiply, add, shift: each needs the one before.
INTEGERS = {
    "aarch64": """
d2800033    mov   x19, #1
529d32b5    mov   w21, #0xe995
72ab7a35    movk  w21, #0x5bd1, lsl #16
            again:
9b157e73    mul   x19, x19, x21
8b140273    add   x19, x19, x20
ca533673    eor   x19, x19, x19, lsr #13
f1000694    subs  x20, x20, #1
54ffff81    b.ne  again
""",
    "x86_64": """
bb01000000      mov     ebx, 1
41bd95e9d15b    mov     r13d, 0x5bd1e995
                again:
490fafdd        imul    rbx, r13
4c01e3          add     rbx, r12
4889d8          mov     rax, rbx
48c1e80d        shr     rax, 13
4831c3          xor     rbx, rax
4983ec01        sub     r12, 1
75e9            jnz     again
""",
}
# A table of 4 KiB, read and written at places that nobody can foresee.
MEMORY = {
    "aarch64": """
d14007ff    sub   sp, sp, #4096
d2800016    mov   x22, #0
            fill:
f8367bf6    str   x22, [sp, x22, lsl #3]
910006d6    add   x22, x22, #1
f10802df    cmp   x22, #512
54ffffa1    b.ne  fill
d2800033    mov   x19, #1
529d32b5    mov   w21, #0xe995
72ab7a35    movk  w21, #0x5bd1, lsl #16
            again:
d360a276    ubfx  x22, x19, #32, #9
f8767bf7    ldr   x23, [sp, x22, lsl #3]
f8367bf3    str   x19, [sp, x22, lsl #3]
ca170273    eor   x19, x19, x23
9b157e73    mul   x19, x19, x21
8b140273    add   x19, x19, x20
f1000694    subs  x20, x20, #1
54ffff21    b.ne  again
914007ff    add   sp, sp, #4096
""",
    "x86_64": """
4881ec00100000    sub     rsp, 4096
31c0              xor     eax, eax
                  fill:
488904c4          mov     [rsp+rax*8], rax
48ffc0            inc     rax
483d00020000      cmp     rax, 512
75f1              jne     fill
bb01000000        mov     ebx, 1
41bd95e9d15b      mov     r13d, 0x5bd1e995
                  again:
4889d8            mov     rax, rbx
48c1e820          shr     rax, 32
25ff010000        and     eax, 511
488b0cc4          mov     rcx, [rsp+rax*8]
48891cc4          mov     [rsp+rax*8], rbx
4831cb            xor     rbx, rcx
490fafdd          imul    rbx, r13
4c01e3            add     rbx, r12
4983ec01          sub     r12, 1
75dc              jnz     again
4881c400100000    add     rsp, 4096
""",
}
# Double precision: multiply, divide, add, square root.
FLOATS = {
    "aarch64": """
2f00e400    movi  d0, #0
1e6b1002    fmov  d2, #0.375
1e6c1003    fmov  d3, #0.5
            again:
9e620281    scvtf d1, x20
1e620824    fmul  d4, d1, d2
1e632825    fadd  d5, d1, d3
1e651884    fdiv  d4, d4, d5
1e642800    fadd  d0, d0, d4
1e61c026    fsqrt d6, d1
1e662800    fadd  d0, d0, d6
f1000694    subs  x20, x20, #1
54ffff01    b.ne  again
9e660013    fmov  x19, d0
""",
    "x86_64": """
660f57c0                xorpd   xmm0, xmm0
48b8000000000000d83f    movabs  rax, 0x3fd8000000000000
66480f6ed0              movq    xmm2, rax
48b8000000000000e03f    movabs  rax, 0x3fe0000000000000
66480f6ed8              movq    xmm3, rax
                        again:
660f57c9                xorpd   xmm1, xmm1
f2490f2acc              cvtsi2sd xmm1, r12
660f28e1                movapd  xmm4, xmm1
f20f59e2                mulsd   xmm4, xmm2
660f28e9                movapd  xmm5, xmm1
f20f58eb                addsd   xmm5, xmm3
f20f5ee5                divsd   xmm4, xmm5
f20f58c4                addsd   xmm0, xmm4
f20f51f1                sqrtsd  xmm6, xmm1
f20f58c6                addsd   xmm0, xmm6
4983ec01                sub     r12, 1
75d1                    jnz     again
66480f7ec3              movq    rbx, xmm0
""",
}
# Four integers at a time.
VECTORS = {
    "aarch64": """
4f000420    movi  v0.4s, #1
529d32b5    mov   w21, #0xe995
72ab7a35    movk  w21, #0x5bd1, lsl #16
9e6702a1    fmov  d1, x21
4e181e81    mov   v1.d[1], x20
4e040ea2    dup   v2.4s, w21
            again:
4ea29c00    mul   v0.4s, v0.4s, v2.4s
4ea18400    add   v0.4s, v0.4s, v1.4s
6f330403    ushr  v3.4s, v0.4s, #13
6e231c00    eor   v0.16b, v0.16b, v3.16b
4ea08421    add   v1.4s, v1.4s, v0.4s
f1000694    subs  x20, x20, #1
54ffff41    b.ne  again
4e083c13    mov   x19, v0.d[0]
4e183c16    mov   x22, v0.d[1]
ca160273    eor   x19, x19, x22
""",
    "x86_64": """
b801000000      mov     eax, 1
660f6ec0        movd    xmm0, eax
660f70c000      pshufd  xmm0, xmm0, 0
41bd95e9d15b    mov     r13d, 0x5bd1e995
66490f6ecd      movq    xmm1, r13
66490f6ed4      movq    xmm2, r12
660f6cca        punpcklqdq xmm1, xmm2
66410f6ed5      movd    xmm2, r13d
660f70d200      pshufd  xmm2, xmm2, 0
                again:
660f3840c2      pmulld  xmm0, xmm2
660ffec1        paddd   xmm0, xmm1
660f6fd8        movdqa  xmm3, xmm0
660f72d30d      psrld   xmm3, 13
660fefc3        pxor    xmm0, xmm3
660ffec8        paddd   xmm1, xmm0
4983ec01        sub     r12, 1
75e0            jnz     again
0f12d8          movhlps xmm3, xmm0
66480f7ec3      movq    rbx, xmm0
66480f7ed8      movq    rax, xmm3
4831c3          xor     rbx, rax
""",
}
# Fibonacci's numbers by calls that call themselves.
CALLS = {
    "aarch64": """
aa1403e0    mov   x0, x20
94000003    bl    fib
aa0003f3    mov   x19, x0
1400000f    b     done
            fib:
f100081f    cmp   x0, #2
54000183    b.lo  small
a9be5bfe    stp   x30, x22, [sp, #-32]!
f9000bf7    str   x23, [sp, #16]
aa0003f6    mov   x22, x0
d10006c0    sub   x0, x22, #1
97fffffa    bl    fib
aa0003f7    mov   x23, x0
d1000ac0    sub   x0, x22, #2
97fffff7    bl    fib
8b170000    add   x0, x0, x23
f9400bf7    ldr   x23, [sp, #16]
a8c25bfe    ldp   x30, x22, [sp], #32
            small:
d65f03c0    ret
            done:
""",
    "x86_64": """
4c89e7        mov     rdi, r12
e805000000    call    fib
4889c3        mov     rbx, rax
eb2b          jmp     done
              fib:
4889f8        mov     rax, rdi
4883ff02      cmp     rdi, 2
7221          jb      small
55            push    rbp
4156          push    r14
4889fd        mov     rbp, rdi
488d7dff      lea     rdi, [rbp-1]
e8e8ffffff    call    fib
4989c6        mov     r14, rax
488d7dfe      lea     rdi, [rbp-2]
e8dcffffff    call    fib
4c01f0        add     rax, r14
415e          pop     r14
5d            pop     rbp
              small:
c3            ret
              done:
""",
}
