"""What the suite `syscall` repeats: one system call, on standard input where it wants a file (/dev/zero)."""

from __future__ import annotations

# Nothing but the call; the result counts them.
GETPPID = {
    "aarch64": """
d14007ff    sub   sp, sp, #4096
d2800013    mov   x19, #0
            again:
d28015a8    mov   x8, #173
d4000001    svc   #0
91000673    add   x19, x19, #1
f1000694    subs  x20, x20, #1
54ffff81    b.ne  again
914007ff    add   sp, sp, #4096
""",
    "x86_64": """
4881ec00100000    sub     rsp, 4096
31db              xor     ebx, ebx
                  again:
b86e000000        mov     eax, 110
0f05              syscall
4883c301          add     rbx, 1
4983ec01          sub     r12, 1
75ef              jnz     again
4881c400100000    add     rsp, 4096
""",
}
# 4096 bytes, which are copied; the result is their sum.
READ = {
    "aarch64": """
d14007ff    sub   sp, sp, #4096
d2800013    mov   x19, #0
            again:
d2800000    mov   x0, #0
910003e1    mov   x1, sp
d2820002    mov   x2, #4096
d28007e8    mov   x8, #63
d4000001    svc   #0
8b000273    add   x19, x19, x0
f1000694    subs  x20, x20, #1
54ffff21    b.ne  again
914007ff    add   sp, sp, #4096
""",
    "x86_64": """
4881ec00100000    sub     rsp, 4096
31db              xor     ebx, ebx
                  again:
31ff              xor     edi, edi
4889e6            mov     rsi, rsp
ba00100000        mov     edx, 4096
b800000000        mov     eax, 0
0f05              syscall
4801c3            add     rbx, rax
4983ec01          sub     r12, 1
75e6              jnz     again
4881c400100000    add     rsp, 4096
""",
}
# A structure that is laid out otherwise on each ISA.
FSTAT = {
    "aarch64": """
d14007ff    sub   sp, sp, #4096
d2800013    mov   x19, #0
            again:
d2800000    mov   x0, #0
910003e1    mov   x1, sp
d2800a08    mov   x8, #80
d4000001    svc   #0
8b000273    add   x19, x19, x0
f1000694    subs  x20, x20, #1
54ffff41    b.ne  again
914007ff    add   sp, sp, #4096
""",
    "x86_64": """
4881ec00100000    sub     rsp, 4096
31db              xor     ebx, ebx
                  again:
31ff              xor     edi, edi
4889e6            mov     rsi, rsp
b805000000        mov     eax, 5
0f05              syscall
4801c3            add     rbx, rax
4983ec01          sub     r12, 1
75eb              jnz     again
4881c400100000    add     rsp, 4096
""",
}
