"""Bare-metal guests of a few instructions, by ISA: the words, and the assembly beside them.

x86-64 in bytes, the others in 32-bit words.  They start at bare.CODE with no stack and no registers set; the
device is at 0x10000000, results go 0x8000 behind the code, and the end is a wait for an interrupt.
"""

# Stores of every width to the device at 0, 0x10, 0x20 and (64-bit) 0x30, then halts.
STORES = {
    "x86_64": """
        bb 00 00 00 10                 ; mov ebx,0x10000000
        b0 11                          ; mov al,0x11
        88 03                          ; mov BYTE PTR [rbx],al
        66 b8 22 22                    ; mov ax,0x2222
        66 89 43 10                    ; mov WORD PTR [rbx+0x10],ax
        b8 33 33 33 33                 ; mov eax,0x33333333
        89 43 20                       ; mov DWORD PTR [rbx+0x20],eax
        48 b8 55 55 55 55 44 44 44 44  ; movabs rax,0x4444444455555555
        48 89 43 30                    ; mov QWORD PTR [rbx+0x30],rax
        f4                             ; hlt
    """,
    "aarch64": """
        d2a20001  ; mov x1, #0x10000000
        52800220  ; mov w0, #0x11
        39000020  ; strb w0, [x1]
        52844440  ; mov w0, #0x2222
        79002020  ; strh w0, [x1, #16]
        180000a0  ; ldr w0, 28
        b9002020  ; str w0, [x1, #32]
        58000080  ; ldr x0, 2c
        f9001820  ; str x0, [x1, #48]
        d503207f  ; wfi
        33333333  ; .word 0x33333333
        55555555  ; .word 0x55555555
        44444444  ; .word 0x44444444
    """,
    "arm": """
        e3a01201  ; mov r1, #268435456
        e3a00011  ; mov r0, #17
        e5c10000  ; strb r0, [r1]
        e3020222  ; movw r0, #8738
        e1c101b0  ; strh r0, [r1, #16]
        e3030333  ; movw r0, #13107
        e3430333  ; movt r0, #13107
        e5810020  ; str r0, [r1, #32]
        e320f003  ; wfi
    """,
    "riscv64": """
        100005b7  ; lui a1,0x10000
        01100513  ; addi a0,zero,17
        00a58023  ; sb a0,0(a1)
        00002537  ; lui a0,0x2
        22250513  ; addi a0,a0,546
        00a59823  ; sh a0,16(a1)
        33333537  ; lui a0,0x33333
        33350513  ; addi a0,a0,819
        02a5a023  ; sw a0,32(a1)
        00000517  ; auipc a0,0x0
        01053503  ; ld a0,16(a0)
        02a5b823  ; sd a0,48(a1)
        10500073  ; wfi
        55555555  ; .word 0x55555555
        44444444  ; .word 0x44444444
    """,
}

# Loads of every width from the device at 0, 0x10, 0x20, 0x30; the results, extended by zeros.
LOADS = {
    "x86_64": """
        bb 00 00 00 10  ; mov ebx,0x10000000
        bf 00 80 10 00  ; mov edi,0x108000
        0f b6 03        ; movzx eax,BYTE PTR [rbx]
        48 89 07        ; mov QWORD PTR [rdi],rax
        0f b7 43 10     ; movzx eax,WORD PTR [rbx+0x10]
        48 89 47 08     ; mov QWORD PTR [rdi+0x8],rax
        8b 43 20        ; mov eax,DWORD PTR [rbx+0x20]
        48 89 47 10     ; mov QWORD PTR [rdi+0x10],rax
        48 8b 43 30     ; mov rax,QWORD PTR [rbx+0x30]
        48 89 47 18     ; mov QWORD PTR [rdi+0x18],rax
        f4              ; hlt
    """,
    "aarch64": """
        d2a20001  ; mov x1, #0x10000000
        1003ffe2  ; adr x2, 8000
        39400020  ; ldrb w0, [x1]
        f9000040  ; str x0, [x2]
        79402020  ; ldrh w0, [x1, #16]
        f9000440  ; str x0, [x2, #8]
        b9402020  ; ldr w0, [x1, #32]
        f9000840  ; str x0, [x2, #16]
        f9401820  ; ldr x0, [x1, #48]
        f9000c40  ; str x0, [x2, #24]
        d503207f  ; wfi
    """,
    "arm": """
        e3a01201  ; mov r1, #268435456
        e3082000  ; movw r2, #32768
        e3482000  ; movt r2, #32768
        e3a03000  ; mov r3, #0
        e5d10000  ; ldrb r0, [r1]
        e5820000  ; str r0, [r2]
        e5823004  ; str r3, [r2, #4]
        e1d101b0  ; ldrh r0, [r1, #16]
        e5820008  ; str r0, [r2, #8]
        e582300c  ; str r3, [r2, #12]
        e5910020  ; ldr r0, [r1, #32]
        e5820010  ; str r0, [r2, #16]
        e5823014  ; str r3, [r2, #20]
        e320f003  ; wfi
    """,
    "riscv64": """
        100005b7  ; lui a1,0x10000
        00008617  ; auipc a2,0x8
        ffc60613  ; addi a2,a2,-4
        0005c503  ; lbu a0,0(a1)
        00a63023  ; sd a0,0(a2)
        0105d503  ; lhu a0,16(a1)
        00a63423  ; sd a0,8(a2)
        0205e503  ; lwu a0,32(a1)
        00a63823  ; sd a0,16(a2)
        0305b503  ; ld a0,48(a1)
        00a63c23  ; sd a0,24(a2)
        10500073  ; wfi
    """,
}

# Adds one to the device's word at 0, a hundred times.
COUNT = {
    "x86_64": """
        bb 00 00 00 10  ; mov ebx,0x10000000
        b9 64 00 00 00  ; mov ecx,0x64
        8b 03           ; mov eax,DWORD PTR [rbx]
        ff c0           ; inc eax
        89 03           ; mov DWORD PTR [rbx],eax
        ff c9           ; dec ecx
        75 f6           ; jne a
        f4              ; hlt
    """,
    "aarch64": """
        d2a20001  ; mov x1, #0x10000000
        52800c82  ; mov w2, #0x64
        b9400020  ; ldr w0, [x1]
        11000400  ; add w0, w0, #0x1
        b9000020  ; str w0, [x1]
        71000442  ; subs w2, w2, #0x1
        54ffff81  ; b.ne 8
        d503207f  ; wfi
    """,
    "arm": """
        e3a01201  ; mov r1, #268435456
        e3a02064  ; mov r2, #100
        e5910000  ; ldr r0, [r1]
        e2800001  ; add r0, r0, #1
        e5810000  ; str r0, [r1]
        e2522001  ; subs r2, r2, #1
        1afffffa  ; bne 8
        e320f003  ; wfi
    """,
    "riscv64": """
        100005b7  ; lui a1,0x10000
        06400613  ; addi a2,zero,100
        0005a503  ; lw a0,0(a1)
        00150513  ; addi a0,a0,1
        00a5a023  ; sw a0,0(a1)
        fff60613  ; addi a2,a2,-1
        fe0618e3  ; bne a2,zero,8
        10500073  ; wfi
    """,
}

# Reads the device's word at 0, writes it plus one at 4, halts.
COPY = {
    "x86_64": """
        bb 00 00 00 10  ; mov ebx,0x10000000
        8b 03           ; mov eax,DWORD PTR [rbx]
        ff c0           ; inc eax
        89 43 04        ; mov DWORD PTR [rbx+0x4],eax
        f4              ; hlt
    """,
    "aarch64": """
        d2a20001  ; mov x1, #0x10000000
        b9400020  ; ldr w0, [x1]
        11000400  ; add w0, w0, #0x1
        b9000420  ; str w0, [x1, #4]
        d503207f  ; wfi
    """,
    "arm": """
        e3a01201  ; mov r1, #268435456
        e5910000  ; ldr r0, [r1]
        e2800001  ; add r0, r0, #1
        e5810004  ; str r0, [r1, #4]
        e320f003  ; wfi
    """,
    "riscv64": """
        100005b7  ; lui a1,0x10000
        0005a503  ; lw a0,0(a1)
        00150513  ; addi a0,a0,1
        00a5a223  ; sw a0,4(a1)
        10500073  ; wfi
    """,
}

# Writes 1 to the device at 0, then runs for ever.
SPIN = {
    "x86_64": """
        bb 00 00 00 10     ; mov ebx,0x10000000
        c7 03 01 00 00 00  ; mov DWORD PTR [rbx],0x1
        eb fe              ; jmp b
    """,
    "aarch64": """
        d2a20001  ; mov x1, #0x10000000
        52800020  ; mov w0, #0x1
        b9000020  ; str w0, [x1]
        14000000  ; b c
    """,
    "arm": """
        e3a01201  ; mov r1, #268435456
        e3a00001  ; mov r0, #1
        e5810000  ; str r0, [r1]
        eafffffe  ; b c
    """,
    "riscv64": """
        100005b7  ; lui a1,0x10000
        00100513  ; addi a0,zero,1
        00a5a023  ; sw a0,0(a1)
        0000006f  ; jal zero,c
    """,
}

# Waits for an interrupt at once.
HALT = {
    "x86_64": """
        f4  ; hlt
    """,
    "aarch64": """
        d503207f  ; wfi
    """,
    "arm": """
        e320f003  ; wfi
    """,
    "riscv64": """
        10500073  ; wfi
    """,
}

# Reads the device's word at 0 until it is not 1, tells what it was at RAM+0x8000.
POLL = {
    "x86_64": """
        bb 00 00 00 10  ; mov ebx,0x10000000
        bf 00 80 10 00  ; mov edi,0x108000
        8b 03           ; mov eax,DWORD PTR [rbx]
        83 f8 01        ; cmp eax,0x1
        74 f9           ; je a
        89 07           ; mov DWORD PTR [rdi],eax
        f4              ; hlt
    """,
    "aarch64": """
        d2a20001  ; mov x1, #0x10000000
        1003ffe2  ; adr x2, 8000
        b9400020  ; ldr w0, [x1]
        7100041f  ; cmp w0, #0x1
        54ffffc0  ; b.eq 8
        b9000040  ; str w0, [x2]
        d503207f  ; wfi
    """,
    "arm": """
        e3a01201  ; mov r1, #268435456
        e3082000  ; movw r2, #32768
        e3482000  ; movt r2, #32768
        e5910000  ; ldr r0, [r1]
        e3500001  ; cmp r0, #1
        0afffffc  ; beq c
        e5820000  ; str r0, [r2]
        e320f003  ; wfi
    """,
    "riscv64": """
        100005b7  ; lui a1,0x10000
        00008617  ; auipc a2,0x8
        ffc60613  ; addi a2,a2,-4
        00100693  ; addi a3,zero,1
        0005a503  ; lw a0,0(a1)
        fed50ee3  ; beq a0,a3,10
        00a62023  ; sw a0,0(a2)
        10500073  ; wfi
    """,
}

# Reads 0x20000000, asks the device (word at 0) to move what is there, reads 0x21000000; both to RAM+0x8000.
FOLLOW = {
    "x86_64": """
        bb 00 00 00 10  ; mov ebx,0x10000000
        bf 00 80 10 00  ; mov edi,0x108000
        be 00 00 00 20  ; mov esi,0x20000000
        8b 06           ; mov eax,DWORD PTR [rsi]
        89 07           ; mov DWORD PTR [rdi],eax
        89 03           ; mov DWORD PTR [rbx],eax
        be 00 00 00 21  ; mov esi,0x21000000
        8b 06           ; mov eax,DWORD PTR [rsi]
        89 47 04        ; mov DWORD PTR [rdi+0x4],eax
        ff c0           ; inc eax
        89 46 04        ; mov DWORD PTR [rsi+0x4],eax
        f4              ; hlt
    """,
    "aarch64": """
        d2a20001  ; mov x1, #0x10000000
        1003ffe2  ; adr x2, 8000
        d2a40003  ; mov x3, #0x20000000
        b9400060  ; ldr w0, [x3]
        b9000040  ; str w0, [x2]
        b9000020  ; str w0, [x1]
        d2a42003  ; mov x3, #0x21000000
        b9400060  ; ldr w0, [x3]
        b9000440  ; str w0, [x2, #4]
        11000400  ; add w0, w0, #0x1
        b9000460  ; str w0, [x3, #4]
        d503207f  ; wfi
    """,
    "arm": """
        e3a01201  ; mov r1, #268435456
        e3082000  ; movw r2, #32768
        e3482000  ; movt r2, #32768
        e3a03202  ; mov r3, #536870912
        e5930000  ; ldr r0, [r3]
        e5820000  ; str r0, [r2]
        e5810000  ; str r0, [r1]
        e3a03421  ; mov r3, #553648128
        e5930000  ; ldr r0, [r3]
        e5820004  ; str r0, [r2, #4]
        e2800001  ; add r0, r0, #1
        e5830004  ; str r0, [r3, #4]
        e320f003  ; wfi
    """,
    "riscv64": """
        100005b7  ; lui a1,0x10000
        00008617  ; auipc a2,0x8
        ffc60613  ; addi a2,a2,-4
        200006b7  ; lui a3,0x20000
        0006a503  ; lw a0,0(a3)
        00a62023  ; sw a0,0(a2)
        00a5a023  ; sw a0,0(a1)
        210006b7  ; lui a3,0x21000
        0006a503  ; lw a0,0(a3)
        00a62223  ; sw a0,4(a2)
        00150513  ; addi a0,a0,1
        00a6a223  ; sw a0,4(a3)
        10500073  ; wfi
    """,
}

# Writes 0x5a to the byte at 0x20000000 (a ROM), reads it back, tells it at RAM+0x8000.
OVERWRITE = {
    "x86_64": """
        be 00 00 00 20  ; mov esi,0x20000000
        bf 00 80 10 00  ; mov edi,0x108000
        b0 5a           ; mov al,0x5a
        88 06           ; mov BYTE PTR [rsi],al
        0f b6 06        ; movzx eax,BYTE PTR [rsi]
        89 07           ; mov DWORD PTR [rdi],eax
        f4              ; hlt
    """,
    "aarch64": """
        d2a40001  ; mov x1, #0x20000000
        1003ffe2  ; adr x2, 8000
        52800b40  ; mov w0, #0x5a
        39000020  ; strb w0, [x1]
        39400020  ; ldrb w0, [x1]
        b9000040  ; str w0, [x2]
        d503207f  ; wfi
    """,
    "arm": """
        e3a01202  ; mov r1, #536870912
        e3082000  ; movw r2, #32768
        e3482000  ; movt r2, #32768
        e3a0005a  ; mov r0, #90
        e5c10000  ; strb r0, [r1]
        e5d10000  ; ldrb r0, [r1]
        e5820000  ; str r0, [r2]
        e320f003  ; wfi
    """,
    "riscv64": """
        200005b7  ; lui a1,0x20000
        00008617  ; auipc a2,0x8
        ffc60613  ; addi a2,a2,-4
        05a00513  ; addi a0,zero,90
        00a58023  ; sb a0,0(a1)
        0005c503  ; lbu a0,0(a1)
        00a62023  ; sw a0,0(a2)
        10500073  ; wfi
    """,
}

# Reads 8 bytes (arm: 4) two below the end of the device's first page, where another begins; to RAM+0x8000.
CROSS = {
    "x86_64": """
        bb fe 0f 00 10  ; mov ebx,0x10000ffe
        bf 00 80 10 00  ; mov edi,0x108000
        48 8b 03        ; mov rax,QWORD PTR [rbx]
        48 89 07        ; mov QWORD PTR [rdi],rax
        f4              ; hlt
    """,
}

# Adds 1 to 100000 into the accumulator, telling RAM+0x8000 the sum; no device.
SUM = {
    "x86_64": """
        bf 00 80 10 00  ; mov edi,0x108000
        31 c0           ; xor eax,eax
        b9 a0 86 01 00  ; mov ecx,0x186a0
        48 01 c8        ; add rax,rcx
        ff c9           ; dec ecx
        75 f9           ; jne c
        48 89 07        ; mov QWORD PTR [rdi],rax
        f4              ; hlt
    """,
    "aarch64": """
        10040002  ; adr x2, 8000
        d2800000  ; mov x0, #0x0
        180000c1  ; ldr w1, 20
        8b010000  ; add x0, x0, x1
        f1000421  ; subs x1, x1, #0x1
        54ffffc1  ; b.ne c
        f9000040  ; str x0, [x2]
        d503207f  ; wfi
        000186a0  ; .word 0x000186a0
    """,
    "arm": """
        e3082000  ; movw r2, #32768
        e3482000  ; movt r2, #32768
        e3a00000  ; mov r0, #0
        e30816a0  ; movw r1, #34464
        e3401001  ; movt r1, #1
        e0800001  ; add r0, r0, r1
        e2511001  ; subs r1, r1, #1
        1afffffc  ; bne 14
        e5820000  ; str r0, [r2]
        e320f003  ; wfi
    """,
    "riscv64": """
        00008617  ; auipc a2,0x8
        00000513  ; addi a0,zero,0
        000185b7  ; lui a1,0x18
        6a058593  ; addi a1,a1,1696
        00b50533  ; add a0,a0,a1
        fff58593  ; addi a1,a1,-1
        fe059ce3  ; bne a1,zero,10
        00a63023  ; sd a0,0(a2)
        10500073  ; wfi
    """,
}

# An exception with an interrupt table of no entries.
TRIPLE_FAULT = {
    "x86_64": """
        48 83 ec 10                 ; sub rsp,0x10
        48 c7 04 24 00 00 00 00     ; mov QWORD PTR [rsp],0x0
        48 c7 44 24 08 00 00 00 00  ; mov QWORD PTR [rsp+0x8],0x0
        0f 01 1c 24                 ; lidt [rsp]
        0f 0b                       ; ud2
    """,
}

# Writes of three widths to port 0x500, reads of three widths from 0x510 to RAM+0x8000, strings both ways.
PORTS = {
    "x86_64": """
        bf 00 80 10 00  ; mov edi,0x108000
        66 ba 00 05     ; mov dx,0x500
        b0 11           ; mov al,0x11
        ee              ; out dx,al
        66 b8 22 22     ; mov ax,0x2222
        66 ef           ; out dx,ax
        b8 33 33 33 33  ; mov eax,0x33333333
        ef              ; out dx,eax
        b0 44           ; mov al,0x44
        e6 80           ; out 0x80,al
        66 ba 10 05     ; mov dx,0x510
        31 c0           ; xor eax,eax
        ec              ; in al,dx
        ab              ; stos DWORD PTR es:[rdi],eax
        31 c0           ; xor eax,eax
        66 ed           ; in ax,dx
        ab              ; stos DWORD PTR es:[rdi],eax
        ed              ; in eax,dx
        ab              ; stos DWORD PTR es:[rdi],eax
        b9 03 00 00 00  ; mov ecx,0x3
        f3 6c           ; rep ins BYTE PTR es:[rdi],dx
        be 00 80 10 00  ; mov esi,0x108000
        66 ba 02 05     ; mov dx,0x502
        b9 04 00 00 00  ; mov ecx,0x4
        f3 6e           ; rep outs dx,BYTE PTR ds:[rsi]
        f4              ; hlt
    """,
}

# Opens the CPU to interrupts and waits.  HANDLER is behind it: at 0xa80 (aarch64), 0x118 (arm), 0x1000.
INTERRUPT = {
    "x86_64": """
        0f 01 1c 25 00 20 10 00  ; lidt ds:0x102000
        fb                       ; sti
        f4                       ; hlt
        eb fd                    ; jmp 9
    """,
    "aarch64": """
        10004000  ; adr x0, 800
        d518c000  ; msr vbar_el1, x0
        d50342ff  ; msr daifclr, #0x2
        d503207f  ; wfi
        17ffffff  ; b c
    """,
    "arm": """
        e28f00f8  ; add r0, pc, #248
        ee0c0f10  ; mcr 15, 0, r0, cr12, cr0, {0}
        f1080080  ; cpsie i
        e320f003  ; wfi
        eafffffd  ; b c
    """,
    "riscv64": """
        00001517  ; auipc a0,0x1
        30551073  ; csrrw zero,mtvec,a0
        00001537  ; lui a0,0x1
        80050513  ; addi a0,a0,-2048
        30451073  ; csrrw zero,mie,a0
        30046073  ; csrrsi zero,mstatus,8
        10500073  ; wfi
        ffdff06f  ; jal zero,18
    """,
}

# Writes 0x77 to the device at 0, and waits with interrupts masked.
HANDLER = {
    "x86_64": """
        bb 00 00 00 10     ; mov ebx,0x10000000
        c7 03 77 00 00 00  ; mov DWORD PTR [rbx],0x77
        f4                 ; hlt
        eb fd              ; jmp b
    """,
    "aarch64": """
        d2a20001  ; mov x1, #0x10000000
        52800ee0  ; mov w0, #0x77
        b9000020  ; str w0, [x1]
        d503207f  ; wfi
        17ffffff  ; b c
    """,
    "arm": """
        e3a01201  ; mov r1, #268435456
        e3a00077  ; mov r0, #119
        e5810000  ; str r0, [r1]
        e320f003  ; wfi
        eafffffd  ; b c
    """,
    "riscv64": """
        100005b7  ; lui a1,0x10000
        07700513  ; addi a0,zero,119
        00a5a023  ; sw a0,0(a1)
        10500073  ; wfi
        ffdff06f  ; jal zero,c
    """,
}
