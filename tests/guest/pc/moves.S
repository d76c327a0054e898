# A guest that checks itself while it is moved between accelerators: in user mode it computes with integers, SSE2,
# x87 (and AVX, with -DAVX; AVX2 and FMA, with -DAVX2) in all registers and compares what comes out with what is at REFERENCE; the 8254, the
# local APIC's timer and a wire that its handler lowers interrupt it.  With -DHOST the same computation as a Linux program, which writes its outcome.
#
# At 4000h from the start: RESULTS; 5000h: REFERENCE; 6000h: COUNTS (in the order of tests/emu/test_switch.py).

#ifndef STEPS
#define STEPS 3000
#endif
#define SIZE 0x440
#define CODE64 0x08
#define USER_DATA 0x1b
#define USER_CODE 0x23
#define TSS 0x28
#define TABLES 0x300000
#define IDT 0x308000
#define STACK 0x310000
#define USER_STACK 0x320000
#define APIC 0xfee00000
#define IO_APIC 0xfec00000
#define WIRE 0xd0000000

        .text
        .globl start
#ifdef HOST
start:  call    compute
        mov     $1, %eax
        mov     $1, %edi
        lea     results(%rip), %rsi
        mov     $SIZE, %edx
        syscall
        mov     $60, %eax
        xor     %edi, %edi
        syscall
#else
start:  cli
        mov     $STACK, %esp
        # paging: 2 MiB pages, identity, the first and the fourth GiB, for user mode too
        mov     $TABLES, %edi
        mov     $0x4000 / 8, %ecx
        xor     %eax, %eax
        rep stosq
        movq    $TABLES + 0x1007, TABLES
        movq    $TABLES + 0x2007, TABLES + 0x1000
        movq    $TABLES + 0x3007, TABLES + 0x1018
        mov     $0x87, %eax
        mov     $TABLES + 0x2000, %edi
        mov     $512, %ecx
1:      mov     %rax, (%rdi)
        add     $0x200000, %rax
        add     $8, %rdi
        dec     %ecx
        jnz     1b
        mov     $0xc0000097, %eax
        mov     $512, %ecx
1:      mov     %rax, (%rdi)
        add     $0x200000, %rax
        add     $8, %rdi
        dec     %ecx
        jnz     1b
        mov     $TABLES, %eax
        mov     %rax, %cr3
        # descriptors
        lgdt    gdtr
        pushq   $CODE64
        pushq   $1f
        lretq
1:      xor     %eax, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        movq    $STACK, task + 4
        mov     $TSS, %eax
        ltr     %ax
        mov     $IDT, %edi
        mov     $faults, %esi
        xor     %ecx, %ecx
1:      call    gate
        add     $16, %esi
        inc     %ecx
        cmp     $32, %ecx
        jne     1b
        mov     $IDT + 16 * 0x20, %edi
        mov     $on_pit, %esi
        call    gate
        mov     $IDT + 16 * 0x30, %edi
        mov     $on_apic, %esi
        call    gate
        mov     $IDT + 16 * 0x40, %edi
        mov     $on_wire, %esi
        call    gate
        mov     $IDT + 16 * 0xff, %edi
        mov     $on_spurious, %esi
        call    gate
        lidt    idtr
#ifdef AVX
        mov     %cr4, %rax
        or      $0x40600, %eax
        mov     %rax, %cr4
        xor     %ecx, %ecx
        xor     %edx, %edx
        mov     $7, %eax
        xsetbv
#endif
        # the 8259s: vectors from 20h, the timer alone
        .macro  put value, port
        mov     $\value, %al
        out     %al, $\port
        .endm
        put     0x11, 0x20
        put     0x20, 0x21
        put     0x04, 0x21
        put     0x01, 0x21
        put     0x11, 0xa0
        put     0x28, 0xa1
        put     0x02, 0xa1
        put     0x01, 0xa1
        put     0xfe, 0x21
        put     0xff, 0xa1
        # the local APIC: on, INTR through LINT0, a periodic timer
        mov     $APIC, %ebx
        movl    $0x1ff, 0xf0(%rbx)
        movl    $0x700, 0x350(%rbx)
        movl    $0xb, 0x3e0(%rbx)
        movl    $0x20030, 0x320(%rbx)
        movl    $APIC_PERIOD, 0x380(%rbx)
        # the I/O APIC: input 11, by level
        mov     $IO_APIC, %ebx
        movl    $0x10 + 2 * 11 + 1, (%rbx)
        movl    $0, 0x10(%rbx)
        movl    $0x10 + 2 * 11, (%rbx)
        movl    $0x8040, 0x10(%rbx)
        # the 8254: counter 0, mode 2
        put     0x34, 0x43
        put     (PIT_PERIOD & 0xff), 0x40
        put     (PIT_PERIOD >> 8), 0x40
        pushq   $USER_DATA
        pushq   $USER_STACK
        pushq   $0x202
        pushq   $USER_CODE
        pushq   $user
        iretq

        # the gate at %rdi leads to %rsi
gate:   mov     %si, (%rdi)
        movw    $CODE64, 2(%rdi)
        movw    $0x8e00, 4(%rdi)
        mov     %esi, %eax
        shr     $16, %eax
        mov     %ax, 6(%rdi)
        movq    $0, 8(%rdi)
        add     $16, %edi
        ret

        .macro  count what
        push    %rax
        push    %rcx
        push    %rdx
        incq    counts + 8 * \what
        rdtsc
        shl     $32, %rdx
        or      %rdx, %rax
        cmp     counts + 8 * 4, %rax
        jae     1f
        incq    counts + 8 * 3
1:      mov     %rax, counts + 8 * 4
        .endm
        .macro  back
        pop     %rdx
        pop     %rcx
        pop     %rax
        iretq
        .endm

on_pit: count   1
        mov     $0x20, %al
        out     %al, $0x20
        back
on_apic:
        count   2
        mov     $APIC, %ecx
        movl    $0, 0xb0(%rcx)
        back
on_wire:
        count   9
        mov     $WIRE, %ecx
        movl    $0, (%rcx)
        mov     $APIC, %ecx
        movl    $0, 0xb0(%rcx)
        back
on_spurious:
        iretq

        .balign 16
faults: .rept   32
        .balign 16
        push    %rax
        call    fault
        .endr
fault:  pop     %rax
        sub     $faults, %eax
        shr     $4, %eax
        mov     %rax, counts + 8 * 6
        movq    $1, counts + 8 * 5
        mov     8(%rsp), %rax
        mov     %rax, counts + 8 * 7
        mov     16(%rsp), %rax
        mov     %rax, counts + 8 * 8
        cli
1:      hlt
        jmp     1b

        # user mode
user:   call    compute
        lea     results(%rip), %rsi
        lea     reference(%rip), %rdi
        mov     $SIZE / 8, %ecx
        cld
        repe cmpsq
        jne     wrong
        incq    counts
        jmp     user
wrong:  mov     %rsi, counts + 8 * 7
        incq    counts + 8 * 5
1:      jmp     1b

        .balign 8
gdt:    .quad   0
        .quad   0x00af9b000000ffff
        .quad   0x00cf93000000ffff
        .quad   0x00cff3000000ffff
        .quad   0x00affb000000ffff
        .quad   0x0000890000000067 + ((task_at & 0xffffff) << 16)
        .quad   0
gdtr:   .word   . - gdt - 1
        .quad   gdt
idtr:   .word   0xfff
        .quad   IDT
        .set    task_at, 0x100000 + 0x7000
#endif

compute:
        mov     $0x0123456789abcdef, %rax
        mov     $0xfedcba9876543210, %rbx
        mov     $0x0f1e2d3c4b5a6978, %rdx
        mov     $0x13579bdf02468ace, %rsi
        mov     $0x2222222211111111, %rdi
        mov     $0x5a5a5a5aa5a5a5a5, %rbp
        mov     $3, %r8d
        mov     $5, %r9d
        mov     $7, %r10d
        mov     $11, %r11d
        mov     $13, %r12d
        mov     $17, %r13d
        mov     $19, %r14d
        mov     $23, %r15d
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        movups  numbers + 16 * \n(%rip), %xmm\n
        .endr
        movl    $0x3f80, first(%rip)    # rounds down
        ldmxcsr first(%rip)
        fninit
        movw    $0x0b7f, first(%rip)    # rounds up, 64 bits
        fldcw   first(%rip)
        fldpi
        fld1
        fldl2e
        fldln2
        fldlg2
        fldl2t
        fldl    numbers(%rip)
        fldl    numbers + 8(%rip)
#ifdef AVX
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        vbroadcastf128 numbers + 16 * \n(%rip), %ymm\n
        .endr
#endif
        mov     $STEPS, %ecx
1:      imul    %rbx, %rax
        add     %r13, %rax
        rol     $7, %rbx
        xor     %rax, %rdx
        adc     %rdx, %rsi
        sbb     %rsi, %rdi
        bswap   %rbp
        lea     (%r8, %r9, 4), %r8
        xor     %r10, %r9
        add     %r11, %r10
        ror     $3, %r11
        imul    $0x10dcd, %r12, %r12
        inc     %r12
        not     %r13
        add     %r12, %r13
        xadd    %r14, %r15
        push    %rax
        push    %rdx
        mov     %rsi, %rax
        xor     %edx, %edx
        mov     %r13, %rsi
        or      $1, %rsi
        div     %rsi
        mov     %rdx, %rsi
        add     %rax, %rbp
        pop     %rdx
        pop     %rax
        # each vector: a quarter of it, and the next
        .irp    n, 0,1,2,3,4,5
        mulpd   quarter(%rip), %xmm\n
        .endr
        addpd   half(%rip), %xmm2
        addpd   %xmm1, %xmm0
        subpd   %xmm2, %xmm1
        addpd   %xmm3, %xmm2
        divpd   %xmm13, %xmm3
        sqrtpd  %xmm12, %xmm4
        addpd   %xmm0, %xmm12
        mulpd   %xmm12, %xmm12
        sqrtpd  %xmm12, %xmm12
        paddq   %xmm7, %xmm6
        pxor    %xmm6, %xmm7
        pmuludq %xmm6, %xmm8
        pshufd  $0x1b, %xmm8, %xmm8
        paddd   %xmm8, %xmm9
        psubw   %xmm9, %xmm10
        punpcklqdq %xmm10, %xmm11
        psrlq   $3, %xmm14
        por     %xmm11, %xmm14
        cvtsi2sd %r12d, %xmm15
        addsd   %xmm15, %xmm5
        # and the x87's, its stack going round
        fmuls   quarter + 16(%rip)
        fadd    %st(3), %st
        fxch    %st(1)
        fmuls   quarter + 16(%rip)
        fsub    %st(2), %st
        fabs
        fsqrt
        fincstp
        fincstp
        fincstp
#ifdef AVX
        vaddpd  %ymm2, %ymm13, %ymm1
        vmulpd  half(%rip), %ymm1, %ymm1
        vperm2f128 $1, %ymm1, %ymm1, %ymm2
        vxorpd  %ymm3, %ymm6, %ymm9
        vsubpd  %ymm1, %ymm2, %ymm10
        vsqrtpd %ymm13, %ymm11
#endif
#ifdef AVX2
        vpaddq  %ymm6, %ymm15, %ymm15
        vpermq  $0x39, %ymm15, %ymm15
        vpshufb %ymm15, %ymm9, %ymm14
        vfmadd132pd half(%rip), %ymm11, %ymm10
        mulx    %rbx, %r10, %r11
#endif
        dec     %ecx
        jnz     1b
        # what came out
        .irp    r, rax,rbx,rdx,rsi,rdi,rbp,r8,r9,r10,r11,r12,r13,r14,r15
        mov     %\r, results + 8 * at_\r(%rip)
        .endr
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        movups  %xmm\n, results + 0x80 + 16 * \n(%rip)
        .endr
        fnstcw  results + 0x200(%rip)
        fnstsw  %ax
        and     $0x3800, %ax
        mov     %ax, results + 0x202(%rip)
        stmxcsr results + 0x204(%rip)
        andl    $0xffc0, results + 0x204(%rip)
        .irp    n, 0,1,2,3,4,5,6,7
        fstpt   results + 0x180 + 16 * \n(%rip)
        .endr
#ifdef AVX
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        vmovups %ymm\n, results + 0x240 + 32 * \n(%rip)
        .endr
        vzeroupper
#endif
        ret

        .set    at_rax, 0
        .set    at_rbx, 1
        .set    at_rdx, 2
        .set    at_rsi, 3
        .set    at_rdi, 4
        .set    at_rbp, 5
        .set    at_r8, 6
        .set    at_r9, 7
        .set    at_r10, 8
        .set    at_r11, 9
        .set    at_r12, 10
        .set    at_r13, 11
        .set    at_r14, 12
        .set    at_r15, 13

        .balign 32
half:   .double 0.5, 0.5, 0.5, 0.5
quarter:
        .double 0.25, 0.25
        .float  0.25, 0, 0, 0
numbers:
        .double 1.1, 2.7, 0.3, 1.9, 5.5, 0.7, 3.3, 1.7, 9.1, 4.2, 6.3, 0.9
        .quad   0x0123456789abcdef, 0x1032547698badcfe, 0x2143658709badcef, 0x3254769810cbaedf
        .quad   0x4365870921dcbfe0, 0x5476981032edc0f1, 0x6587092143fed102, 0x769810325410e213
        .quad   0x8709214365210324, 0x9810325476321435, 0xa921436587432546, 0xba32547698543657
        .double 2.5, 3.5, 1.25, 1.75
        .quad   0x0910325476981032, 0x1021436587092143
        .double 0.1, 0.2

#ifdef HOST
        .data
#else
        .org    0x4000
#endif
results:
        .space  0x1000
reference:
        .space  0x1000
counts: .space  0x800
first:  .space  0x800
task:   .space  0x1000
