/*
 * What a PC's interrupt controllers do, asked in 64-bit mode as microvm enters a kernel: at 1 MiB, paging
 * identity, interrupts off.  One case to an image (-DCASE=name); each ends by the debug exit with 1 for right,
 * or a number that says what was wrong.  AP is the second processor's part of a case.
 *
 * Sources: Intel SDM volume 3, chapters 6 and 11; 8259A and 8254 data sheets; 82093AA data sheet.
 */
        .set    IDT, 0x9000
        .set    TRAMPOLINE, 0x8000
        .set    APIC, 0xfee00000
        .set    IO_APIC, 0xfec00000
        .set    DEVICE, 0xd0000000      /* the test's: write 1 asserts the line, 0 releases it */
        .set    CODE, 0x10
        .set    DATA, 0x18
        .set    VIRTIO, 0xfeb00000      /* the first slot: a source of entropy, at input 16 */
        .ifndef ROUNDS
        .set    ROUNDS, 50
        .endif

        .macro  finish code
        movb    $\code, %al
        outb    %al, $0xf4
1:      cli
        hlt
        jmp     1b
        .endm

        .macro  gate vector, handler
        leaq    \handler(%rip), %rax
        movl    $(IDT + 16 * \vector), %edi
        movw    %ax, (%rdi)
        movw    $CODE, 2(%rdi)
        movw    $0x8e00, 4(%rdi)
        shrq    $16, %rax
        movw    %ax, 6(%rdi)
        shrq    $16, %rax
        movl    %eax, 8(%rdi)
        movl    $0, 12(%rdi)
        .endm

        .macro  apic offset, value
        movl    $APIC, %r8d
        movl    $\value, \offset(%r8)
        .endm

        .macro  io_apic register, value
        movl    $IO_APIC, %r8d
        movl    $\register, (%r8)
        movl    $\value, 0x10(%r8)
        .endm

        .macro  port number, value
        movb    $\value, %al
        outb    %al, $\number
        .endm

        /* Sleeps until %ebx is \count: handlers add to it. */
        .macro  wait_for count, sleep=hlt
2:      cli
        cmpl    $\count, %ebx
        jae     3f
        sti
        \sleep
        jmp     2b
3:
        .endm

        /* Lets \turns instructions go by with interrupts on. */
        .macro  spin turns
        sti
        movl    $\turns, %ecx
4:      decl    %ecx
        jnz     4b
        cli
        .endm

        .text
        .code64
        .globl  start
start:
        xorl    %ebx, %ebx
        lidt    idtr(%rip)
        gate    13, protection
        gate    32, pic_tick
        gate    0x40, local_tick
        gate    0x50, level
        gate    0x58, served
        gate    0x60, count_only
        gate    0x70, ping
        gate    0x71, pong
        apic    0xf0, 0x1ff
        port    0x21, 0xff              /* the older controllers are silent */
        port    0xa1, 0xff
        jmp     CASE

        .balign 8
idtr:   .word   16 * 256 - 1
        .quad   IDT

/* ---- cases -------------------------------------------------------------------- */

pit:    /* the 8254's ticks come through the 8259s */
        port    0x20, 0x11
        port    0x21, 32
        port    0x21, 4
        port    0x21, 1
        port    0xa0, 0x11
        port    0xa1, 40
        port    0xa1, 2
        port    0xa1, 1
        port    0xa1, 0xff
        port    0x21, 0xfe
        apic    0x350, 0x700            /* LINT0: the older controllers */
        port    0x43, 0x34              /* channel 0, mode 2 */
        port    0x40, 0xa9              /* 1193: about 1 ms */
        port    0x40, 0x04
        wait_for 5
        port    0x21, 0xff
        spin    1000
        movl    %ebx, %edx
        spin    3000
        cmpl    %edx, %ebx
        je      right
        finish  2

timer:  /* the local APIC's timer, periodic, then stopped */
        apic    0x3e0, 0xb
        apic    0x320, 0x20040
        apic    0x380, 100000
        wait_for 5
        apic    0x380, 0
        spin    1000
        movl    %ebx, %edx
        spin    3000
        cmpl    %edx, %ebx
        je      right
        finish  2

message: /* the test's device sends a message, vector 60h, for each write; each comes once */
        movl    $DEVICE, %r9d
        movl    $1, (%r9)
        wait_for 1
        movl    $1, (%r9)
        wait_for 2
        movl    $1, (%r9)
        wait_for 3
        spin    3000
        cmpl    $3, %ebx
        je      right
        finish  2

lines:  /* a level-triggered line comes again after its end, until it is released; an edge comes once */
        movl    $DEVICE, %r9d
        io_apic 0x2e + 1, 0
        io_apic 0x2e, 0x8050            /* input 15, level */
        movl    $1, (%r9)
        wait_for 3, pause               /* the third one releases it; without HLT: see the test */
        spin    3000
        cmpl    $4, %ebx                /* one more may have been on its way */
        ja      wrong2
        io_apic 0x2e, 0x10000
        xorl    %ebx, %ebx
        io_apic 0x2e, 0x60              /* edge */
        movl    $1, (%r9)
        wait_for 1
        spin    3000
        cmpl    $1, %ebx
        jne     wrong3
        movl    $0, (%r9)
        movl    $1, (%r9)
        wait_for 2
        jmp     right

priority: /* the task priority holds an interrupt back */
        apic    0x80, 0x60
        apic    0x300, 0x40060          /* to itself */
        spin    2000
        testl   %ebx, %ebx
        jnz     wrong2
        apic    0x80, 0x50
        wait_for 1
        jmp     right

cr8:    /* which CR8 is the upper half of */
        apic    0x80, 0x60
        movq    %cr8, %rax
        cmpl    $6, %eax
        jne     wrong3
        incl    %ebx
        movl    $7, %eax
        movq    %rax, %cr8
        movl    $APIC, %r8d
        cmpl    $0x70, 0x80(%r8)
        jne     wrong4
        apic    0x300, 0x40060
        spin    2000
        cmpl    $1, %ebx
        jne     wrong5
        xorl    %eax, %eax
        movq    %rax, %cr8
        wait_for 2
        jmp     right

base:   /* the base register says where it is, and switches it off */
        movl    $0x1b, %ecx
        rdmsr
        cmpl    $0xfee00900, %eax
        jne     wrong2
        movl    $APIC, %r8d
        cmpl    $0x1ff, 0xf0(%r8)
        jne     wrong3
        andl    $~0x800, %eax
        wrmsr
        cmpl    $0x1ff, 0xf0(%r8)
        je      wrong4
        orl     $0x800, %eax
        wrmsr
        cmpl    $0xff, 0xf0(%r8)
        jne     wrong5
        jmp     right

processors: /* the second one is started, then interrupts go to and fro, both asleep in between */
        leaq    trampoline(%rip), %rsi
        movl    $TRAMPOLINE, %edi
        movl    $(trampoline_end - trampoline), %ecx
        rep     movsb
        sgdt    TRAMPOLINE + (gdtr - trampoline)
        movq    %cr3, %rax
        movl    %eax, TRAMPOLINE + (table - trampoline)
        apic    0x310, 0x1000000
        apic    0x300, 0xc500           /* INIT */
        apic    0x300, 0x8500           /* and its end */
        apic    0x300, 0x4608           /* start at 8000h */
        apic    0x300, 0x4608           /* again, as the manual has it: it counts for nothing */
        wait_for ROUNDS
        cmpl    $1, 0x5000
        jne     wrong2
        movl    $APIC, %r8d
        cmpl    $0, 0x20(%r8)
        jne     wrong3
        jmp     right

itself: /* interrupts to itself, one after the other */
        apic    0x310, 0
5:      incl    %r10d
        apic    0x300, 0x40060
6:      sti
        nop
        cli
        cmpl    %r10d, %ebx
        jb      6b
        ja      wrong2
        cmpl    $ROUNDS, %r10d
        jb      5b
        jmp     right

entropy: /* virtio-mmio 1.2: requests one at a time, each told by a level-triggered interrupt */
        movl    $VIRTIO, %r9d
        movl    $0, 0x70(%r9)
        movl    $3, 0x70(%r9)           /* status: ACKNOWLEDGE, DRIVER */
        movl    $1, 0x24(%r9)
        movl    $1, 0x20(%r9)           /* features: VERSION_1 */
        movl    $0, 0x24(%r9)
        movl    $0, 0x20(%r9)
        movl    $11, 0x70(%r9)          /* FEATURES_OK */
        movl    $0, 0x30(%r9)
        movl    $8, 0x38(%r9)           /* queue 0 of 8 */
        movl    $0x20000, 0x80(%r9)
        movl    $0x21000, 0x90(%r9)
        movl    $0x22000, 0xa0(%r9)
        movl    $0, 0x84(%r9)
        movl    $0, 0x94(%r9)
        movl    $0, 0xa4(%r9)
        movl    $1, 0x44(%r9)
        movl    $15, 0x70(%r9)          /* DRIVER_OK */
        io_apic 0x30 + 1, 0
        io_apic 0x30, 0x8058
        movl    $0x23000, 0x20000       /* the descriptor: 64 bytes for the device to write */
        movl    $0, 0x20004
        movl    $64, 0x20008
        movl    $2, 0x2000c
5:      incl    %r10d
        movw    %r10w, 0x21002          /* available again; each entry of the ring is 0 */
        movl    $0, 0x50(%r9)
6:      cli
        cmpw    %r10w, 0x22002
        jne     7f
        cmpl    %r10d, %ebx             /* used, and told */
        jae     8f
7:      sti
        pause                           /* not HLT: see the test of "lines" */
        jmp     6b
8:      cmpl    $ROUNDS, %r10d
        jb      5b
        cmpl    $0, 0x23000
        je      wrong3                  /* it may be so in one run of 2^32 */
        jmp     right

init:   /* INIT brings the first processor back to the reset vector, and from there here again; memory stays */
        cmpl    $0x1a17, 0x5004
        je      right
        movl    $0x1a17, 0x5004
        apic    0x300, 0x8c500          /* to all */
        spin    100000
        finish  2

second:
        movl    $DATA, %eax
        movl    %eax, %ds
        movl    %eax, %ss
        movl    $0x7000, %esp
        lidt    idtr(%rip)
        apic    0xf0, 0x1ff
        incl    0x5000
        movl    $APIC, %r8d
        cmpl    $0x1000000, 0x20(%r8)
        jne     wrong4
        apic    0x310, 0
        apic    0x300, 0x4070
5:      sti
        hlt
        jmp     5b

/* ---- handlers ------------------------------------------------------------------- */

pic_tick:
        incl    %ebx
        movb    $0x20, %al
        outb    %al, $0x20
        iretq

local_tick:
count_only:
        incl    %ebx
        apic    0xb0, 0
        iretq

level:
        incl    %ebx
        cmpl    $3, %ebx
        jb      6f
        movl    $0, (%r9)
6:      apic    0xb0, 0
        iretq

served:
        incl    %ebx
        movl    0x60(%r9), %eax
        movl    %eax, 0x64(%r9)
        apic    0xb0, 0
        iretq

ping:   /* the first processor's: answers */
        incl    %ebx
        apic    0xb0, 0
        apic    0x310, 0x1000000
        apic    0x300, 0x4071
        iretq

pong:   /* the second one's */
        apic    0xb0, 0
        apic    0x310, 0
        apic    0x300, 0x4070
        iretq

protection:
        finish  13

right:  finish  1
wrong2: finish  2
wrong3: finish  3
wrong4: finish  4
wrong5: finish  5

/* ---- where the second processor starts ---------------------------------------------- */

        .code16
trampoline:
        cli
        lgdtl   %cs:(gdtr - trampoline)
        movl    %cs:(table - trampoline), %eax
        movl    %eax, %cr3
        movl    $0x620, %eax
        movl    %eax, %cr4
        movl    $0xc0000080, %ecx
        rdmsr
        orl     $0x100, %eax
        wrmsr
        movl    $0x80000033, %eax
        movl    %eax, %cr0
        ljmpl   $CODE, $second
        .balign 8
gdtr:   .quad   0, 0
table:  .long   0
trampoline_end:
